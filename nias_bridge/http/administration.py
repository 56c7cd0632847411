"""The administrator's pages; http/who.py lets nobody else in."""

from __future__ import annotations

import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from nias_bridge.errors import BadRequest, NiasError, NotPossible, Unreachable
from nias_bridge.http import runlists, who
from nias_bridge.http.errors import status_of
from nias_bridge.http.here import bridge, caller
from nias_bridge.http.live import fragment
from nias_bridge.people import KeyKind, Person, Quotas, Role
from nias_bridge.services import administration, environments, quotas, unclaimed

blueprint = Blueprint("administration", __name__, url_prefix="/admin")

# What is told where it was asked, instead of on a page of its own.
TOLD = (BadRequest, NotPossible, Unreachable)
GB, MB = 1000**3, 1000**2
# The links that a person can be given: which kind, and the page where each leads.
LINKS = {
    "sign-in": (KeyKind.SIGN_IN, "accounts.sign_in_link"),
    "password": (KeyKind.PASSWORD, "accounts.password_link"),
}
DECISIONS: dict[str, Callable[..., Person]] = {
    "approve": administration.approve,
    "disable": administration.disable,
    "enable": administration.enable,
}


def waiting() -> int:
    """How many people wait for the administrator who looks at a page."""
    return administration.waiting(bridge()) if caller().administers else 0


def unclaimed_count() -> int:
    """How many jobs are nobody's."""
    return len(unclaimed.jobs(bridge()))


@blueprint.get("")
def people() -> str:
    """Everybody, who waits on top."""
    return _people()


@blueprint.post("/people/<int:person_id>/<any(approve, disable, enable):decision>")
def decide(person_id: int, decision: str) -> ResponseReturnValue:
    """Let somebody in, or no longer."""
    try:
        DECISIONS[decision](bridge(), person_id)
    except TOLD as error:
        return _person(person_id, error=error), status_of(error)
    if request.form.get("back") == "people":
        return redirect(url_for("administration.people"), HTTPStatus.SEE_OTHER)
    return _back_to(person_id)


@blueprint.post("/invitations")
def invite() -> str:
    """A link by which somebody registers, which is shown this once."""
    secret = administration.invite(bridge())
    return _people(link=_absolute("accounts.invited", secret))


@blueprint.get("/people/<int:person_id>")
def person(person_id: int) -> str:
    """One person."""
    return _person(person_id)


@blueprint.post("/people/<int:person_id>/role")
def set_role(person_id: int) -> ResponseReturnValue:
    """Make her an administrator, or a researcher."""
    word = request.form.get("role", "")
    try:
        if word not in set(Role):
            raise BadRequest(f"A role is one of {', '.join(Role)}.", "role")
        administration.set_role(bridge(), person_id, Role(word))
    except TOLD as error:
        return _person(person_id, error=error), status_of(error)
    return _back_to(person_id)


@blueprint.post("/people/<int:person_id>/limits")
def set_limits(person_id: int) -> ResponseReturnValue:
    """Set her own limits."""
    try:
        open_runs = _number("open_runs")
        own = Quotas(
            stored_bytes=_bytes("stored", GB),
            open_runs=None if open_runs is None else int(open_runs),
            cpu_hours=_number("cpu_hours"),
            upload_bytes=_bytes("upload", MB),
        )
        administration.set_quotas(bridge(), person_id, own)
    except TOLD as error:
        return _person(person_id, error=error), status_of(error)
    return _person(person_id, done="limits")


@blueprint.post("/people/<int:person_id>/unix-account")
def link_unix_account(person_id: int) -> ResponseReturnValue:
    """Link her to an account of the cluster, or to none."""
    name = request.form.get("unix_account", "")
    try:
        administration.link_unix_account(bridge(), person_id, name)
    except TOLD as error:
        return _person(person_id, error=error, unix_account=name), status_of(error)
    return _person(person_id, done="linked" if name.strip() else "unlinked")


@blueprint.post("/people/<int:person_id>/links")
def give_link(person_id: int) -> ResponseReturnValue:
    """A link for her to come in by, which is shown this once."""
    word = request.form.get("kind", "")
    try:
        if word not in LINKS:
            raise BadRequest(f"A link is one of {', '.join(LINKS)}.", "kind")
        kind, endpoint = LINKS[word]
        secret = administration.give_link(bridge(), person_id, kind)
    except TOLD as error:
        return _person(person_id, error=error), status_of(error)
    return _person(person_id, link=_absolute(endpoint, secret), kind=word)


@blueprint.get("/groups")
def groups() -> str:
    """All groups."""
    return _groups()


@blueprint.post("/groups")
def make_group() -> ResponseReturnValue:
    """A new group."""
    return _save_group(None)


@blueprint.post("/groups/<int:group_id>")
def change_group(group_id: int) -> ResponseReturnValue:
    """Rename a group, and say who is in it."""
    return _save_group(group_id)


