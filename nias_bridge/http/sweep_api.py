"""A sweep as JSON, under /api/v1/runs/<id>/tasks."""

from __future__ import annotations

from datetime import datetime

from apiflask import APIBlueprint, FileSchema
from flask import Response, url_for
from pydantic import BaseModel

from nias_bridge.domain import JobState
from nias_bridge.http import answers, downloads, fresh, repeats
from nias_bridge.http.here import bridge
from nias_bridge.http.schemas import FileOut, LogOut, LogQuery, RunOut
from nias_bridge.http.sweeps import csv_of
from nias_bridge.services import sweeps
from nias_bridge.tasks import Task

blueprint = APIBlueprint(
    "sweep_api", __name__, url_prefix="/api/v1/runs/<int:run_id>", tag="Sweeps"
)


class TaskOut(BaseModel):
    """One task of a sweep; `metrics` are the numbers of its output/metrics.json.

    While it runs, `cpu_seconds` and `max_rss_bytes` (its peak) are as of `measured_at`. Once it has
    ended its peak is the larger of what Slurm and the node saw: each can only be too small.
    """

    index: int
    parameters: dict[str, str | int | float | bool]
    state: JobState
    ended: bool
    note: str
    cancel_asked: bool
    started_at: datetime | None
    seconds: int | None
    exit_code: int | None
    node: str
    cpu_seconds: float | None
    max_rss_bytes: int | None
    measured_at: datetime | None
    metrics: dict[str, float]
    links: dict[str, str]


class TasksOut(BaseModel):
    """All tasks of a sweep, in order."""

    parameters: list[str]
    metrics: list[str]
    tasks: list[TaskOut]


class TaskFilesOut(BaseModel):
    """What a task left in output/."""

    collected: bool
    files: list[FileOut]


@blueprint.get("/tasks")
@blueprint.output(TasksOut)
def tasks(run_id: int) -> TasksOut:
    """The tasks of a sweep"""
    view = sweeps.show(bridge(), run_id)
    fresh.settle(view.tasks)
    return TasksOut(
        parameters=list(view.parameters),
        metrics=list(view.metrics),
        tasks=[_task_out(task) for task in view.tasks],
    )


@blueprint.get("/tasks.csv")
@blueprint.output(FileSchema, content_type="text/csv")
def table(run_id: int) -> Response:
    """The tasks as CSV: parameters, state, seconds, metrics"""
    return csv_of(run_id)


@blueprint.get("/tasks/<int:index>")
@blueprint.output(TaskOut)
def task(run_id: int, index: int) -> TaskOut:
    """One task"""
    return _task_out(sweeps.show_task(bridge(), run_id, index).task)


@blueprint.get("/tasks/<int:index>/log")
@blueprint.input(LogQuery, location="query")
@blueprint.output(LogOut)
def log(run_id: int, index: int, query_data: LogQuery) -> LogOut:
    """A task's log as it grows, from an offset"""
    part = sweeps.log(bridge(), run_id, index, query_data.offset, query_data.limit)
    return answers.log_out(part)


@blueprint.get("/tasks/<int:index>/files")
@blueprint.output(TaskFilesOut)
def files(run_id: int, index: int) -> TaskFilesOut:
    """What a task left in output/"""
    view = sweeps.show_task(bridge(), run_id, index)

    def link(path: str) -> str:
        return url_for("sweep_api.output_file", run_id=run_id, index=index, path=path)

    return TaskFilesOut(collected=view.results_ready, files=answers.listed(view.files, link))


@blueprint.get("/tasks/<int:index>/files/<path:path>")
@blueprint.output(FileSchema, content_type="application/octet-stream")
def output_file(run_id: int, index: int, path: str) -> Response:
    """One file that a task left; ranges are understood"""
    return downloads.task_file(run_id, index, path)


@blueprint.get("/tasks/<int:index>/results.zip")
@blueprint.output(FileSchema, content_type="application/zip")
def results(run_id: int, index: int) -> Response:
    """All that a task left as a zip; ranges are understood"""
    return downloads.task_results(run_id, index)


@blueprint.post("/tasks/<int:index>/cancel")
@blueprint.output(TaskOut, status_code=202)
def cancel(run_id: int, index: int) -> TaskOut:
    """Ask for one task to be cancelled"""
    return _task_out(sweeps.cancel(bridge(), run_id, index))


@blueprint.post("/failed-again")
@blueprint.output(RunOut, status_code=202)
def failed_again(run_id: int) -> repeats.Accepted:
    """Run the tasks again that did not end well, as a new run"""
    return repeats.accepted(lambda by: sweeps.failed_again(by, run_id))


def _task_out(task: Task) -> TaskOut:
    report = task.report
    names = ("task", "log", "files", "results", "cancel")
    return TaskOut(
        index=task.index,
        parameters=dict(task.parameters),
        state=task.state,
        ended=task.state.ended,
        note=task.note,
        cancel_asked=task.cancel_asked_at is not None,
        started_at=report.started_at if report else None,
        seconds=task.seconds,
        exit_code=report.exit_code if report and task.state.ended else None,
        node=report.nodes if report else "",
        cpu_seconds=report.cpu_time if report else None,
        max_rss_bytes=report.max_rss if report else None,
        measured_at=report.measured_at if report else None,
        metrics=dict(task.metrics),
        links={
            "self" if name == "task" else name: url_for(
                f"sweep_api.{name}", run_id=task.run_id, index=task.index
            )
            for name in names
        },
    )
