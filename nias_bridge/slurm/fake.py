"""A Slurm in memory, whose jobs move when they are told to: for tests of what stands on Slurm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath

from nias_bridge.domain import JobState, NodeReport, SlurmReport, Usage
from nias_bridge.errors import (
    Rejected,
    SchedulerError,
    SubmissionUnclear,
    TryLater,
    Unreachable,
)

MIB, GIB = 1024**2, 1024**3
PARTITION = "main"

# How a submission can fail: is the job there all the same, and what is raised.
FAILURES: dict[str, tuple[bool, SchedulerError]] = {
    "unclear-but-there": (True, SubmissionUnclear("Socket timed out on send/recv operation")),
    "unclear-and-absent": (False, SubmissionUnclear("Socket timed out on send/recv operation")),
    "reject": (False, Rejected("Invalid partition name specified")),
    "later": (False, TryLater("AssocMaxSubmitJobLimit")),
    "unreachable": (False, Unreachable("Unable to contact slurm controller (connect failure)")),
}


@dataclass
class Job:
    """A job; `known` while slurmctld remembers it."""

    report: SlurmReport
    script: PurePosixPath
    log: PurePosixPath
    known: bool = True


class FakeScheduler:
    """A ports.Scheduler. `jobs` is all it ever accepted and did not lose; `calls` counts."""

    def __init__(
        self, *, nodes: int = 2, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.jobs: list[Job] = []
        self.calls: Counter[str] = Counter()
        self._nodes = tuple(f"slot{number}" for number in range(1, nodes + 1))
        self._clock = clock
        self._last_id = 0
        self._given_again: list[int] = []
        self._failures: list[str] = []
        self._queue_is_away = self._accounting_is_away = False

    # --- the port ---

    def submit(self, script: PurePosixPath, *, name: str, log: PurePosixPath) -> int:
        self.calls["submit"] += 1
        if self._queue_is_away:
            raise Unreachable("Unable to contact slurm controller (connect failure)")
        if not self._failures:
            return self._accept(script, name, log)
        there, error = FAILURES[self._failures.pop(0)]
        if there:
            self._accept(script, name, log)
        raise error

    def queue(self) -> list[SlurmReport]:
        self.calls["queue"] += 1
        if self._queue_is_away:
            raise Unreachable("squeue gave no answer")
        known = [job.report for job in self.jobs if job.known]
        waiting = [report.job_id for report in known if report.state is JobState.PENDING]
        return [
            replace(
                report,
                place=waiting.index(report.job_id) + 1 if report.job_id in waiting else None,
                exit_code=None,
                signal=None,
            )
            for report in known
        ]

    def accounting(
        self, *, since: datetime, job_ids: Sequence[int] = (), names: Sequence[str] = ()
    ) -> list[SlurmReport]:
        self.calls["accounting"] += 1
        if self._accounting_is_away:
            raise Unreachable("sacct gave no answer")
        return [
            job.report
            for job in self.jobs
            if (job.report.job_id in job_ids or job.report.name in names)
            and job.report.submitted_at is not None
            and job.report.submitted_at >= since.replace(microsecond=0)
        ]

    def cancel(self, job_id: int, *, name: str) -> None:
        self.calls["cancel"] += 1
        if self._queue_is_away:
            raise Unreachable("scancel gave no answer")
        for job in self.jobs:
            report = job.report
            if job.known and (report.job_id, report.name) == (job_id, name):
                if not report.state.ended:
                    self.end(job_id, JobState.CANCELLED)
                return

    def estimate(self, script: PurePosixPath) -> datetime | None:
        self.calls["estimate"] += 1
        if self._queue_is_away:
            raise Unreachable("sbatch gave no answer")
        if self._failures:
            _, error = FAILURES[self._failures.pop(0)]
            raise error
        return self._clock()

    def usage(self, job_ids: Sequence[int]) -> dict[int, Usage]:
        self.calls["usage"] += 1
        if self._queue_is_away:
            raise Unreachable("sstat gave no answer")
        return {
            report.job_id: Usage(cpu_time=report.cpu_time, max_rss=report.max_rss)
            for job in self.jobs
            if (report := job.report).job_id in job_ids and report.state is JobState.RUNNING
        }

    def nodes(self) -> list[NodeReport]:
        self.calls["nodes"] += 1
        if self._queue_is_away:
            raise Unreachable("scontrol gave no answer")
        busy = {job.report.nodes for job in self.jobs if job.report.state is JobState.RUNNING}
        return [
            NodeReport(
                name=name,
                state="ALLOCATED" if name in busy else "IDLE",
                cpus=1,
                cpus_used=int(name in busy),
                memory=GIB,
                memory_used=GIB if name in busy else 0,
                partitions=(PARTITION,),
            )
            for name in self._nodes
        ]

    # --- what happens to it ---

    def next_submit(self, failure: str) -> None:
        """The next submission fails in that way: one of FAILURES. Several queue up."""
        if failure not in FAILURES:
            raise ValueError(f"no such failure: {failure}")
        self._failures.append(failure)

    def unreachable(self, *, queue: bool = False, accounting: bool = False) -> None:
        """From now on slurmctld (`queue`) and slurmdbd (`accounting`) are away, or back."""
        self._queue_is_away, self._accounting_is_away = queue, accounting

    def start(self, job_id: int) -> None:
        """A waiting job runs, on the first node."""
        self._change(
            job_id,
            state=JobState.RUNNING,
            nodes=self._nodes[0],
            started_at=self._clock(),
            cpu_time=0.0,
            max_rss=MIB,
        )

    def end(
        self, job_id: int, state: JobState = JobState.COMPLETED, exit_code: int = 0, signal: int = 0
    ) -> None:
        """A job ends, and its record is complete."""
        ended, report = self._clock(), self._job(job_id).report
        elapsed = int((ended - report.started_at).total_seconds()) if report.started_at else 0
        self._change(
            job_id,
            state=state,
            ended_at=ended,
            elapsed=elapsed,
            exit_code=exit_code,
            signal=signal or None,
        )

    def requeue(self, job_id: int) -> None:
        """A job waits again, under its id."""
        report = self._job(job_id).report
        self._change(
            job_id,
            state=JobState.PENDING,
            restarts=report.restarts + 1,
            submitted_at=self._clock(),
            nodes="",
            started_at=None,
            ended_at=None,
            exit_code=None,
            signal=None,
        )

    def forget(self, job_id: int) -> None:
        """slurmctld forgets an ended job (MinJobAge); its record stays."""
        self._job(job_id).known = False

    def give_again(self, job_id: int) -> None:
        """The next job gets this id."""
        self._given_again.append(job_id)

    def lose(self, job_id: int) -> None:
        """slurmctld was killed before it had saved the job: no trace of it, its id is free."""
        self.jobs.remove(self._job(job_id))
        self.give_again(job_id)

    # ---

    def _accept(self, script: PurePosixPath, name: str, log: PurePosixPath) -> int:
        if self._given_again:
            job_id = self._given_again.pop(0)
        else:
            self._last_id += 1
            job_id = self._last_id
        report = SlurmReport(
            job_id=job_id,
            name=name,
            state=JobState.PENDING,
            reason="Priority",
            user="nias",
            workdir=str(script.parent),
            partition=PARTITION,
            # Slurm counts whole seconds.
            submitted_at=self._clock().replace(microsecond=0),
            time_limit=3600,
            cpus=1,
        )
        self.jobs.append(Job(report, script, log))
        return job_id

    def _job(self, job_id: int) -> Job:
        """The latest job of that id."""
        return next(job for job in reversed(self.jobs) if job.report.job_id == job_id)

    def _change(self, job_id: int, **changes: object) -> None:
        job = self._job(job_id)
        job.report = replace(job.report, **changes)  # type: ignore[arg-type]