@blueprint.post("/groups/<int:group_id>/delete")
def drop_group(group_id: int) -> ResponseReturnValue:
    """Forget a group."""
    administration.drop_group(bridge(), group_id)
    return redirect(url_for("administration.groups"), HTTPStatus.SEE_OTHER)


@blueprint.get("/runs")
def runs() -> str:
    """Everybody's runs."""
    return render_template("administration/runs.html", **_runs())


@blueprint.get("/runs/live")
def runs_live() -> Response:
    """The part of that list that changes."""
    return fragment("_results_live.html", **_runs())


@blueprint.get("/unclaimed")
def unclaimed_jobs() -> str:
    """Jobs by plain sbatch that are nobody's."""
    return _unclaimed()


@blueprint.post("/unclaimed/<account>")
def link_account(account: str) -> ResponseReturnValue:
    """Link the account that such jobs are of to a person."""
    try:
        linked = unclaimed.link(bridge(), account, request.form.get("person", 0, type=int))
    except TOLD as error:
        return _unclaimed(error=error, account=account), status_of(error)
    return _unclaimed(linked=linked)


@blueprint.get("/storage")
def storage() -> str:
    """Who takes how much room."""
    return render_template("administration/storage.html", storage=administration.storage(bridge()))


@blueprint.get("/environments")
def kept_environments() -> str:
    """The environments that runs share."""
    return _environments()


@blueprint.post("/environments/prune")
def prune() -> ResponseReturnValue:
    """Remove the least recently used."""
    try:
        size = _bytes("size", GB)
        if size is None:
            raise BadRequest("Say how many GB may stay; 0 removes all that no job uses.", "size")
        removed = administration.prune_environments(bridge(), size)
    except TOLD as error:
        return _environments(error=error), status_of(error)
    return _environments(removed=removed)


@blueprint.get("/log")
def log() -> str:
    """Who did what."""
    asked: dict[str, Any] = {
        "handle": request.args.get("person", "").strip(),
        "run_id": request.args.get("run", type=int),
        "action": request.args.get("action", "").strip(),
    }
    before = request.args.get("before", type=int)
    return render_template(
        "administration/log.html",
        page=administration.audit_log(bridge(), **asked, before=before),
        people=bridge().store.people.all(),
        actions=bridge().store.deeds.actions(),
        before=before,
        **asked,
    )


def _people(**more: Any) -> str:
    there = administration.people(bridge())
    used = bridge().store.used(since=quotas.this_month())
    return render_template("administration/people.html", people=there, used=used, **more)


def _person(person_id: int, **more: Any) -> str:
    them = bridge().store.people.person(person_id)
    groups = [g for g in bridge().store.people.groups() if them.handle in g.members]
    return render_template(
        "administration/person.html",
        them=them,  # `person` is who looks at the page
        groups=groups,
        share=quotas.share(bridge(), them),
        site=bridge().settings,
        proven=who.is_proven(),
        **more,
    )


def _groups(**more: Any) -> str:
    return render_template(
        "administration/groups.html",
        groups=bridge().store.people.groups(),
        people=administration.people(bridge()),
        **more,
    )


def _save_group(group_id: int | None) -> ResponseReturnValue:
    try:
        administration.save_group(
            bridge(),
            request.form.get("name", ""),
            shares="shares" in request.form,
            members=request.form.getlist("members"),
            group_id=group_id,
        )
    except TOLD as error:
        return _groups(error=error), status_of(error)
    return redirect(url_for("administration.groups"), HTTPStatus.SEE_OTHER)


def _unclaimed(**more: Any) -> str:
    return render_template(
        "administration/unclaimed.html",
        nobodys=unclaimed.by_account(bridge()),
        people=unclaimed.candidates(bridge()),
        proven=who.is_proven(),
        **more,
    )


def _runs() -> dict[str, Any]:
    owner = request.args.get("owner", "").strip()
    owners = frozenset({owner}) if owner else None
    told = runlists.wanted(owners, "administration.runs", owner=owner)
    return {**told, "owner": owner, "people": bridge().store.people.all()}


def _environments(error: NiasError | None = None, **more: Any) -> str:
    return render_template(
        "administration/environments.html",
        kept=environments.kept(bridge()),
        most=bridge().settings.environments_max_bytes,
        error=error,
        **more,
    )


def _bytes(field: str, unit: int) -> int | None:
    number = _number(field)
    return None if number is None else round(number * unit)


def _number(field: str) -> float | None:
    """A number of the form, None where nothing is written. Raises BadRequest."""
    written = request.form.get(field, "").strip()
    try:
        number = float(written) if written else None
    except ValueError:
        number = math.nan
    if number is not None and not 0 <= number < 1e9:
        raise BadRequest(f"“{written[:40]}” is not a number that can be meant here.", field)
    return number


def _absolute(endpoint: str, secret: str) -> str:
    return bridge().settings.url + url_for(endpoint, secret=secret)


def _back_to(person_id: int) -> ResponseReturnValue:
    where = url_for("administration.person", person_id=person_id)
    return redirect(where, HTTPStatus.SEE_OTHER)
