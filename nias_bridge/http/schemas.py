"""The JSON of the API: what goes in, what comes out; times in ISO 8601, UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from flask import url_for
from pydantic import BaseModel, Field

from nias_bridge.domain import JobState, Page, Run
from nias_bridge.services.desk import Health, LogPart, RunView
from nias_bridge.services.doctor import Diagnosis
from nias_bridge.services.evidence import Evidence
from nias_bridge.services.previews import Preview

Size = Annotated[int, Field(description="bytes")]
Seconds = Annotated[float, Field(description="seconds")]
LOG_LIMIT = 1024 * 1024


class Problem(BaseModel):
    """Any error (RFC 9457): `detail` is the sentence to show, `type` the word to decide by."""

    type: str
    title: str
    status: int
    detail: str


class SubmitQuery(BaseModel):
    """How an upload is to be taken and run."""

    filename: str = Field("", description="Name of the zip, where the body alone is sent")
    again: bool = Field(False, description="A new run, where the project is already there")
    mend: bool = Field(False, description="Mend lines of requirements.txt where that is certain")
    add: bool = Field(False, description="Add packages to requirements.txt that the code imports")
    time: str | None = Field(None, description="Time limit, as Slurm writes it: 30 or 02:00:00")
    memory: str | None = Field(None, description="Memory per node: 500M or 8G")
    cpus: int | None = Field(None, ge=1)
    gpus: int | None = Field(None, ge=0)
    partition: str | None = None


class AgainQuery(BaseModel):
    """How a run is to be repeated."""

    exactly: bool = Field(False, description="With the very packages that it had")


class RunsQuery(BaseModel):
    """Which runs are wanted."""

    state: str = Field("", description="Slurm's words, separated by commas: RUNNING,PENDING")
    q: str = Field("", description="Part of the project's name")
    pinned: bool = Field(False, description="Only pinned runs")
    page: int = Field(1, ge=1)
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


class HealthOut(BaseModel):
    """What works: "ok", or the problem in a sentence."""

    database: str
    storage: str
    slurm: str
    poller: str


def run_out(run: Run) -> RunOut:
    """A run as it stands in lists."""
    report = run.report
    return RunOut(
        id=run.id,
        project=run.project,
        number=run.number,
        owner=run.owner,
        state=run.state,
        state_since=run.changed_at,
        ended=run.state.ended,
        note=run.note,
        cancel_asked=run.cancel_asked_at is not None,
        pinned=run.pinned,
        job_id=run.job_id,
        job_name=run.job_name,
        node=report.nodes if report else "",
        reason=report.reason if report else "",
        created_at=run.created_at,
        submitted_at=run.submitted_at,
        started_at=report.started_at if report else None,
        ended_at=report.ended_at if report else None,
        expected_start=report.expected_start if report else None,
        place=report.place if report else None,
        exit_code=report.exit_code if report and run.state.ended else None,
        resources=ResourcesOut(**asdict(run.resources)),
        tasks=run.tasks,
        main=run.program.main,
        args=list(run.program.args),
        python=run.program.python,
        accounting=_accounting(run),
        links=_links(run),
    )


def view_out(view: RunView, diagnosis: Diagnosis | None = None) -> RunOut:
    """A run with the node's evidence and what the failure doctor says of it."""
    known, peak = run_out(view.run), view.peak_memory
    return known.model_copy(
        update={
            "exit_code": view.evidence.exit_code if known.exit_code is None else known.exit_code,
            "warnings": [
                WarningOut.model_validate(asdict(each)) for each in view.run.contents.cautions
            ],
            "usage": _usage(view),
            "diagnosis": _diagnosis(diagnosis),
            "evidence": _evidence(view.evidence),
            "peak_memory": PeakOut.model_validate(asdict(peak)) if peak else None,
            "results_ready": view.results_ready,
        }
    )


def page_out(page: Page) -> PageOut:
    """A page of runs."""
    return PageOut(
        runs=[run_out(run) for run in page.runs],
        total=page.total,
        page=page.page,
        pages=page.pages,
    )


