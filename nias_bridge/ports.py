"""The doors of the bridge: to Slurm, to the accounts of its machines, and to the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Protocol

from nias_bridge.cluster import ClusterView, NodeReport, PartitionReport
from nias_bridge.datasets import Mount
from nias_bridge.domain import (
    OPEN_STATES,
    Event,
    Filter,
    JobState,
    NewRun,
    Page,
    Run,
    SlurmReport,
    SubmissionKey,
    Unclaimed,
    Usage,
)
from nias_bridge.people import Admission, UnixAccount, Used
from nias_bridge.registers import Datasets, Deeds, Keys, Outbox, People, UnclaimedJobs
from nias_bridge.tasks import Task


class Scheduler(Protocol):
    """Slurm, however it is reached. Every call has a deadline and raises Unreachable past it."""

    def submit(
        self, script: PurePosixPath, *, name: str, log: PurePosixPath, user: str | None = None
    ) -> int:
        """Give a script (a path as the cluster sees it) to Slurm; returns the job id.

        The job's working directory is the script's folder; its stdout and stderr are appended
        to `log`. user: the Unix account that the job is to be, to which the script's folder is
        handed over first; None: the bridge's own. Raises Rejected, TryLater, Unreachable (surely
        not submitted), or SubmissionUnclear (it may or may not be there).
        """
        ...

    def queue(self) -> list[SlurmReport]:
        """All jobs that slurmctld still remembers, ended ones included: one call."""
        ...

    def accounting(
        self, *, since: datetime, job_ids: Sequence[int] = (), names: Sequence[str] = ()
    ) -> list[SlurmReport]:
        """The accounting records of these jobs (by id or by name) submitted after `since`.

        A job that is not there is absent from the answer. A requeued job has one record, its
        latest; an id that was reused may have several. For some seconds the record of a short job
        may have no name yet: id and submitted_at, as in the queue, then say whose it is.
        """
        ...

    def cancel(
        self, job_id: int, *, name: str, tasks: Sequence[int] = (), user: str | None = None
    ) -> None:
        """End the job of this id and name, or these tasks of the array that it is.

        user: the account that the job is, as for `submit`.
        One that has ended, or is another's, is no error.
        """
        ...

    def commands(self, job_ids: Sequence[int]) -> dict[int, str]:
        """What batch script with which arguments these jobs are, as one line each.

        Of jobs that slurmctld remembers; others are absent. A young job's arguments may be missing:
        since 23.02 the accounting alone has them, which hears of a job some seconds later.
        """
        ...

    def estimate(self, script: PurePosixPath) -> datetime | None:
        """When a job of this script would start, were it submitted now; None: Slurm can't say.

        Nothing is submitted. Raises Rejected, TryLater, Unreachable.
        """
        ...

    def usage(self, job_ids: Sequence[int]) -> dict[int, Usage]:
        """What running jobs have used so far, by their ids: one call, which may take its time.

        A task of an array is asked for by its own id (SlurmReport.task_job_id), not the array's.
        Absent is what does not run, or of which nothing was measured yet.
        """
        ...

    def nodes(self) -> list[NodeReport]:
        """All nodes of the cluster."""
        ...

    def partitions(self) -> list[PartitionReport]:
        """All partitions that this account may see."""
        ...


class Accounts(Protocol):
    """The Unix accounts as which jobs can run, on the machine where Slurm's commands are run."""

    def find(self, name: str) -> UnixAccount | None:
        """The account of this name as it is now; None: there is none. Raises Unreachable."""
        ...

    def uids(self, names: Collection[str]) -> dict[str, int]:
        """The numbers of those of these accounts that there are, as of now. Raises Unreachable."""
        ...

    def uid(self, name: str) -> int | None:
        """The number of the account of this name, which may be some time old. Raises
        Unreachable."""
        ...


