"""A sweep as pages: its tasks as a table, one task, their pictures, the table as CSV."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from nias_bridge.http import downloads
from nias_bridge.http.here import bridge
from nias_bridge.http.live import fragment
from nias_bridge.services import identity, previews, sweeps, tasktable

blueprint = Blueprint("sweeps", __name__, url_prefix="/runs/<int:run_id>")

LOG_SHOWN_BYTES = 64 * 1024
PICTURES_A_PAGE = 60


@blueprint.get("/tasks/live")
def tasks_live(run_id: int) -> Response:
    """The part of a sweep's page that changes."""
    return fragment("_tasks_live.html", **shown(run_id))


@blueprint.get("/tasks.csv")
def table(run_id: int) -> Response:
    """All tasks as CSV."""
    return csv_of(run_id)


@blueprint.get("/pictures")
def pictures(run_id: int) -> str:
    """Each task's first picture."""
    view = sweeps.show(bridge(), run_id)
    page = max(1, request.args.get("page", 1, type=int))
    some = view.tasks[(page - 1) * PICTURES_A_PAGE : page * PICTURES_A_PAGE]
    return render_template(
        "pictures.html",
        run=view.run,
        pictures=list(sweeps.pictures(bridge(), view.run, some)),
        page=page,
        pages=-(-len(view.tasks) // PICTURES_A_PAGE),
    )


@blueprint.post("/failed-again")
def failed_again(run_id: int) -> ResponseReturnValue:
    """A new run of the tasks that did not end well."""
    new = sweeps.failed_again(bridge(), run_id)
    return redirect(url_for("pages.run", run_id=new.id), HTTPStatus.SEE_OTHER)


@blueprint.get("/tasks/<int:index>")
def task(run_id: int, index: int) -> str:
    """One task."""
    log = sweeps.log(bridge(), run_id, index, -1, LOG_SHOWN_BYTES)
    return render_template("task.html", log=log, **_shown_task(run_id, index))


@blueprint.get("/tasks/<int:index>/live")
def task_live(run_id: int, index: int) -> Response:
    """The part of a task's page that changes."""
    return fragment("_task_live.html", **_shown_task(run_id, index))


@blueprint.post("/tasks/<int:index>/cancel")
def cancel(run_id: int, index: int) -> ResponseReturnValue:
    """Ask for one task to be cancelled."""
    sweeps.cancel(bridge(), run_id, index)
    where = url_for("sweeps.task", run_id=run_id, index=index)
    return redirect(where, HTTPStatus.SEE_OTHER)


@blueprint.get("/tasks/<int:index>/log.txt")
def log(run_id: int, index: int) -> Response:
    """The whole log of a task."""
    return downloads.task_log(run_id, index)


@blueprint.get("/tasks/<int:index>/results.zip")
def results(run_id: int, index: int) -> Response:
    """What one task left."""
    return downloads.task_results(run_id, index)


@blueprint.get("/tasks/<int:index>/files/<path:path>")
def output_file(run_id: int, index: int, path: str) -> Response:
    """One file that a task left."""
    return downloads.task_file(run_id, index, path)


def shown(run_id: int) -> dict[str, Any]:
    """What the templates of a sweep's tasks are told: the rows that the address asks for."""
    view, look = sweeps.show(bridge(), run_id), _look()
    return {
        "run": view.run,
        "sweep": view,
        "look": look,
        "rows": tasktable.rows(view.tasks, look),
        "table_pages": tasktable.pages(view.tasks),
    }


def _look() -> tasktable.Look:
    asked = request.args
    page = max(1, asked.get("page", 1, type=int))
    return tasktable.Look(
        column=asked.get("sort", "task"),
        down=asked.get("order") == "down",
        page=None if asked.get("page") == "all" else page,
    )


def csv_of(run_id: int) -> Response:
    """All tasks as a CSV to download."""
    view = sweeps.show(bridge(), run_id)
    response = Response(sweeps.table(view), mimetype="text/csv")
    name = f"{view.run.project}-{view.run.number}-tasks.csv"
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response


def _shown_task(run_id: int, index: int) -> dict[str, Any]:
    view = sweeps.show_task(bridge(), run_id, index)
    return {
        "view": view,
        "run": view.run,
        "task": view.task,
        "cancels": identity.can_cancel(bridge(), view.run),
        "previews": previews.previews(bridge(), view.run, index) if view.task.state.ended else {},
    }