def log_out(part: LogPart) -> LogOut:
    """A part of the log."""
    return LogOut(
        text=part.text,
        offset=part.offset,
        next_offset=part.next_offset,
        size=part.size,
        ended=part.ended,
    )


def files_out(view: RunView, previews: Mapping[str, Preview]) -> FilesOut:
    """The files of a run."""
    return FilesOut(
        collected=view.results_ready,
        files=[
            FileOut(
                path=file.path,
                size=file.size,
                sha256=file.sha256,
                link=url_for("api.output_file", run_id=view.run.id, path=file.path),
                preview=_preview(view.run, previews.get(file.path)),
            )
            for file in view.files
        ],
        left_out=[LeftOutOut(path=left.path, why=left.why) for left in view.left_out],
    )


def _preview(run: Run, found: Preview | None) -> PreviewOut | None:
    if found is None:
        return None

    def link(name: str) -> str:
        return url_for("looks.piece", run_id=run.id, name=name)

    cells = (
        CellOut(
            type=cell.type,
            text=cell.text,
            output=cell.output,
            pictures=[link(name) for name in cell.pictures],
        )
        for cell in found.cells
    )
    return PreviewOut(
        kind=found.kind,
        summary=[dict(facts) for facts in found.summary],
        plots=[link(name) for name in found.plots],
        text=link(found.text) if found.text else None,
        rows=[list(row) for row in found.rows],
        cells=list(cells),
        error=found.error,
    )


def health_out(health: Health) -> HealthOut:
    """How the parts are."""
    return HealthOut(
        database=health.database or "ok",
        storage=health.storage or "ok",
        slurm=health.slurm or "ok",
        poller=health.poller or "ok",
    )


def _accounting(run: Run) -> Accounting | None:
    report = run.report
    if report is None or report.elapsed is None or not run.state.ended:
        return None
    return Accounting(
        elapsed_seconds=report.elapsed,
        time_limit_seconds=report.time_limit,
        cpu_seconds=report.cpu_time,
        cpus=report.cpus,
        max_rss_bytes=report.max_rss,
        memory_asked_bytes=report.memory_asked,
        exit_code=report.exit_code,
        signal=report.signal,
        node=report.nodes,
        partition=report.partition,
        restarts=report.restarts,
    )


def _usage(view: RunView) -> UsageOut | None:
    report, share = view.run.report, view.efficiency
    if report is None or share is None:
        return None
    return UsageOut(
        measured_at=report.measured_at,
        cpu_seconds=report.cpu_time,
        cpus=report.cpus,
        cpu=share.cpu,
        cpus_enough=share.cpus_enough,
        max_rss_bytes=view.peak_memory.bytes if view.peak_memory else None,
        memory_asked_bytes=report.memory_asked,
        memory=share.memory,
        memory_enough_bytes=share.memory_enough,
    )


def _diagnosis(found: Diagnosis | None) -> DiagnosisOut | None:
    if found is None:
        return None
    return DiagnosisOut(
        rule=found.rule,
        sentence=found.sentence,
        hint=found.hint,
        correction=found.remedy.label if found.remedy else None,
    )


def _evidence(evidence: Evidence) -> EvidenceOut:
    used = evidence.environment
    return EvidenceOut(
        phase=evidence.phase,
        since=evidence.since,
        exit_code=evidence.exit_code,
        signal=evidence.signal,
        reason=evidence.reason,
        message=evidence.message,
        details=evidence.details,
        timings=dict(evidence.timings),
        max_rss_bytes=evidence.max_rss,
        environment=EnvironmentOut(
            key=used.key, built=used.built, seconds=used.seconds, packages=used.packages
        )
        if used
        else None,
    )


def _links(run: Run) -> dict[str, str]:
    names = {
        "self": "api.run",
        "log": "api.log",
        "files": "api.files",
        "results": "api.results",
        "cancel": "api.cancel",
        "pin": "api.pin",
        "record": "api.run_json",
        "crate": "api.crate",
        "page": "pages.run",
    }
    return {name: url_for(endpoint, run_id=run.id) for name, endpoint in names.items()}