class Store(Protocol):
    """What is remembered. Reads and writes are each one transaction."""

    @property
    def people(self) -> People: ...

    @property
    def keys(self) -> Keys: ...

    @property
    def deeds(self) -> Deeds: ...

    @property
    def unclaimed(self) -> UnclaimedJobs: ...

    @property
    def outbox(self) -> Outbox: ...

    @property
    def datasets(self) -> Datasets: ...

    def close(self) -> None:
        """Let go of all connections; the next call opens new ones."""
        ...

    def add_run(
        self,
        new: NewRun,
        *,
        again: bool,
        place: Callable[[Run], None],
        key: SubmissionKey | None = None,
        admission: Admission | None = None,
    ) -> Run:
        """A new run in RECEIVED, numbered within its project, which is created where missing.

        `place` puts the run's files where they belong, just before the commit: what it raises
        undoes the row. `admission` is asked by what the owner has then, of several at once one by
        one. Raises ProjectExists when the project has runs and `again` is False, Resubmitted when
        this key has made a run already, NotPossible when a version of a dataset that it is to see
        was deleted.
        """
        ...

    def made_by(
        self, person_id: int, word: str, *, now: datetime
    ) -> tuple[SubmissionKey, Run] | None:
        """The run that a person's key has made, and the key as it was then."""
        ...

    def adopt(self, new: NewRun, job: Unclaimed) -> Run | None:
        """A job by plain sbatch becomes a run, PENDING at first, and is unclaimed no longer.

        None where it is a run already.
        """
        ...

    def adopted(self, job_ids: Collection[int]) -> list[Run]:
        """The runs by plain sbatch that have, or had, one of these ids."""
        ...

    def next_number(self, owner: str, project: str) -> int:
        """The number the next run of this project would get: 1 where there is none."""
        ...

    def run(self, run_id: int) -> Run:
        """One run, whosever it is. Raises NotFound."""
        ...

    def runs(self, wanted: Filter) -> Page:
        """A page of runs, newest first."""
        ...

    def run_states(self) -> Counter[JobState]:
        """How many runs are in each state."""
        ...

    def open_runs(self, states: frozenset[JobState] = OPEN_STATES) -> list[Run]:
        """All runs in these of the states that are no end, oldest first."""
        ...

    def open_runs_with_datasets(self) -> list[Run]:
        """The open runs that see any."""
        ...

    def see(self, run: Run, seen: Sequence[Mount]) -> Run:
        """Remember which datasets a run by plain sbatch sees: it had none. Raises Stale;
        NotPossible where one was deleted just now."""
        ...

    def move(self, run: Run, to: JobState, *, at: datetime, **changes: Any) -> Run:
        """Write a new state and other changed fields of `run`; returns it as it is now.

        The move is kept as an event, with the `note` among the changes. Raises Stale when the run
        was changed since it was read, ValueError for a move that is not in MOVES.
        """
        ...

    def update(self, run: Run, **changes: Any) -> Run:
        """Write changed fields of `run` but not its state. Raises Stale like `move`."""
        ...

    def ask_cancel(self, run_id: int, *, at: datetime) -> Run:
        """Remember the wish to cancel; the poller obeys it. An ended run takes none.

        A wish is no change that makes a `move` Stale. Raises NotFound.
        """
        ...

    def pin(self, run_id: int, pinned: bool) -> Run:
        """Remember that a run is to be kept, or is no longer.

        Like a wish to cancel, no change that makes a `move` Stale. Raises NotFound.
        """
        ...

    def used(self, *, since: datetime, owner: str | None = None) -> dict[str, Used]:
        """What each owner (or this one alone) has: CPU time of runs that ended after `since`, and
        of those that run. Who has nothing is absent."""
        ...

    def largest(self, owner: str, most: int) -> list[Run]:
        """The owner's ended runs that take most on shared storage and are not pinned."""
        ...

    def unweighed(self, most: int) -> list[Run]:
        """Ended runs whose files are to be removed or weighed, oldest first."""
        ...

    def weigh(self, run: Run, stored_bytes: int) -> None:
        """Remember what a run's files take, unless they were marked to go since it was read: it is
        to be weighed anew then."""
        ...

    def announce(self, *, ended_before: datetime | None, leaves_at: datetime) -> None:
        """Let the files of runs that ended before this leave then; those of others, of pinned ones
        and (None) of all stay. Who is to leave already keeps her day."""
        ...

    def leave(self, *, now: datetime) -> list[Run]:
        """Mark the runs whose day has come as removed by the site's limit; returns them."""
        ...

    def remove(self, run_id: int, *, at: datetime, by: str) -> Run:
        """Mark a run's files as removed. Raises NotFound, NotPossible for one that is open or
        pinned."""
        ...

    def tasks(self, run_id: int, states: frozenset[JobState] = frozenset()) -> list[Task]:
        """The tasks of a sweep in their order, only those in these states where any are named."""
        ...

    def task(self, run_id: int, index: int) -> Task:
        """One task of a sweep. Raises NotFound."""
        ...

    def task_states(self, run_id: int) -> Counter[JobState]:
        """How many tasks of a sweep are in each state."""
        ...

    def save_tasks(self, tasks: Sequence[Task]) -> None:
        """Write state, report, metrics and note of these tasks: one transaction for all."""
        ...

    def ask_cancel_task(self, run_id: int, index: int, *, at: datetime) -> Task:
        """Remember the wish to cancel one task; an ended one takes none. Raises NotFound."""
        ...

    def events(self, run_id: int) -> list[Event]:
        """The moves of a run, oldest first."""
        ...

    def hold_lease(self, holder: str, *, now: datetime, seconds: float) -> bool:
        """Take or renew the poller's lease; False while another holder's has not run out."""
        ...

    def held_by(self, holder: str) -> Store:
        """The same store, whose writes raise LeaseLost once another has taken the lease."""
        ...

    def drop_lease(self, holder: str) -> None:
        """Give the lease back, so that the next poller need not wait for it to run out."""
        ...

    def cluster(self) -> ClusterView:
        """What the poller last heard of the cluster."""
        ...

    def save_cluster(self, view: ClusterView) -> None:
        """Remember what the poller heard of the cluster."""
        ...
