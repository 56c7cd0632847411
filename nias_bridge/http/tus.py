"""Uploads that go on where they broke off, by tus 1.0 (https://tus.io): for programs and for pages.

Programs have it under /api/v1/uploads, by token; pages under /uploads, by cookie and the page's
token in X-CSRFToken. A finished one is named in POST /api/v1/runs?upload=… or in the page's form.
"""

from __future__ import annotations

import base64
import binascii
from functools import partial
from http import HTTPStatus

from apiflask import APIBlueprint
from flask import Response, json, request, url_for
from werkzeug.exceptions import (
    BadRequest,
    MethodNotAllowed,
    PreconditionFailed,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)
from werkzeug.http import http_date

from nias_bridge.http.here import bridge
from nias_bridge.http.patience import parts
from nias_bridge.http.security import csrf
from nias_bridge.services import deliveries, pieces, quotas

VERSION = "1.0.0"
EXTENSIONS = "creation,termination,checksum,expiration"
PIECE = "application/offset+octet-stream"
CHECKSUM_MISMATCH = 460
METADATA_MOST = 4096
_PART_BYTES = 1024 * 1024  # what a gateway that is killed loses at most of a piece
for_programs = APIBlueprint("uploads", __name__, url_prefix="/api/v1/uploads", enable_openapi=False)
for_pages = APIBlueprint("page_uploads", __name__, url_prefix="/uploads", enable_openapi=False)


def discover() -> Response:
    """What this server understands of the protocol."""
    return _done(
        {
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(quotas.largest_piece(bridge())),
            "Tus-Checksum-Algorithm": ",".join(pieces.ALGORITHMS),
        }
    )


def create() -> Response:
    """Make place for an upload; its address is in Location."""
    size, metadata = _number("Upload-Length"), request.headers.get("Upload-Metadata", "")
    told = words(metadata)
    kind = told.get("kind", pieces.PROJECT)
    if kind not in (pieces.PROJECT, pieces.DATASET):
        raise BadRequest(f"The kind in Upload-Metadata is {pieces.PROJECT} or {pieces.DATASET}.")
    if size > pieces.most_of(bridge(), kind):
        raise RequestEntityTooLarge
    if kind == pieces.DATASET:
        deliveries.expect(bridge(), size, told.get("name", ""))
    begun = pieces.begin(bridge(), size, told.get("filename", ""), metadata, kind)
    where = url_for(".upload", upload_id=begun.id)
    return _done({"Location": where, **_expiry(begun)}, HTTPStatus.CREATED)


def look(upload_id: str) -> Response:
    """How much of an upload is here."""
    coming = pieces.find(bridge(), upload_id)
    told = {
        "Upload-Offset": str(coming.offset),
        "Upload-Length": str(coming.size),
        "Cache-Control": "no-store",
        **_expiry(coming),
    }
    if coming.metadata:
        told["Upload-Metadata"] = coming.metadata
    return _done(told, HTTPStatus.OK)


def send(upload_id: str) -> Response:
    """Take a piece of an upload."""
    if request.mimetype != PIECE:
        raise UnsupportedMediaType(f"A piece has the content type {PIECE}.")
    offset, checksum = _number("Upload-Offset"), request.headers.get("Upload-Checksum")
    coming = pieces.find(bridge(), upload_id)
    if offset + (request.content_length or 0) > coming.size:
        raise RequestEntityTooLarge
    append = pieces.append
    if checksum is not None:
        append = partial(pieces.append_checked, checksum=_checksum(checksum))
    try:
        coming = append(bridge(), upload_id, offset, parts(request, _PART_BYTES))
    except pieces.Damaged as error:
        problem = {"type": "urn:nias-bridge:damaged", "title": "Checksum Mismatch"}
        told = json.dumps({**problem, "status": CHECKSUM_MISMATCH, "detail": str(error)})
        status = f"{CHECKSUM_MISMATCH} Checksum Mismatch"
        return Response(told, status=status, mimetype="application/problem+json")
    return _done({"Upload-Offset": str(coming.offset), **_expiry(coming)})


def end(upload_id: str) -> Response:
    """Forget an upload."""
    pieces.end(bridge(), upload_id)
    return _done({})


METHODS = {"HEAD": look, "PATCH": send, "DELETE": end}


def upload(upload_id: str) -> Response:
    """What is asked of one upload; a POST can say which method it stands for."""
    if request.method == "OPTIONS":
        return discover()
    method = request.method
    if method == "POST":
        method = request.headers.get("X-HTTP-Method-Override", "").upper()
    if method not in METHODS:
        raise MethodNotAllowed(["OPTIONS", *METHODS])
    return METHODS[method](upload_id)


def uploads() -> Response:
    """What is asked of all uploads together."""
    return discover() if request.method == "OPTIONS" else create()


def _check_version() -> None:
    if request.method != "OPTIONS" and request.headers.get("Tus-Resumable") != VERSION:
        raise PreconditionFailed(f"Send the header Tus-Resumable: {VERSION}.")


def _allow() -> None:
    """A piece may be as long as an upload; one that a page sends has the page's token."""
    request.max_content_length = quotas.largest_piece(bridge())
    if request.blueprint == for_pages.name:
        csrf.protect()


def _say_version(response: Response) -> Response:
    response.headers["Tus-Version"] = VERSION
    if request.method != "OPTIONS":
        response.headers["Tus-Resumable"] = VERSION
    return response


for blueprint in (for_programs, for_pages):
    blueprint.before_request(_check_version)
    blueprint.before_request(_allow)
    blueprint.after_request(_say_version)
    blueprint.add_url_rule(
        "", view_func=uploads, methods=["OPTIONS", "POST"], provide_automatic_options=False
    )
    blueprint.add_url_rule(
        "/<upload_id>",
        view_func=upload,
        methods=["OPTIONS", "POST", *METHODS],
        provide_automatic_options=False,
    )
    csrf.exempt(blueprint)  # _allow looks for pages, once a body may be long


def _done(headers: dict[str, str], status: HTTPStatus = HTTPStatus.NO_CONTENT) -> Response:
    return Response(status=status, headers=headers)


def _expiry(coming: pieces.Arriving) -> dict[str, str]:
    return {"Upload-Expires": http_date(coming.expires_at)}


def _number(header: str) -> int:
    written = request.headers.get(header, "")
    if not (written.isascii() and written.isdigit()) or len(written) > 18:
        raise BadRequest(f"The header {header} is missing, or is no count of bytes.")
    return int(written)


def words(metadata: str) -> dict[str, str]:
    """The words that came with an upload, by their names."""
    if len(metadata) > METADATA_MOST:
        raise BadRequest(f"Upload-Metadata is longer than {METADATA_MOST} characters.")
    pairs = (pair.strip().partition(" ") for pair in metadata.split(",") if pair.strip())
    try:
        return {
            name: base64.b64decode(written, validate=True).decode() for name, _, written in pairs
        }
    except ValueError:
        raise BadRequest("A word in Upload-Metadata is not base64 of UTF-8.") from None


def _checksum(header: str) -> pieces.Checksum:
    algorithm, _, written = header.partition(" ")
    try:
        digest = base64.b64decode(written, validate=True)
    except binascii.Error:
        digest = b""
    if algorithm not in pieces.ALGORITHMS or not digest:
        raise BadRequest(f"Upload-Checksum is one of {', '.join(pieces.ALGORITHMS)} and base64.")
    return pieces.Checksum(algorithm, digest)
