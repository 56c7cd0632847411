"""What one look at Slurm showed of a run, and what a step works with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from nias_bridge.domain import JobState, Run, SlurmReport, Usage
from nias_bridge.ports import Scheduler
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.grants import Doors

# States in which Slurm's accounting may soon tell of another attempt of the same job.
_REQUEUED_FROM = frozenset({JobState.NODE_FAIL, JobState.PREEMPTED, JobState.BOOT_FAIL})


@dataclass(frozen=True)
class Sight:
    """What one look at Slurm showed. None: it did not answer, which says nothing about any job.

    users: by the runs' ids, whose their jobs must be; another's job of the same name is not it.
    """

    queue: tuple[SlurmReport, ...] | None
    accounting: tuple[SlurmReport, ...] | None
    users: Mapping[int, str] = field(default_factory=dict)

    def queued(self, run: Run) -> SlurmReport | None:
        """The run's job in squeue, known by its name: an id alone may be another's."""
        return _latest(self._of(self.queue, run))

    def recorded(self, run: Run) -> SlurmReport | None:
        """The run's job in sacct.

        For some seconds a quick job's record is half there: the end is right, but it is named
        “allocation” and belongs to root. Then squeue vouches for it, and says the rest.
        """
        return _latest(self._of(self._named(run), run))

    def queued_tasks(self, run: Run) -> dict[int, SlurmReport]:
        """By its index, what squeue tells of each task of the run's job array."""
        return _by_task(self._of(self.queue, run))

    def recorded_tasks(self, run: Run) -> dict[int, SlurmReport]:
        """By its index, what sacct tells of each task of the run's job array."""
        return _by_task(self._of(self._named(run), run))

    def _named(self, run: Run) -> Iterator[SlurmReport]:
        """The records, those that squeue vouches for with their names."""
        mine = self._of(self.queue, run)
        vouched = {(report.job_id, report.submitted_at): report for report in mine}
        for record in self.accounting or ():
            queued = None if record.name else vouched.get((record.job_id, record.submitted_at))
            if queued is None:
                yield record
            else:
                yield replace(
                    record,
                    name=queued.name,
                    user=queued.user,
                    workdir=queued.workdir,
                    partition=queued.partition,
                    time_limit=queued.time_limit,
                    memory_asked=queued.memory_asked,
                )

    def _of(self, reports: Iterable[SlurmReport] | None, run: Run) -> list[SlurmReport]:
        user = self.users.get(run.id)
        return [
            report
            for report in reports or ()
            if _is_of(report, run) and user in (None, report.user)
        ]

    def given_again(self, run: Run) -> bool:
        """Whether the id of this job by plain sbatch is that of another job by now."""
        return any(
            report.job_id == run.job_id and report.restarts == 0 and later(report, run)
            for report in self.queue or ()
        )

    @property
    def complete(self) -> bool:
        return self.queue is not None and self.accounting is not None


@dataclass(frozen=True)
class Desk:
    """What a step works with. sight is None in the quick round, which asks Slurm nothing.

    used: what running tasks were last found to use, and when, by their own ids; doors: of datasets.
    """

    bridge: Bridge
    scheduler: Scheduler
    clock: Callable[[], datetime]
    sight: Sight | None = None
    used: Mapping[int, tuple[Usage, datetime]] = field(default_factory=dict)
    doors: Doors = field(default_factory=Doors)


def runs_again(queued: SlurmReport | None, recorded: SlurmReport) -> bool:
    """The end on record was an earlier attempt's: Slurm has requeued the job."""
    return (
        queued is not None
        and not queued.state.ended
        and (recorded.state in _REQUEUED_FROM or queued.restarts > recorded.restarts)
    )


def merged(old: SlurmReport | None, told: SlurmReport) -> SlurmReport:
    """What is told of a job that has not ended, or `old` where nothing but its clock moved."""
    # Running clocks are the page's to show: a row is not written anew for each second of them.
    still = replace(told, elapsed=None, cpu_time=None, max_rss=None)
    if old is not None and (old.job_id, old.restarts) == (told.job_id, told.restarts):
        # squeue says nothing of these; sstat and sacct did.
        still = replace(
            still,
            cpu_time=old.cpu_time,
            max_rss=old.max_rss,
            measured_at=old.measured_at,
            memory_asked=told.memory_asked or old.memory_asked,
        )
    return old if old is not None and replace(old, elapsed=None) == still else still


def later(report: SlurmReport, run: Run) -> bool:
    """Whether what this tells of was submitted after the run was."""
    then = run.submitted_at
    return then is not None and report.submitted_at is not None and report.submitted_at > then


def alike(old: float | None, new: float | None) -> bool:
    """Figures of use that differ by less than a hundredth, for which no row is written anew."""
    return old == new or (old is not None and new is not None and abs(new - old) < new / 100)


def _latest(mine: Iterable[SlurmReport]) -> SlurmReport | None:
    return max(mine, key=lambda r: (r.submitted_at is not None, r.submitted_at), default=None)


def _by_task(mine: Iterable[SlurmReport]) -> dict[int, SlurmReport]:
    # A task that has started has a report of its own beside that of those which wait together.
    found: dict[int, SlurmReport] = {}
    for report in sorted(mine, key=lambda r: (-len(r.array_tasks), r.started_at is not None)):
        for index in report.array_tasks:
            found[index] = report
    return found


def _is_of(report: SlurmReport, run: Run) -> bool:
    if run.native:
        # Her name for it tells nothing. A requeued job keeps its id but not its time of submission.
        same = report.submitted_at == run.submitted_at or (
            report.restarts > 0 and later(report, run)
        )
        return report.job_id == run.job_id and report.user == run.native.user and same
    return report.name == run.job_name and run.job_id in (None, report.job_id)
