"""Results to look at: previews as pages and fragments, their pieces, HTML in a closed frame.

Each of a run, or of one task of a sweep.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from flask import Blueprint, Response, render_template, request

from nias_bridge.errors import NotFound
from nias_bridge.http import downloads
from nias_bridge.http.here import bridge
from nias_bridge.reach import Opened
from nias_bridge.services import desk, previews, sweeps

blueprint = Blueprint("looks", __name__)

PIECE_TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8"}
# An SVG is shown as an image, where nothing in it runs; opened by itself it may run nothing.
PIECE_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"
# HTML that a job wrote: with its own styles and pictures, and nothing else.
FRAME_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:; "
    "frame-ancestors 'self'; sandbox"
)
FRAME_MAX_BYTES = 20 * 1000 * 1000
HTML = frozenset({".html", ".htm"})


@blueprint.get("/runs/<int:run_id>/look/<path:path>")
@blueprint.get("/runs/<int:run_id>/tasks/<int:task>/look/<path:path>")
def look(run_id: int, path: str, task: int | None = None) -> str:
    """The preview of one file: a page, or with ?part its inner part for web/static/look.js."""
    found = previews.preview(bridge(), run_id, path, task)
    run = desk.find(bridge(), run_id)
    return render_template(
        "_look.html" if "part" in request.args else "look.html",
        run=run,
        task_index=task,
        path=path,
        preview=found,
        text=previews.text(bridge(), run_id, found, task),
    )


@blueprint.get("/runs/<int:run_id>/previews/<name>")
@blueprint.get("/runs/<int:run_id>/tasks/<int:task>/previews/<name>")
def piece(run_id: int, name: str, task: int | None = None) -> Response:
    """A picture or text of a preview."""
    kind = PIECE_TYPES.get(PurePosixPath(name).suffix, "")
    response = downloads.send(previews.piece(bridge(), run_id, name, task), name, kind)
    response.headers["Content-Security-Policy"] = PIECE_POLICY
    return response


@blueprint.get("/runs/<int:run_id>/frame/<path:path>")
@blueprint.get("/runs/<int:run_id>/tasks/<int:task>/frame/<path:path>")
def frame(run_id: int, path: str, task: int | None = None) -> Response:
    """An HTML file of the results, for a frame of ours: nothing in it runs or reaches anything."""
    if PurePosixPath(path).suffix.lower() not in HTML:
        raise NotFound(f"“{path}” is not HTML.")
    with _opened(run_id, path, task) as file:
        body = file.read(FRAME_MAX_BYTES)
    response = Response(body, mimetype="text/html")
    response.headers["Content-Security-Policy"] = FRAME_POLICY
    response.headers["X-Frame-Options"] = "SAMEORIGIN"
    return response


def _opened(run_id: int, path: str, task: int | None) -> Opened:
    if task is None:
        return desk.output_file(bridge(), run_id, path)
    return sweeps.output_file(bridge(), run_id, task, path)
