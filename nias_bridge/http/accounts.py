"""Pages to come in by, and one's own account: password, browsers, tokens."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from flask import Blueprint, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from nias_bridge.errors import BadRequest, NiasError, NotAllowed, NotSignedIn, TooManyTries
from nias_bridge.http import who
from nias_bridge.http.errors import status_of
from nias_bridge.http.here import bridge, caller
from nias_bridge.people import NOBODY, KeyKind, MailWish, Scope, Standing
from nias_bridge.services import accounts, hooks, keys, quotas

blueprint = Blueprint("accounts", __name__)

# What a person is told where she is, instead of on a page of its own.
TOLD = (BadRequest, NotAllowed, NotSignedIn, TooManyTries)
TOKEN_DAYS = (7, 30, 90, 365)


@blueprint.get("/sign-in")
def sign_in() -> ResponseReturnValue:
    """Where one signs in."""
    if caller().person:
        return redirect(who.safe_next(request.args.get("next")), HTTPStatus.SEE_OTHER)
    return render_template("sign_in.html")


@blueprint.post("/sign-in")
def send_sign_in() -> ResponseReturnValue:
    """Sign in by address and password."""
    try:
        person = accounts.sign_in(
            bridge(), request.form.get("email", ""), request.form.get("password", "")
        )
    except TOLD as error:
        return render_template("sign_in.html", error=error), status_of(error)
    who.signed_in(person, remember="remember" in request.form, proven=_now())
    return redirect(who.safe_next(request.form.get("next")), HTTPStatus.SEE_OTHER)


@blueprint.get("/sign-in/<secret>")
def sign_in_link(secret: str) -> str:
    """A link to sign in by: it is used up by the button alone, not by who looks ahead at links."""
    keys.check_link(bridge(), KeyKind.SIGN_IN, secret)
    return render_template("sign_in_link.html")


@blueprint.post("/sign-in/<secret>")
def use_sign_in_link(secret: str) -> ResponseReturnValue:
    """Sign in by a link, once."""
    who.signed_in(accounts.sign_in_by_link(bridge(), secret), remember=False, proven=_now())
    return redirect(url_for("pages.home"), HTTPStatus.SEE_OTHER)


@blueprint.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    """Sign this browser out."""
    who.forget()
    g.caller = NOBODY
    response = redirect(url_for("accounts.sign_in"), HTTPStatus.SEE_OTHER)
    # Whoever sits here next finds no page by going back, and no upload that was begun.
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


@blueprint.get("/register")
def register() -> str:
    """Where one asks for an account."""
    return render_template("register.html", invitation="")


@blueprint.post("/register")
def send_register() -> ResponseReturnValue:
    """Ask for an account."""
    return _register("")


@blueprint.get("/register/<secret>")
def invited(secret: str) -> str:
    """Register by an invitation."""
    keys.check_link(bridge(), KeyKind.INVITATION, secret)
    return render_template("register.html", invitation=secret)


@blueprint.post("/register/<secret>")
def send_invited(secret: str) -> ResponseReturnValue:
    """Register by an invitation."""
    return _register(secret)


@blueprint.get("/forgotten")
def forgotten() -> str:
    """Where one asks for a new password."""
    return render_template("forgotten.html")


@blueprint.post("/forgotten")
def send_forgotten() -> ResponseReturnValue:
    """Ask for a link by mail; whether anybody has the address is not told."""
    if bridge().settings.smtp_url is None:
        return render_template("forgotten.html")
    try:
        accounts.ask_password(bridge(), request.form.get("email", ""))
    except TooManyTries as error:
        return render_template("forgotten.html", error=error), status_of(error)
    return render_template("forgotten.html", asked=True)


@blueprint.get("/password/<secret>")
def password_link(secret: str) -> str:
    """Set a password by a link."""
    keys.check_link(bridge(), KeyKind.PASSWORD, secret)
    return render_template("password.html")


@blueprint.post("/password/<secret>")
def use_password_link(secret: str) -> ResponseReturnValue:
    """Set a password by a link, once, and sign in."""
    try:
        person = accounts.set_password_by_link(bridge(), secret, request.form.get("password", ""))
    except BadRequest as error:
        return render_template("password.html", error=error), status_of(error)
    if person.standing is not Standing.ACTIVE:
        return redirect(url_for("accounts.sign_in"), HTTPStatus.SEE_OTHER)
    who.signed_in(person, remember=False, proven=_now())
    return redirect(url_for("pages.home"), HTTPStatus.SEE_OTHER)


@blueprint.get("/account")
def account() -> str:
    """One's own account."""
    return render_template("account.html", **_account())


