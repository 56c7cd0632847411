"""The JSON of the API: what goes in, what comes out; times in ISO 8601, UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from nias_bridge.domain import JobState, Origin
from nias_bridge.people import Role, Scope


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise ValueError("is beyond the calendar") from None


Size = Annotated[int, Field(description="bytes")]
Seconds = Annotated[float, Field(description="seconds")]
Moment = Annotated[
    datetime, AfterValidator(_in_utc), Field(description="ISO 8601; UTC where it names no zone")
]
LOG_LIMIT = 1024 * 1024
PAGES_MAX = 1_000_000


class Problem(BaseModel):
    """Any error (RFC 9457): `detail` is the sentence to show, `type` the word to decide by."""

    type: str
    title: str
    status: int
    detail: str


class SubmitQuery(BaseModel):
    """How an upload is to be taken and run."""

    filename: str = Field("", description="Name of the zip, where the body alone is sent")
    upload: str = Field(
        "", description="A finished upload by tus (/api/v1/uploads), in place of a body"
    )
    again: bool = Field(False, description="A new run, where the project is already there")
    mend: bool = Field(False, description="Mend lines of requirements.txt where that is certain")
    add: bool = Field(False, description="Add packages to requirements.txt that the code imports")
    time: str | None = Field(None, description="Time limit, as Slurm writes it: 30 or 02:00:00")
    memory: str | None = Field(None, description="Memory per node: 500M or 8G")
    cpus: int | None = Field(None, ge=1)
    gpus: int | None = Field(None, ge=0)
    partition: str | None = None
    datasets: str | None = Field(
        None,
        description="What it is to see at $NIAS_DATA, separated by commas, in place of what "
        "nias.toml names: eeg, alice/eeg, eeg@3fa2c1",
    )


class AgainQuery(BaseModel):
    """How a run is to be repeated."""

    exactly: bool = Field(False, description="With the very packages that it had")


class RunsQuery(BaseModel):
    """Which runs are wanted."""

    state: str = Field("", description="Slurm's words, separated by commas: RUNNING,PENDING")
    q: str = Field("", description="Part of the project's name")
    project: str = Field("", description="A project's whole name")
    pinned: bool = Field(False, description="Only pinned runs")
    shared: bool = Field(False, description="Those of others, whom your groups let you see")
    since: Moment | None = Field(None, description="Received then or later")
    until: Moment | None = Field(None, description="Received before then")
    cursor: str = Field("", description="Where to go on, as `next` of the page before has it")
    page: int = Field(1, ge=1, le=PAGES_MAX)
    per_page: int = Field(20, ge=1, le=100)


class CorrectQuery(BaseModel):
    """Which correction is wanted."""

    rule: str = Field(description="The diagnosis's `rule`, so that nothing else is corrected")


class LogQuery(BaseModel):
    """Which part of the log is wanted."""

    offset: int = Field(0, ge=-1, description="Byte to begin at; -1: the last `limit` bytes")
    limit: int = Field(65536, ge=16, le=LOG_LIMIT, description="Bytes at most")


class Accounting(BaseModel):
    """Slurm's own record of the job, once it has ended."""

    elapsed_seconds: Seconds
    time_limit_seconds: Seconds | None
    cpu_seconds: Seconds | None
    cpus: int | None
    max_rss_bytes: Size | None
    memory_asked_bytes: Size | None
    exit_code: int | None
    signal: int | None
    node: str
    partition: str
    restarts: int


class EnvironmentOut(BaseModel):
    """The environment that the run got."""

    key: str
    built: bool
    seconds: Seconds
    packages: int


class EvidenceOut(BaseModel):
    """What the node says, before the accounting has spoken."""

    phase: str
    since: datetime | None
    exit_code: int | None
    signal: int | None
    reason: str
    message: str
    details: str
    timings: dict[str, float]
    max_rss_bytes: Annotated[
        int | None, Field(description="bytes; the largest process, as the kernel told the node")
    ]
    environment: EnvironmentOut | None


class PeakOut(BaseModel):
    """The most memory that the run was seen to have: the larger of what `slurm` and `node` saw."""

    bytes: Size
    seen_by: str


class ResourcesOut(BaseModel):
    """What the run asks of Slurm; null leaves it to the site."""

    time: str | None
    cpus: int | None
    memory: str | None
    gpus: int | None
    partition: str | None
    requeue: bool


class DiagnosisOut(BaseModel):
    """What happened and what to do; `correction` says what `POST …/correct` would do about it."""

    rule: str
    sentence: str
    hint: str
    correction: str | None


class UsageOut(BaseModel):
    """What the job used of what it asked for; while it runs, so far, as of measured_at.

    cpu and memory are shares: CPU time on average, memory at its peak. …_enough is advice.
    """

    measured_at: datetime | None
    cpu_seconds: Seconds | None
    cpus: int | None
    cpu: float | None
    cpus_enough: int | None
    max_rss_bytes: Size | None
    memory_asked_bytes: Size | None
    memory: float | None
    memory_enough_bytes: Size | None


