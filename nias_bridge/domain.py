"""The nouns: projects, runs, their states and the moves between them, and what Slurm reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from nias_bridge.datasets import Mount

# What a parameter of a sweep can be.
Scalar = str | int | float | bool

SBATCH_JOB_NAME = "nias"  # of jobs by plain sbatch, where the person gave no other


class JobState(StrEnum):
    """Slurm's own words for a job's state, and the bridge's own before Slurm has the job."""

    RECEIVED = "RECEIVED"
    STAGED = "STAGED"
    SUBMITTING = "SUBMITTING"
    REJECTED = "REJECTED"

    PENDING = "PENDING"
    CONFIGURING = "CONFIGURING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETING = "COMPLETING"
    REQUEUED = "REQUEUED"

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    CANCELLED = "CANCELLED"
    NODE_FAIL = "NODE_FAIL"
    PREEMPTED = "PREEMPTED"
    BOOT_FAIL = "BOOT_FAIL"
    DEADLINE = "DEADLINE"

    @property
    def ended(self) -> bool:
        """True when nothing more will happen to the run."""
        return not MOVES[self]

    @property
    def with_slurm(self) -> bool:
        """True while Slurm has the job and it has not ended."""
        return self in _ALIVE


_ALIVE = frozenset(
    {
        JobState.PENDING,
        JobState.CONFIGURING,
        JobState.RUNNING,
        JobState.SUSPENDED,
        JobState.COMPLETING,
        JobState.REQUEUED,
    }
)
_SLURM_ENDS = frozenset(
    {
        JobState.COMPLETED,
        JobState.FAILED,
        JobState.TIMEOUT,
        JobState.OUT_OF_MEMORY,
        JobState.CANCELLED,
        JobState.NODE_FAIL,
        JobState.PREEMPTED,
        JobState.BOOT_FAIL,
        JobState.DEADLINE,
    }
)
_NOWHERE: frozenset[JobState] = frozenset()

# Who may follow whom. A job that Slurm has can take any of Slurm's states next, because the bridge
# looks only now and then. It goes back to STAGED when Slurm lost it before it started.
MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.RECEIVED: frozenset({JobState.STAGED, JobState.CANCELLED}),
    JobState.STAGED: frozenset({JobState.SUBMITTING, JobState.CANCELLED, JobState.REJECTED}),
    JobState.SUBMITTING: _ALIVE | _SLURM_ENDS | {JobState.STAGED, JobState.REJECTED},
    **{s: (_ALIVE | _SLURM_ENDS | {JobState.STAGED}) - {s} for s in _ALIVE},
    **dict.fromkeys(_SLURM_ENDS, _NOWHERE),
    JobState.REJECTED: _NOWHERE,
}

OPEN_STATES = frozenset(state for state, moves in MOVES.items() if moves)
ENDED_STATES = frozenset(state for state, moves in MOVES.items() if not moves)
# An end that nobody wanted: who cancels a run asked for its end.
FAILED_STATES = ENDED_STATES - {JobState.COMPLETED, JobState.CANCELLED}


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a run asks of Slurm; None leaves it to the site's default.

    time: Slurm's format ("30", "02:00:00", "1-00"); cpus and gpus: counts; memory: per node, with
    Slurm's suffixes ("500M", "8G").
    """

    time: str | None = None
    cpus: int | None = None
    memory: str | None = None
    gpus: int | None = None
    partition: str | None = None
    requeue: bool = False


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a run starts: a file of the project with its arguments, and a Python by its version.

    python None leaves it to the site's default.
    """

    main: str = "code.py"
    args: tuple[str, ...] = ()
    python: str | None = None


@dataclass(frozen=True, kw_only=True)
class Caution:
    """What a project's code names and will not find on the cluster.

    kind: "missing" (a module that nothing brings) or "foreign" (a path of a person's own machine);
    text: that module or path; package: the line that requirements.txt lacks, "" where none is
    certain; path and line: where the code names it first.
    """

    kind: str
    text: str
    package: str = ""
    path: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What was found in a zip: sizes in bytes, requirements as they were read.

    sha256 is the zip's, "" until it is accepted: hashing gigabytes takes seconds.
    """

    size: int
    unpacked_size: int
    files: int
    sha256: str = ""
    requirements: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    cautions: tuple[Caution, ...] = ()

    @property
    def lacking(self) -> tuple[str, ...]:
        """The packages that would have to be added to the requirements, as far as is certain."""
        return tuple(dict.fromkeys(each.package for each in self.cautions if each.package))


@dataclass(frozen=True, kw_only=True)
class SlurmReport:
    """One job as Slurm tells it: from squeue (no accounting figures yet) or from sacct.

    Times are UTC; elapsed and cpu_time in seconds; max_rss and memory_asked in bytes;
    time_limit in seconds, None where unlimited or unknown.
    exit_code and signal mean something only in an end state. measured_at: when cpu_time and
    max_rss of a job that still runs were so. place: among those that wait for its
    partition, from 1.
    array_tasks: which tasks of a job array this tells of, one that has started or all those that
    wait; () for a job that is none. The job_id of a task is its array's; task_job_id is its own,
    once it has one.
    """

    job_id: int
    name: str
    state: JobState
    reason: str = ""
    user: str = ""
    workdir: str = ""
    partition: str = ""
    nodes: str = ""
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expected_start: datetime | None = None
    place: int | None = None
    elapsed: int | None = None
    time_limit: int | None = None
    cpu_time: float | None = None
    cpus: int | None = None
    memory_asked: int | None = None
    max_rss: int | None = None
    measured_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    restarts: int = 0
    array_tasks: tuple[int, ...] = ()
    task_job_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a running job has used so far: cpu_time in seconds, max_rss (its peak) in bytes."""

    cpu_time: float | None
    max_rss: int | None


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """What intake hands to the store: everything known of a run before it has a number.

    tasks: of a sweep the parameters of each task, in order; max_parallel: how many at once;
    datasets: the versions that it is to see.
    """

    owner: str
    project: str
    slug: str
    token: str
    resources: Resources
    contents: Contents
    created_at: datetime
    program: Program = Program()
    tasks: tuple[Mapping[str, Scalar], ...] = ()
    max_parallel: int | None = None
    datasets: tuple[Mount, ...] = ()


