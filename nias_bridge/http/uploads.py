"""The body of an upload, streamed once, straight to shared storage."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import PurePosixPath
from typing import IO

from flask import Flask, Request, g, request
from werkzeug.http import parse_options_header

from nias_bridge.errors import BadUpload, StorageUnreachable
from nias_bridge.http import metrics
from nias_bridge.http.here import bridge
from nias_bridge.http.patience import parts
from nias_bridge.services import held, quotas

FIELD = "file"
FORM_ROOM = 64 * 1024  # bytes that a form adds around its file
_CHUNK = 1024 * 1024


class UploadRequest(Request):
    """A request whose uploaded file lands where it is judged, not in a temporary file first."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        if _parts():
            raise BadUpload("More than one file was sent. Send one zip at a time.")
        return _new_part()


def init_app(app: Flask) -> None:
    """Let the app stream uploads, and forget those that nobody took."""
    app.request_class = UploadRequest
    app.teardown_request(_forget_parts)


def most() -> int:
    """The largest zip that is taken of who asks, in bytes."""
    return quotas.largest_upload(bridge())


def allow_upload(limit: int | None = None) -> None:
    """Let this request's body be as long as an upload may be; longer ones end in a 413.

    limit: bytes of its file; None: of a project's.
    """
    request.max_content_length = (most() if limit is None else limit) + FORM_ROOM


def announced() -> int:
    """Bytes that the file of this request has at least, by what is said of the body."""
    form = request.mimetype == "multipart/form-data"
    return max(0, (request.content_length or 0) - (FORM_ROOM if form else 0))


def take(limit: int | None = None) -> tuple[PurePosixPath, str]:
    """The file of this request, and the name it was sent under ("" where it had none).

    limit: as for `allow_upload`. The body is the file itself, or a form with the field `file`. The
    file is the caller's from now on. Raises BadUpload when nothing came, or not all of it.
    """
    allow_upload(limit)
    filename = _take_field() if request.mimetype == "multipart/form-data" else _take_body()
    ((part, file),) = _parts().items()
    file.seek(0, io.SEEK_END)
    size = file.tell()
    file.close()
    quotas.check_upload(bridge(), size, limit)
    _parts().clear()
    metrics.received(size)
    return part, filename


def _take_field() -> str:
    sent = request.files.get(FIELD)
    if sent is None:
        raise BadUpload(
            f"No file arrived in the form's field “{FIELD}”, or the upload broke off. "
            "Choose the zip of your project and send it again."
        )
    if not sent.filename:
        raise BadUpload("No file was chosen. Choose the zip of your project.")
    return sent.filename


def _take_body() -> str:
    file = _new_part()
    for data in parts(request, _CHUNK):
        file.write(data)
    received = file.tell()
    announced = request.content_length
    if announced is not None and received != announced:
        raise BadUpload(
            f"The upload broke off: {received:,} of {announced:,} bytes arrived. Send it again."
        )
    _, options = parse_options_header(request.headers.get("Content-Disposition"))
    return request.args.get("filename") or options.get("filename") or ""


def _parts() -> dict[PurePosixPath, IO[bytes]]:
    """The files that this request made and nobody has taken yet."""
    return g.setdefault("parts", {})  # type: ignore[no-any-return]


def _new_part() -> IO[bytes]:
    part = held.new_part(bridge())
    file = bridge().storage.growing(part)
    _parts()[part] = file
    return file


def _forget_parts(_error: BaseException | None) -> None:
    for part, file in g.pop("parts", {}).items():
        with suppress(OSError, StorageUnreachable):
            bridge().storage.remove(part)
        with suppress(OSError, StorageUnreachable):  # a full disk takes no rest, which nobody wants
            file.close()
