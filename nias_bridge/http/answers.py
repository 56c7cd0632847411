"""What the use cases found, as the API's JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

from flask import url_for

from nias_bridge.domain import Page, Run
from nias_bridge.http.schemas import (
    Accounting,
    CellOut,
    DiagnosisOut,
    EnvironmentOut,
    EvidenceOut,
    FileOut,
    FilesOut,
    HealthOut,
    LeftOutOut,
    LogOut,
    PageOut,
    PeakOut,
    PreviewOut,
    ResourcesOut,
    RunOut,
    SeenOut,
    UsageOut,
    WarningOut,
)
from nias_bridge.services.desk import Health, LogPart, RunStatus, RunView
from nias_bridge.services.doctor import Diagnosis
from nias_bridge.services.evidence import Evidence
from nias_bridge.services.manifest import OutputFile
from nias_bridge.services.previews import Preview

# What is linked, by its place below the run's own address: a list of runs has hundreds of links.
LINKED = {
    "log": "log",
    "files": "files",
    "results": "results.zip",
    "cancel": "cancel",
    "pin": "pin",
    "record": "run.json",
    "crate": "crate.zip",
}


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
        stored_bytes=run.stored_bytes,
        leaves_at=run.leaves_at,
        removed_at=run.removed_at,
        origin=run.origin,
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
        datasets=[
            SeenOut(name=each.name, owner=each.owner, sha256=each.sha256) for each in run.datasets
        ],
        accounting=_accounting(run),
        links=_links(run),
    )


def status_out(view: RunStatus, diagnosis: Diagnosis | None = None) -> RunOut:
    """A run with the node's evidence and what the failure doctor says of it."""
    known, peak = run_out(view.run), view.peak_memory
    return known.model_copy(
        update={
            "exit_code": view.evidence.exit_code if known.exit_code is None else known.exit_code,
            "datasets": [
                SeenOut(
                    name=each.mount.name,
                    owner=each.mount.owner,
                    sha256=each.mount.sha256,
                    deleted=each.gone,
                )
                for each in view.seen
            ],
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


def page_out(page: Page, following: str | None) -> PageOut:
    """A page of runs, and the address of the one that follows."""
    return PageOut(
        runs=[run_out(run) for run in page.runs],
        total=page.total,
        page=page.page,
        pages=page.pages,
        next=following,
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

    def link(path: str) -> str:
        return url_for("api.output_file", run_id=view.run.id, path=path)

    def preview(path: str) -> PreviewOut | None:
        return _preview(view.run, previews.get(path))

    return FilesOut(
        collected=view.results_ready,
        files=listed(view.files, link, preview),
        left_out=[LeftOutOut(path=left.path, why=left.why) for left in view.left_out],
    )


def listed(
    files: Iterable[OutputFile],
    link: Callable[[str], str],
    preview: Callable[[str], PreviewOut | None] = lambda _path: None,
) -> list[FileOut]:
    """Files that were left in output/, each with where it is to be had."""
    return [
        FileOut(
            path=file.path,
            size=file.size,
            sha256=file.sha256,
            link=link(file.path),
            preview=preview(file.path),
        )
        for file in files
    ]


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
        accounting=health.accounting or "ok",
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


def _usage(view: RunStatus) -> UsageOut | None:
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
    own = url_for("api.run", run_id=run.id)
    return {
        "self": own,
        **{name: f"{own}/{below}" for name, below in LINKED.items()},
        "page": url_for("pages.run", run_id=run.id),
    }
