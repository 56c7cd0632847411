"""A Slurm in memory, whose jobs move when they are told to: for tests of what stands on Slurm."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from nias_bridge.cluster import NodeReport, PartitionReport
from nias_bridge.domain import JobState, SlurmReport, Usage
from nias_bridge.errors import (
    Rejected,
    SchedulerError,
    SubmissionUnclear,
    TryLater,
    Unreachable,
)

MIB, GIB = 1024**2, 1024**3
PARTITION = "main"
SERVICE = "nias"  # the bridge's own account

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
    arguments: str = ""

    @property
    def command(self) -> str:
        """The script with its arguments, in one line."""
        return f"{self.script} {self.arguments}".rstrip()

    def change(self, **changes: object) -> None:
        """Slurm tells something else of it from now on."""
        self.report = replace(self.report, **changes)  # type: ignore[arg-type]


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

    def submit(
        self, script: PurePosixPath, *, name: str, log: PurePosixPath, user: str | None = None
    ) -> int:
        self.calls["submit"] += 1
        if self._queue_is_away:
            raise Unreachable("Unable to contact slurm controller (connect failure)")
        if not self._failures:
            return self._accept(script, name, log, user or SERVICE)
        there, error = FAILURES[self._failures.pop(0)]
        if there:
            self._accept(script, name, log, user or SERVICE)
        raise error

    def queue(self) -> list[SlurmReport]:
        self.calls["queue"] += 1
        if self._queue_is_away:
            raise Unreachable("squeue gave no answer")
        known = [job.report for job in self.jobs if job.known]
        waiting = [id(report) for report in known if report.state is JobState.PENDING]
        return [
            replace(
                report,
                place=waiting.index(id(report)) + 1 if id(report) in waiting else None,
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

    def cancel(
        self, job_id: int, *, name: str, tasks: Sequence[int] = (), user: str | None = None
    ) -> None:
        self.calls["cancel"] += 1
        if self._queue_is_away:
            raise Unreachable("scancel gave no answer")
        for job in self.jobs:
            report = job.report
            named = (report.job_id, report.name) == (job_id, name)
            mine = named and report.user == (user or SERVICE)
            meant = mine and (not tasks or report.array_tasks[0] in tasks)
            if job.known and meant and not report.state.ended:
                self._end(job, JobState.CANCELLED)

    def commands(self, job_ids: Sequence[int]) -> dict[int, str]:
        self.calls["commands"] += 1
        if self._queue_is_away:
            raise Unreachable("squeue gave no answer")
        return {
            job.report.job_id: job.command
            for job in self.jobs
            if job.known and job.report.job_id in job_ids
        }

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
        running = [job.report for job in self.jobs if job.report.state is JobState.RUNNING]
        return {
            own_id: Usage(cpu_time=report.cpu_time, max_rss=report.max_rss)
            for report in running
            if (own_id := report.task_job_id or report.job_id) in job_ids
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
                gpus=0,
                partitions=(PARTITION,),
            )
            for name in self._nodes
        ]

    def partitions(self) -> list[PartitionReport]:
        self.calls["partitions"] += 1
        if self._queue_is_away:
            raise Unreachable("scontrol gave no answer")
        return [PartitionReport(name=PARTITION, state="UP", default=True)]

    # --- what happens to it ---

    def next_submit(self, failure: str) -> None:
        """The next submission fails in that way: one of FAILURES. Several queue up."""
        if failure not in FAILURES:
            raise ValueError(f"no such failure: {failure}")
        self._failures.append(failure)

    def unreachable(self, *, queue: bool = False, accounting: bool = False) -> None:
        """From now on slurmctld (`queue`) and slurmdbd (`accounting`) are away, or back."""
        self._queue_is_away, self._accounting_is_away = queue, accounting

    def sbatch(
        self,
        script: PurePosixPath,
        arguments: str,
        *,
        user: str,
        workdir: str,
        name: str,
        tasks: Sequence[int] = (),
    ) -> int:
        """Somebody submits a job by hand; of an array these are the tasks."""
        there = len(self.jobs)
        job_id = self._accept(script, name, PurePosixPath("/dev/null"), user)
        template = self.jobs.pop(there)
        del self.jobs[there:]
        for index in tasks or (None,):
            told = {} if index is None else {"array_tasks": (index,), "task_job_id": job_id + index}
            report = replace(template.report, workdir=workdir, **told)  # type: ignore[arg-type]
            self.jobs.append(replace(template, report=report, arguments=arguments))
        return job_id

    def start(self, job_id: int, task: int | None = None) -> None:
        """A waiting job (or this task of an array) runs, on the first node."""
        for job in self._jobs(job_id, task):
            job.change(
                state=JobState.RUNNING,
                nodes=self._nodes[0],
                started_at=self._clock(),
                reason="",
                cpu_time=0.0,
                max_rss=MIB,
            )

    def end(
        self,
        job_id: int,
        state: JobState = JobState.COMPLETED,
        exit_code: int = 0,
        signal: int = 0,
        task: int | None = None,
    ) -> None:
        """A job (or this task of an array) ends, and its record is complete."""
        for job in self._jobs(job_id, task):
            self._end(job, state, exit_code, signal)

    def requeue(self, job_id: int, task: int | None = None) -> None:
        """A job (or this task of an array) waits again, under its id."""
        for job in self._jobs(job_id, task):
            job.change(
                state=JobState.PENDING,
                restarts=job.report.restarts + 1,
                submitted_at=self._clock(),
                nodes="",
                started_at=None,
                ended_at=None,
                exit_code=None,
                signal=None,
            )

    def forget(self, job_id: int) -> None:
        """slurmctld forgets an ended job (MinJobAge); its record stays."""
        for job in self._jobs(job_id):
            job.known = False

    def give_again(self, job_id: int) -> None:
        """The next job gets this id."""
        self._given_again.append(job_id)

    def lose(self, job_id: int) -> None:
        """slurmctld was killed before it had saved the job: no trace of it, its id is free."""
        for job in self._jobs(job_id):
            self.jobs.remove(job)
        self.give_again(job_id)

    # ---

    def _accept(self, script: PurePosixPath, name: str, log: PurePosixPath, user: str) -> int:
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
            user=user,
            workdir=str(script.parent),
            partition=PARTITION,
            # Slurm counts whole seconds.
            submitted_at=self._clock().replace(microsecond=0),
            time_limit=3600,
            cpus=1,
        )
        # One job a task, as Slurm has it once they start; their order is that of an array.
        tasks: list[tuple[int, ...]] = [(index,) for index in range(_array_size(script))] or [()]
        for told in tasks:
            if told:
                self._last_id += 1
            own_id = self._last_id if told else None
            self.jobs.append(
                Job(replace(report, array_tasks=told, task_job_id=own_id), script, log)
            )
        return job_id

    def _jobs(self, job_id: int, task: int | None = None) -> list[Job]:
        """The latest job of that id; of an array all its tasks, or this one."""
        latest = next(job for job in reversed(self.jobs) if job.report.job_id == job_id)
        return [
            job
            for job in self.jobs
            if (job.report.job_id, job.report.name) == (job_id, latest.report.name)
            and task in (None, *job.report.array_tasks)
            and (job is latest or job.report.array_tasks)
        ]

    def _end(self, job: Job, state: JobState, exit_code: int = 0, signal: int = 0) -> None:
        ended, started = self._clock(), job.report.started_at
        job.change(
            state=state,
            ended_at=ended,
            elapsed=int((ended - started).total_seconds()) if started else 0,
            exit_code=exit_code,
            signal=signal or None,
        )


def _array_size(script: PurePosixPath) -> int:
    """How many tasks the script asks for, 0 where it is no array (or not on this machine)."""
    try:
        text = Path(script).read_text(encoding="utf-8")
    except OSError:
        return 0
    asked = re.search(r"^#SBATCH --array=0-(\d+)", text, re.MULTILINE)
    return int(asked[1]) + 1 if asked else 0