class Origin(StrEnum):
    """How a run came to Slurm."""

    WEB = "web"  # by the bridge, for a page or a program
    SBATCH = "sbatch"  # by a person on a login node, and adopted since


@dataclass(frozen=True, kw_only=True)
class Native:
    """What Slurm itself recorded of a job by plain sbatch: whose it is, and its name.

    folder: where it works, ACCOUNT/JOB below the folder of all these runs; "" until it began.
    """

    user: str
    job_name: str
    folder: str = ""


@dataclass(frozen=True, kw_only=True)
class Unclaimed:
    """A job by plain sbatch that is nobody's run yet.

    project: what sbatch was given, as a name; tasks: of an array the indexes of its tasks; size:
    of its zip in bytes, None until that was seen.
    """

    native: Native
    project: str
    report: SlurmReport
    tasks: tuple[int, ...] = ()
    size: int | None = None

    @property
    def token(self) -> str:
        """What tells it from every other job, earlier ones of the same id too."""
        at = self.report.submitted_at
        return f"{self.report.job_id}.{int(at.timestamp()) if at else 0}"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One execution of a project, as the store has it.

    A job id alone identifies nothing (Slurm reuses ids): `job_name` carries the token.
    `changed_at` is when the state last changed; `note` is a sentence on why it is as it is, where
    Slurm's own words are not enough; `pinned`: somebody wants to keep it for good; `version` counts
    the writes, so that two can't cross.
    `tasks` is how many a sweep has, 0 for a single job; its job is a job array then.
    `native` is there for a job by plain sbatch, and only there.
    `stored_bytes` is what its files take on shared storage: expected until they are `weighed` after
    its end. They are to be removed at `leaves_at` by the site's limit; at `removed_at` they were,
    by the person whose handle is `removed_by`, or ("") by that limit.
    """

    id: int
    owner: str
    project: str
    slug: str
    number: int
    token: str
    state: JobState
    resources: Resources
    contents: Contents
    created_at: datetime
    changed_at: datetime
    program: Program = Program()
    tasks: int = 0
    max_parallel: int | None = None
    job_id: int | None = None
    submitted_at: datetime | None = None
    submissions: int = 0
    report: SlurmReport | None = None
    note: str = ""
    missing_since: datetime | None = None
    cancel_asked_at: datetime | None = None
    pinned: bool = False
    stored_bytes: int = 0
    weighed: bool = False
    leaves_at: datetime | None = None
    removed_at: datetime | None = None
    removed_by: str | None = None
    version: int = 0
    origin: Origin = Origin.WEB
    native: Native | None = None
    datasets: tuple[Mount, ...] = ()

    @property
    def job_name(self) -> str:
        """The Slurm job name: unique by its token, readable by its project.

        Of a job by plain sbatch it is what the person called it, and any other's too.
        """
        if self.native:
            return self.native.job_name
        return f"nias-{self.token}-{self.slug}"


SUBMISSION_KEY_KEPT = timedelta(hours=24)


@dataclass(frozen=True, kw_only=True)
class SubmissionKey:
    """A word by which a person's program names one submission: however often that is sent within
    SUBMISSION_KEY_KEPT, it makes one run. fingerprint: of all that is sent, in hexadecimal."""

    person_id: int
    word: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """One move of a run, for its history."""

    at: datetime
    state: JobState
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which runs a list wants: text is looked for in project names, whatever the case.

    owners: whose, None for everybody's; project: one project's runs alone, by its whole name;
    pinned: only those that are; since and until: by when they were received; before: only what is
    older than the run received then and of that id, in place of a page's number.
    """

    owners: frozenset[str] | None = None
    project: str | None = None
    text: str = ""
    states: frozenset[JobState] = field(default_factory=frozenset)
    pinned: bool = False
    since: datetime | None = None
    until: datetime | None = None
    before: tuple[datetime, int] | None = None
    page: int = 1
    per_page: int = 20


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of a list of runs, newest first; total counts all pages, more: older ones follow."""

    runs: tuple[Run, ...]
    total: int
    page: int
    per_page: int
    more: bool = False

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // self.per_page))
