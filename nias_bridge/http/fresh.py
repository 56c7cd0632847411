"""Cheap polling: an answer is named by what it is made of, and is not made again for who has it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from http import HTTPStatus
from importlib.metadata import version

from flask import Flask, Response, abort, after_this_request, current_app, jsonify, request
from pydantic import BaseModel

VERSION = version("nias-bridge")  # another one may say the same in other words
KEY = "nias_answers"
KEPT, LONGEST = 1000, 16 * 1024  # answers, and bytes of one


def init_app(app: Flask) -> None:
    """Keep what the app answered, by the names of the answers."""
    app.extensions[KEY] = {}


def answer(make: Callable[[], BaseModel], *facts: object) -> Response:
    """What is made of these facts, which are as `settle` has them: 304 for who has it, and made
    anew only where it was not made lately."""
    tag = _tag(facts)
    if request.if_none_match.contains_weak(tag):
        return _named(Response(status=HTTPStatus.NOT_MODIFIED), tag)
    kept: dict[str, bytes] = current_app.extensions[KEY]
    body = kept.get(tag)
    if body is None:
        body = jsonify(make()).get_data()
        if len(kept) >= KEPT:
            kept.clear()
        if len(body) <= LONGEST:
            kept[tag] = body
    return _named(Response(body, mimetype="application/json"), tag)


def settle(*facts: object) -> None:
    """Name the answer by these facts (ETag); where the client has that one, answer 304 at once.

    The facts are nouns of the domain, whose repr is the same in every process.
    """
    tag = _tag(facts)
    if request.if_none_match.contains_weak(tag):
        abort(_named(Response(status=HTTPStatus.NOT_MODIFIED), tag))

    @after_this_request
    def name(response: Response) -> Response:
        # An error that came after is not the answer.
        return _named(response, tag) if response.status_code == HTTPStatus.OK else response


def _tag(facts: tuple[object, ...]) -> str:
    told = repr((VERSION, request.full_path, facts)).encode("utf-8", "replace")
    return hashlib.blake2b(told, digest_size=12).hexdigest()


def _named(response: Response, tag: str) -> Response:
    response.set_etag(tag, weak=True)
    return response
