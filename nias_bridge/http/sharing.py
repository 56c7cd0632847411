"""Links that show one run to whoever has them."""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from nias_bridge.http import who
from nias_bridge.http.here import bridge
from nias_bridge.services import desk, sharing

blueprint = Blueprint("sharing", __name__)

DAYS = (1, 7, 30, 365)


@blueprint.get("/shared/<secret>")
def open_link(secret: str) -> ResponseReturnValue:
    """Look at the run that a link shows."""
    run_id = sharing.run_of(bridge(), secret)
    who.remember_link(secret)
    return redirect(url_for("pages.run", run_id=run_id), HTTPStatus.SEE_OTHER)


@blueprint.get("/runs/<int:run_id>/share")
def page(run_id: int) -> str:
    """The links to a run."""
    return _page(run_id)


@blueprint.post("/runs/<int:run_id>/share")
def share(run_id: int) -> str:
    """A new link, which is shown this once."""
    secret = sharing.share(bridge(), run_id, request.form.get("days", 0, type=int))
    return _page(run_id, link=bridge().settings.url + url_for("sharing.open_link", secret=secret))


@blueprint.post("/runs/<int:run_id>/share/<int:key_id>/take-back")
def take_back(run_id: int, key_id: int) -> ResponseReturnValue:
    """The link shows nothing from now on."""
    sharing.take_back(bridge(), run_id, key_id)
    return redirect(url_for("sharing.page", run_id=run_id), HTTPStatus.SEE_OTHER)


def _page(run_id: int, link: str = "") -> str:
    return render_template(
        "share.html",
        run=desk.find_own(bridge(), run_id),
        links=sharing.links(bridge(), run_id),
        days=DAYS,
        link=link,
    )
