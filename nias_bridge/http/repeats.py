"""Submissions by programs that send them again when no answer came: `Idempotency-Key`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from http import HTTPStatus
from pathlib import PurePosixPath

from flask import request, url_for

from nias_bridge.domain import Run
from nias_bridge.http import answers
from nias_bridge.http.here import bridge
from nias_bridge.http.schemas import RunOut
from nias_bridge.services import desk
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.once import once

HEADER = "Idempotency-Key"
REPEATED = "Idempotent-Replayed"  # in an answer to what had been submitted before
PARAMETER = {
    "in": "header",
    "name": HEADER,
    "description": "Sent again under the same key within a day, it makes no second run",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
Accepted = tuple[RunOut, int, dict[str, str]]


def accepted(
    submit: Callable[[Bridge], Run], zipped: PurePosixPath | None = None, filename: str = ""
) -> Accepted:
    """The answer to a submission: the run, made now or when this was sent before."""
    word = request.headers.get(HEADER)
    if word is None:
        run, before = submit(bridge()), False
    else:
        run, before = once(bridge(), word, _fingerprint(zipped, filename), submit)
    headers = {"Location": url_for("api.run", run_id=run.id)}
    if before:
        headers[REPEATED] = "true"
    return answers.status_out(desk.status(bridge(), run)), HTTPStatus.ACCEPTED, headers


def _fingerprint(zipped: PurePosixPath | None, filename: str) -> str:
    """Of all that is asked for."""
    asked = (request.path, sorted(request.args.items(multi=True)), filename)
    digest = hashlib.sha256(repr(asked).encode("utf-8", "replace"))
    if zipped is not None:
        digest.update(bytes.fromhex(bridge().storage.sha256(zipped)))
    return digest.hexdigest()
