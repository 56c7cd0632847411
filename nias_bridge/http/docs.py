"""The API's interactive page, made of Swagger UI's files as its package ships them."""

from __future__ import annotations

from pathlib import Path

import flask_swagger_ui
from flask import Blueprint, Response, abort, render_template, send_from_directory

blueprint = Blueprint("docs", __name__, url_prefix="/api/docs")

FOLDER = Path(flask_swagger_ui.__file__).parent / "dist"
FILES = frozenset({"swagger-ui.css", "swagger-ui-bundle.js"})


@blueprint.get("")
def page() -> str:
    """The API, to read and to try."""
    return render_template("api_docs.html")


@blueprint.get("/<name>")
def file(name: str) -> Response:
    """One of Swagger UI's files."""
    if name not in FILES:
        abort(404)
    return send_from_directory(FOLDER, name, max_age=24 * 3600)