@blueprint.post("/account/password")
def change_password() -> ResponseReturnValue:
    """Set another password."""
    if not (accounts.has_password(bridge()) or who.is_proven()):
        return redirect(url_for("accounts.prove"), HTTPStatus.SEE_OTHER)
    try:
        accounts.change_password(
            bridge(),
            request.form.get("old", ""),
            request.form.get("password", ""),
            session=who.session_id(),
        )
    except TOLD as error:
        return render_template("account.html", **_account(error=error)), status_of(error)
    who.prove(_now())
    return render_template("account.html", **_account(changed=True))


@blueprint.get("/account/prove")
def prove() -> str:
    """Show anew that it is you, before what opens the account is changed."""
    return _prove(request.args)


@blueprint.post("/account/prove")
def send_proof() -> ResponseReturnValue:
    """… by the password."""
    try:
        accounts.prove(bridge(), request.form.get("password", ""))
    except TOLD as error:
        return _prove(request.form, error=error), status_of(error)
    who.prove(_now())
    return redirect(_back_to(request.form), HTTPStatus.SEE_OTHER)


@blueprint.post("/account/mail")
def choose_mail() -> ResponseReturnValue:
    """Of which ends of runs one is told by mail."""
    word = request.form.get("mail", "")
    if word in set(MailWish):
        accounts.choose_mail(bridge(), MailWish(word))
    return redirect(url_for("accounts.account", _anchor="mail"), HTTPStatus.SEE_OTHER)


@blueprint.post("/account/webhook")
def set_webhook() -> ResponseReturnValue:
    """Where a program of one's own is told of one's runs; its secret is shown this once."""
    try:
        hook = hooks.set_hook(bridge(), request.form.get("url", ""))
    except TOLD as error:
        return render_template("account.html", **_account(error=error)), status_of(error)
    return render_template("account.html", **_account(hook_secret=hook.secret))


@blueprint.post("/account/webhook/drop")
def drop_webhook() -> ResponseReturnValue:
    """Tell it no more."""
    hooks.drop_hook(bridge())
    return redirect(url_for("accounts.account", _anchor="webhook"), HTTPStatus.SEE_OTHER)


@blueprint.post("/account/tokens")
def make_token() -> ResponseReturnValue:
    """A new token, which is shown this once."""
    try:
        key, secret = keys.give_token(
            bridge(), request.form.get("name", ""), _scope(), request.form.get("days", 0, type=int)
        )
    except TOLD as error:
        return render_template("account.html", **_account(error=error)), status_of(error)
    return render_template("account.html", **_account(token=key, secret=secret))


@blueprint.post("/account/keys/<int:key_id>/revoke")
def revoke(key_id: int) -> ResponseReturnValue:
    """Sign another browser out, or take a token back."""
    keys.revoke(bridge(), key_id)
    return redirect(url_for("accounts.account"), HTTPStatus.SEE_OTHER)


def _register(invitation: str) -> ResponseReturnValue:
    try:
        accounts.register(
            bridge(),
            request.form.get("email", ""),
            request.form.get("name", ""),
            request.form.get("password", ""),
            invitation=invitation,
        )
    except TOLD as error:
        page = render_template("register.html", invitation=invitation, error=error)
        return page, status_of(error)
    at_once = bool(invitation) or bridge().settings.registration == "open"
    return render_template("registered.html", at_once=at_once)


def _prove(asked: Mapping[str, str], **more: Any) -> str:
    has_password = accounts.has_password(bridge())
    return render_template("prove.html", has_password=has_password, back=_back_to(asked), **more)


def _back_to(asked: Mapping[str, str]) -> str:
    """The page on which what needs a proof can be asked again."""
    return who.safe_next(asked.get("next"), who.OWN_PAGE)


def _scope() -> Scope:
    word = request.form.get("scope", "")
    if word not in set(Scope):
        raise BadRequest(f"A token's scope is one of {', '.join(Scope)}.", "scope")
    return Scope(word)


def _account(error: NiasError | None = None, **more: Any) -> dict[str, Any]:
    return {
        "person": bridge().person,
        "sessions": keys.mine(bridge(), KeyKind.SESSION),
        "tokens": keys.mine(bridge(), KeyKind.TOKEN),
        "has_password": accounts.has_password(bridge()),
        "proven": who.is_proven(),
        "this_session": who.session_id(),
        "scopes": [s for s in Scope if s is not Scope.ADMIN or caller().administers],
        "token_days": TOKEN_DAYS,
        "share": quotas.share(bridge(), bridge().person),
        "hook": bridge().store.outbox.hook(bridge().person.id),
        "error": error,
        **more,
    }


def _now() -> datetime:
    return datetime.now(UTC)
