"""Files that a job left, given to a browser so that they can do no harm there."""

from __future__ import annotations

import io
import json
import mimetypes
import zipfile
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import quote

from flask import Response, request, send_file
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from nias_bridge.assets import asset
from nias_bridge.http.here import bridge
from nias_bridge.http.security import SANDBOX
from nias_bridge.reach import Opened
from nias_bridge.services import crate as crates
from nias_bridge.services import desk, sweeps, zipstream
from nias_bridge.services import record as records

# Shown in place; anything else is only ever downloaded. SVG is a document with scripts: not here.
SHOWN = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
EXAMPLE = "power-spectrum"
# Conditions on a file's ETag: nginx, which has ETags of its own, would decide them otherwise.
BY_ETAG = ("If-Range", "If-Match", "If-Unmodified-Since")
BY_NGINX = ("Accept-Ranges", "Content-Length", "Content-Range", "Last-Modified")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def is_shown(path: str) -> bool:
    """Whether a file of this name is an image that a page shows in place."""
    return _type_of(path) in SHOWN


def output_file(run_id: int, path: str) -> Response:
    """One file of output/; ranges and 304 are understood. Raises NotFound."""
    return send(desk.output_file(bridge(), run_id, path), PurePosixPath(path).name)


def results(run_id: int) -> Response:
    """All of output/ as a zip; of a sweep every task's. Raises NotFound, NotPossible."""
    run = desk.find(bridge(), run_id)
    if run.tasks:
        return _sweep_results(run_id)
    file = desk.results(bridge(), run_id)
    return send(file, f"{run.project}-{run.number}-results.zip")


def _sweep_results(run_id: int) -> Response:
    run, parts = sweeps.results(bridge(), run_id)
    return _streamed(parts, f"{run.project}-{run.number}-results.zip")


def task_file(run_id: int, index: int, path: str) -> Response:
    """One file that a task left. Raises NotFound."""
    return send(sweeps.output_file(bridge(), run_id, index, path), PurePosixPath(path).name)


def task_results(run_id: int, index: int) -> Response:
    """The zip of one task. Raises NotFound."""
    run = desk.find(bridge(), run_id)
    file = sweeps.task_results(bridge(), run_id, index)
    return send(file, f"{run.project}-{run.number}-task-{index}.zip")


def lock(run_id: int) -> Response:
    """requirements.lock: what was installed for the run. Raises NotFound."""
    run = desk.show(bridge(), run_id).run
    return send(desk.lock(bridge(), run_id), f"{run.slug}-{run.number}-requirements.lock")


def record(run_id: int) -> Response:
    """The record of a run. Raises NotFound."""
    told = records.record(bridge(), run_id)
    # A job can write what no text may hold: such a character becomes a question mark.
    body = json.dumps(told, ensure_ascii=False, indent=1).encode("utf-8", "replace")
    response = Response(body, mimetype="application/json")
    name = f"{told['project']}-{told['number']}-run.json"
    response.headers.set("Content-Disposition", "inline", filename=name)
    return response


def crate(run_id: int) -> Response:
    """The run as an RO-Crate, put together while it is sent. Raises NotFound, NotPossible."""
    run = desk.find(bridge(), run_id)
    return _streamed(crates.parts(bridge(), run), f"{run.project}-{run.number}.crate.zip")


def log(run_id: int) -> Response:
    """The whole log as it was written, however long; ranges are understood. Raises NotFound."""
    run = desk.find(bridge(), run_id)
    return send(desk.whole_log(bridge(), run_id), f"{run.slug}-{run.number}-log.txt")


def task_log(run_id: int, index: int) -> Response:
    """The whole log of a task. Raises NotFound."""
    run = desk.find(bridge(), run_id)
    name = f"{run.slug}-{run.number}-{index}-log.txt"
    return send(sweeps.whole_log(bridge(), run_id, index), name)


def example() -> Response:
    """The example project as a zip, made on the fly."""
    buffer = io.BytesIO()
    folder = asset("examples") / EXAMPLE
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("code.py", "requirements.txt"):
            entry = zipfile.ZipInfo(f"{EXAMPLE}/{name}", _EPOCH)
            archive.writestr(entry, (folder / name).read_bytes())
        archive.writestr(zipfile.ZipInfo(f"{EXAMPLE}/output/", _EPOCH), b"")
    buffer.seek(0)
    return send_file(
        buffer, mimetype="application/zip", as_attachment=True, download_name=f"{EXAMPLE}.zip"
    )


def _streamed(parts: Sequence[zipstream.Part], name: str) -> Response:
    """A zip that is put together while it is sent."""
    response = Response(zipstream.stream(parts), mimetype="application/zip")
    response.content_length = zipstream.length(parts)
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response


def send(file: Opened, name: str, kind: str = "") -> Response:
    """A file, opened, under this name; a kind that is given is shown in place."""
    shown = bool(kind)
    kind = kind or _type_of(name)
    response = send_file(
        file,
        mimetype=kind,
        as_attachment=not shown and kind not in SHOWN,
        download_name=name,
        conditional=False,
        max_age=0,
    )
    # An open file says nothing of its size by itself; ranges and 304 need it.
    info = file.info
    response.content_length = info.size
    response.last_modified = info.modified  # type: ignore[assignment]
    response.set_etag(f"{info.modified_ns:x}-{info.size:x}")
    response.headers["Content-Security-Policy"] = SANDBOX
    try:
        response.make_conditional(request, accept_ranges=True, complete_length=info.size)
    except RequestedRangeNotSatisfiable:
        file.close()
        raise
    response.call_on_close(file.close)  # a 304 sends nothing, and so would never close it
    return _left_to_nginx(response, file) or response


def _left_to_nginx(response: Response, file: Opened) -> Response | None:
    """The same answer with the name of the file in place of its bytes, where nginx is to send them.

    nginx opens the file anew, by its name, and has to refuse links itself (docs/nginx).
    """
    location, sent = bridge().settings.accel_redirect, response.status_code in (200, 206)
    if location is None or not sent or request.method != "GET":
        return None
    ranged = "Range" in request.headers
    if ranged != (response.status_code == 206) or any(name in request.headers for name in BY_ETAG):
        return None
    root = bridge().paths.root
    # One that is read over a connection is on no disk of nginx's.
    if not isinstance(file.raw, io.FileIO) or not file.path.is_relative_to(root):
        return None
    response.response, response.direct_passthrough = [], False
    response.status_code = 200
    for named in BY_NGINX:
        response.headers.pop(named, None)
    inside = quote(str(file.path.relative_to(root)), errors="surrogateescape")
    response.headers["X-Accel-Redirect"] = f"{location}/{inside}"
    return response


def _type_of(path: str) -> str:
    kind, encoding = mimetypes.guess_type(path)
    return "application/octet-stream" if kind is None or encoding else kind
