"""The researcher's road as JSON, under /api/v1."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from apiflask import APIBlueprint, FileSchema
from flask import Response, url_for

from nias_bridge.domain import Filter, JobState, Resources, Run
from nias_bridge.errors import BadRequest
from nias_bridge.http import answers, comparisons, downloads, schemas, uploads
from nias_bridge.http.here import bridge
from nias_bridge.http.schemas import (
    AgainQuery,
    CorrectQuery,
    FilesOut,
    HealthOut,
    LogOut,
    LogQuery,
    PageOut,
    RunOut,
    RunsQuery,
    SubmitQuery,
)
from nias_bridge.services import checkup, comparison, desk, intake, pieces, previews, record

blueprint = APIBlueprint("api", __name__, url_prefix="/api/v1", tag="Runs")

SUBMIT_BODY = {
    "required": False,
    "content": {
        "application/zip": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [uploads.FIELD],
                "properties": {uploads.FIELD: {"type": "string", "format": "binary"}},
            }
        },
    },
}
PROBLEM = {
    "description": "What is wrong, in a sentence",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


@blueprint.post("/runs")
@blueprint.input(SubmitQuery, location="query")
@blueprint.output(RunOut, status_code=202)
def submit(query_data: SubmitQuery) -> tuple[RunOut, int, dict[str, str]]:
    """Upload a project and run it

    The body is the zip, or a form with the field `file`. Or `upload` names what came by tus: it is
    kept where its project is already there or its requirements need mending.
    """
    accept = _received(query_data)
    run = accept(
        again=query_data.again,
        mend=query_data.mend,
        add=query_data.add,
        resources=Resources(
            time=query_data.time,
            memory=query_data.memory,
            cpus=query_data.cpus,
            gpus=query_data.gpus,
            partition=query_data.partition,
        ),
    )
    where = url_for("api.run", run_id=run.id)
    return answers.view_out(desk.show(bridge(), run.id)), HTTPStatus.ACCEPTED, {"Location": where}


@blueprint.get("/runs")
@blueprint.input(RunsQuery, location="query")
@blueprint.output(PageOut)
def runs(query_data: RunsQuery) -> PageOut:
    """All runs, newest first, a page at a time"""
    wanted = Filter(
        owners=frozenset({bridge().person.handle}),
        text=query_data.q,
        states=_states(query_data.state),
        pinned=query_data.pinned,
        page=query_data.page,
        per_page=query_data.per_page,
    )
    return answers.page_out(desk.runs(bridge(), wanted))


@blueprint.get("/runs/<int:run_id>")
@blueprint.output(RunOut)
def run(run_id: int) -> RunOut:
    """One run"""
    view = desk.show(bridge(), run_id)
    return answers.view_out(view, checkup.diagnosis(bridge(), view.run, view.evidence))


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
    desk.cancel(bridge(), run_id)
    return answers.view_out(desk.show(bridge(), run_id))


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
    desk.pin(bridge(), run_id, True)
    return answers.view_out(desk.show(bridge(), run_id))


@blueprint.delete("/runs/<int:run_id>/pin")
@blueprint.output(RunOut)
def unpin(run_id: int) -> RunOut:
    """Keep a run no longer than others"""
    desk.pin(bridge(), run_id, False)
    return answers.view_out(desk.show(bridge(), run_id))


@blueprint.post("/runs/<int:run_id>/again")
@blueprint.input(AgainQuery, location="query")
@blueprint.output(RunOut, status_code=202)
def again(run_id: int, query_data: AgainQuery) -> RunOut:
    """Run the same zip once more, as a new run"""
    repeat = record.again_exactly if query_data.exactly else desk.again
    return answers.view_out(desk.show(bridge(), repeat(bridge(), run_id).id))


@blueprint.post("/runs/<int:run_id>/correct")
@blueprint.input(CorrectQuery, location="query")
@blueprint.output(RunOut, status_code=202)
def correct(run_id: int, query_data: CorrectQuery) -> RunOut:
    """Run the same zip once more with the correction that its diagnosis offers"""
    return answers.view_out(
        desk.show(bridge(), checkup.treat(bridge(), run_id, query_data.rule).id)
    )


@blueprint.get("/compare")
@blueprint.input(comparisons.CompareQuery, location="query")
@blueprint.output(comparisons.ComparisonOut)
def compare(query_data: comparisons.CompareQuery) -> comparisons.ComparisonOut:
    """Two runs of a project side by side"""
    return comparisons.out(comparison.compare(bridge(), query_data.a, query_data.b))


@blueprint.get("/health")
@blueprint.output(HealthOut)
@blueprint.doc(tags=["Site"])
def health() -> tuple[HealthOut, int]:
    """Whether database, storage, Slurm and poller work; 503 when one does not"""
    state = desk.health(bridge())
    well = HTTPStatus.OK if state.well else HTTPStatus.SERVICE_UNAVAILABLE
    return answers.health_out(state), well


def _received(query: SubmitQuery) -> Callable[..., Run]:
    """What makes a run of the zip that this request sends, or that came before it."""
    if query.upload:
        pieces.finish(bridge(), query.upload)
        return partial(intake.receive_held, bridge(), query.upload)
    return partial(intake.receive, bridge(), *uploads.take())


def complete_spec(spec: Any) -> Any:
    """Say in the OpenAPI description what APIFlask can't know: streamed bodies, our problems."""
    spec["paths"]["/api/v1/runs"]["post"]["requestBody"] = SUBMIT_BODY
    known = spec["components"]["schemas"]
    known.pop("ValidationError", None)
    known["Problem"] = schemas.Problem.model_json_schema()
    for ways in spec["paths"].values():
        for way in ways.values():
            answers = {s: a for s, a in way["responses"].items() if not s.startswith("4")}
            way["responses"] = {**answers, "4XX": PROBLEM}
    return spec


def _states(words: str) -> frozenset[JobState]:
    wanted = {word.strip().upper() for word in words.split(",") if word.strip()}
    unknown = wanted - set(JobState)
    if unknown:
        raise BadRequest(
            f"{', '.join(sorted(unknown))} is no state; there are {', '.join(JobState)}.", "state"
        )
    return frozenset(map(JobState, wanted))