class WarningOut(BaseModel):
    """What the code names and will not find on the cluster, and where.

    kind: `missing` (a module; `package` is the line to add to requirements.txt, "" where none is
    certain) or `foreign` (a path of somebody's own machine).
    """

    kind: str
    text: str
    package: str
    path: str
    line: int


class SeenOut(BaseModel):
    """A dataset as a run sees it, at $NIAS_DATA/<name>; `deleted` (since) is not told in lists."""

    name: str
    owner: str
    sha256: str
    deleted: bool | None = None


class RunOut(BaseModel):
    """One run; from `warnings` on it is told of a single run, not in lists."""

    id: int
    project: str
    number: int
    owner: str
    state: JobState
    state_since: datetime
    ended: bool
    note: str
    cancel_asked: bool
    pinned: bool
    stored_bytes: Annotated[int, Field(description="bytes; expected until it has ended")]
    leaves_at: Annotated[datetime | None, Field(description="when its files are to be removed")]
    removed_at: datetime | None
    origin: Origin
    job_id: int | None
    job_name: str
    node: str
    reason: str
    created_at: datetime
    submitted_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    expected_start: datetime | None
    place: int | None
    exit_code: int | None
    resources: ResourcesOut
    tasks: Annotated[int, Field(description="of a sweep; 0 for a single job")]
    main: str
    args: list[str]
    python: str | None
    datasets: list[SeenOut]
    accounting: Accounting | None
    warnings: list[WarningOut] | None = None
    usage: UsageOut | None = None
    diagnosis: DiagnosisOut | None = None
    evidence: EvidenceOut | None = None
    peak_memory: PeakOut | None = None
    results_ready: bool | None = None
    links: dict[str, str]


class PageOut(BaseModel):
    """A page of runs, newest first."""

    runs: list[RunOut]
    total: int
    page: int
    pages: int
    next: Annotated[str | None, Field(description="where the list goes on; null at its end")]


class LogOut(BaseModel):
    """A part of the log; ask again from next_offset until `ended` and next_offset = size."""

    text: str
    offset: Size
    next_offset: Size
    size: Size
    ended: bool


class CellOut(BaseModel):
    """One cell of a notebook."""

    type: str
    text: str
    output: str
    pictures: list[str]


class PreviewOut(BaseModel):
    """What the node saw in a file; plots, text and pictures are links.

    summary: facts, those of a part (an array, a column) with its `name`; rows: a table's head.
    """

    kind: str
    summary: list[dict[str, Any]]
    plots: list[str]
    text: str | None
    rows: list[list[str]]
    cells: list[CellOut]
    error: str


class FileOut(BaseModel):
    """One file of output/; preview: null where there is none (yet)."""

    path: str
    size: Size
    sha256: str | None
    link: str
    preview: PreviewOut | None = None


class LeftOutOut(BaseModel):
    """One thing in output/ that was not collected."""

    path: str
    why: str


class FilesOut(BaseModel):
    """What the code left in output/; `collected` once it is complete."""

    collected: bool
    files: list[FileOut]
    left_out: list[LeftOutOut]


class MeOut(BaseModel):
    """Who asks; `handle` is the owner of her runs, `scope` how far her token reaches."""

    handle: str
    name: str
    email: str
    role: Role
    scope: Scope
    unix_account: str | None
    groups: list[str]


class NodeOut(BaseModel):
    """One node as Slurm tells it."""

    name: str
    state: str
    cpus: int
    cpus_used: int
    memory: Size
    memory_used: Size
    gpus: int | None
    partitions: list[str]
    reason: str


class PartitionOut(BaseModel):
    """One partition as Slurm tells it; times in seconds, null: unlimited, or the most allowed."""

    name: str
    state: str
    default: bool
    max_time: int | None
    default_time: int | None


class ClusterOut(BaseModel):
    """The cluster as it was heard of at `at`; `problem` says why that is old, "" when it is not."""

    at: datetime | None
    problem: str
    nodes: list[NodeOut]
    partitions: list[PartitionOut]
    pending: Annotated[int, Field(description="jobs of everybody")]
    running: Annotated[int, Field(description="jobs of everybody")]


class KeptEnvironmentOut(BaseModel):
    """One environment on shared storage; `private`: of its owner's runs alone."""

    key: str
    private: bool
    python: str
    requirements: list[str]
    size: Size
    built_at: datetime
    used_at: datetime
    in_use: bool
    broken: bool


class EnvironmentsOut(BaseModel):
    """Environments, the least recently used first."""

    environments: list[KeptEnvironmentOut]


class LiveOut(BaseModel):
    """An answer."""

    live: bool


class HealthOut(BaseModel):
    """What works: "ok", or the problem in a sentence."""

    database: str
    storage: str
    slurm: str
    accounting: str
    poller: str
