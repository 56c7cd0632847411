"""Fragments of pages that web/static/nias.js asks for again and again."""

from __future__ import annotations

from typing import Any

from flask import Response, make_response, render_template, request


def fragment(template: str, **context: Any) -> Response:
    """A fragment; unchanged, it is a 304 without a body."""
    response = make_response(render_template(template, **context))
    response.add_etag()
    response.make_conditional(request)
    return response
