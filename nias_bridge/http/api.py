"""The researcher's road as JSON, under /api/v1."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urlencode

from apiflask import APIBlueprint, FileSchema
from flask import Response, request, url_for

from nias_bridge.domain import Filter, JobState, Resources, Run
from nias_bridge.errors import BadRequest
from nias_bridge.http import (
    answers,
    comparisons,
    cursors,
    downloads,
    fresh,
    repeats,
    runlists,
    uploads,
)
from nias_bridge.http.here import bridge
from nias_bridge.http.schemas import (
    AgainQuery,
    CorrectQuery,
    FilesOut,
    LogOut,
    LogQuery,
    PageOut,
    RunOut,
    RunsQuery,
    SubmitQuery,
)
from nias_bridge.services import (
    checkup,
    comparison,
    desk,
    intake,
    pieces,
    previews,
    record,
    retention,
)
from nias_bridge.services.bridge import Bridge

blueprint = APIBlueprint("api", __name__, url_prefix="/api/v1", tag="Runs")


@blueprint.post("/runs")
@blueprint.input(SubmitQuery, location="query")
@blueprint.output(RunOut, status_code=202)
def submit(query_data: SubmitQuery) -> repeats.Accepted:
    """Upload a project and run it

    The body is the zip, or a form with the field `file`. Or `upload` names what came by tus: it is
    kept where its project is already there or its requirements need mending.
    """
    asked: dict[str, Any] = {
        "again": query_data.again,
        "mend": query_data.mend,
        "add": query_data.add,
        "seen": None if query_data.datasets is None else words(query_data.datasets),
        "resources": Resources(
            time=query_data.time,
            memory=query_data.memory,
            cpus=query_data.cpus,
            gpus=query_data.gpus,
            partition=query_data.partition,
        ),
    }
    if query_data.upload:
        return repeats.accepted(partial(_receive_pieces, query_data.upload, asked))
    part, filename = uploads.take()

    def receive(by: Bridge) -> Run:
        return intake.receive(by, part, filename, **asked)

    try:
        return repeats.accepted(receive, part, filename)
    finally:
        bridge().storage.remove(part)  # what was sent before is not received again


@blueprint.get("/runs")
@blueprint.input(RunsQuery, location="query")
@blueprint.output(PageOut)
def runs(query_data: RunsQuery) -> PageOut:
    """Your runs, newest first, a page at a time: go on by `next`"""
    wanted = Filter(
        owners=runlists.shared() if query_data.shared else runlists.own(),
        project=query_data.project or None,
        text=query_data.q,
        states=_states(query_data.state),
        pinned=query_data.pinned,
        since=query_data.since,
        until=query_data.until,
        before=cursors.place(query_data.cursor) if query_data.cursor else None,
        page=query_data.page,
        per_page=query_data.per_page,
    )
    page = desk.runs(bridge(), wanted)
    fresh.settle(page)
    cursor = cursors.after(page)
    # The same list as it was asked for: with its filters, from the cursor on.
    asked = {**request.args, "cursor": cursor}
    asked.pop("page", None)
    following = f"{url_for('api.runs')}?{urlencode(asked)}" if cursor else None
    return answers.page_out(page, following)


@blueprint.get("/runs/<int:run_id>")
@blueprint.output(RunOut)
def run(run_id: int) -> Response:
    """One run"""
    by = bridge()
    found = desk.find(by, run_id)

    def told() -> RunOut:
        view = desk.status(by, found)
        return answers.status_out(view, checkup.diagnosis(by, found, view.evidence))

    return fresh.answer(told, found, desk.marks(by, found), checkup.limits(by, found))


@blueprint.get("/runs/<int:run_id>/log")
@blueprint.input(LogQuery, location="query")
@blueprint.output(LogOut)
def log(run_id: int, query_data: LogQuery) -> LogOut:
    """The log as it grows, from an offset"""
    return answers.log_out(desk.log(bridge(), run_id, query_data.offset, query_data.limit))


@blueprint.get("/runs/<int:run_id>/files")
@blueprint.output(FilesOut)
def files(run_id: int) -> FilesOut:
    """What the code left in output/"""
    view = desk.show(bridge(), run_id)
    return answers.files_out(view, previews.previews(bridge(), view.run))


@blueprint.get("/runs/<int:run_id>/files/<path:path>")
@blueprint.output(FileSchema, content_type="application/octet-stream")
def output_file(run_id: int, path: str) -> Response:
    """One file of output/; ranges are understood"""
    return downloads.output_file(run_id, path)


@blueprint.get("/runs/<int:run_id>/requirements.lock")
@blueprint.output(FileSchema, content_type="text/plain")
def lock(run_id: int) -> Response:
    """The packages that it had, with their hashes, as pip reads them"""
    return downloads.lock(run_id)


@blueprint.get("/runs/<int:run_id>/results.zip")
@blueprint.output(FileSchema, content_type="application/zip")
def results(run_id: int) -> Response:
    """All of output/ as a zip; ranges are understood"""
    return downloads.results(run_id)


@blueprint.post("/runs/<int:run_id>/cancel")
@blueprint.output(RunOut, status_code=202)
def cancel(run_id: int) -> RunOut:
    """Ask for a run to be cancelled"""
    return answers.status_out(desk.status(bridge(), desk.cancel(bridge(), run_id)))


@blueprint.get("/runs/<int:run_id>/run.json")
@blueprint.output(FileSchema, content_type="application/json")
def run_json(run_id: int) -> Response:
    """The record of a run: what was run, on what, with what, and what came of it"""
    return downloads.record(run_id)


@blueprint.get("/runs/<int:run_id>/crate.zip")
@blueprint.output(FileSchema, content_type="application/zip")
def crate(run_id: int) -> Response:
    """The run as an RO-Crate 1.1: input, code, packages, log, results, and the record of it"""
    return downloads.crate(run_id)


@blueprint.post("/runs/<int:run_id>/pin")
@blueprint.output(RunOut)
def pin(run_id: int) -> RunOut:
    """Keep a run for good"""
    return answers.status_out(desk.status(bridge(), desk.pin(bridge(), run_id, True)))


@blueprint.delete("/runs/<int:run_id>/pin")
@blueprint.output(RunOut)
def unpin(run_id: int) -> RunOut:
    """Keep a run no longer than others"""
    return answers.status_out(desk.status(bridge(), desk.pin(bridge(), run_id, False)))


@blueprint.post("/runs/<int:run_id>/remove")
@blueprint.output(RunOut, status_code=202)
def remove(run_id: int) -> RunOut:
    """Remove the files of an ended run; its log and record stay"""
    return answers.status_out(desk.status(bridge(), retention.remove(bridge(), run_id)))


@blueprint.post("/runs/<int:run_id>/again")
@blueprint.input(AgainQuery, location="query")
@blueprint.output(RunOut, status_code=202)
def again(run_id: int, query_data: AgainQuery) -> repeats.Accepted:
    """Run the same zip once more, as a new run"""
    repeat = record.again_exactly if query_data.exactly else desk.again
    return repeats.accepted(lambda by: repeat(by, run_id))


@blueprint.post("/runs/<int:run_id>/correct")
@blueprint.input(CorrectQuery, location="query")
@blueprint.output(RunOut, status_code=202)
def correct(run_id: int, query_data: CorrectQuery) -> repeats.Accepted:
    """Run the same zip once more with the correction that its diagnosis offers"""
    return repeats.accepted(lambda by: checkup.treat(by, run_id, query_data.rule))


@blueprint.get("/compare")
@blueprint.input(comparisons.CompareQuery, location="query")
@blueprint.output(comparisons.ComparisonOut)
def compare(query_data: comparisons.CompareQuery) -> comparisons.ComparisonOut:
    """Two runs of a project side by side"""
    return comparisons.out(comparison.compare(bridge(), query_data.a, query_data.b))


def _receive_pieces(upload_id: str, asked: dict[str, Any], by: Bridge) -> Run:
    pieces.finish(by, upload_id)
    return intake.receive_held(by, upload_id, **asked)


def words(text: str) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _states(named: str) -> frozenset[JobState]:
    wanted = {word.upper() for word in words(named)}
    unknown = wanted - set(JobState)
    if unknown:
        raise BadRequest(
            f"{', '.join(sorted(unknown))} is no state; there are {', '.join(JobState)}.", "state"
        )
    return frozenset(map(JobState, wanted))
