"""Who sends a request, by which key, and whether that reaches as far as the address asked for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from urllib.parse import urlsplit

from flask import g, redirect, request, session, url_for
from flask.typing import ResponseReturnValue

from nias_bridge.errors import NotAllowed, NotFound, NotSignedIn
from nias_bridge.http import metrics
from nias_bridge.http.here import bridge, caller
from nias_bridge.http.security import SAFE_METHODS
from nias_bridge.people import NOBODY, Caller, KeyKind, Person, Scope
from nias_bridge.services import keys, sharing

SESSION, LINKS, PROVEN = "key", "links", "proven"  # what the signed cookie carries
RECENTLY = timedelta(minutes=10)
LINKS_MOST = 20
BEARER = "bearer"
OWN_PAGE = "accounts.account"
# Addresses for which nobody need be signed in. All others need somebody.
OPEN = frozenset(
    {
        "static",
        "_bootstrap.static",
        "bootstrap.static",
        "openapi.spec",
        "pages.example",
        "docs.page",
        "docs.file",
        "site_api.health",
        "site_api.live",
        "accounts.sign_in",
        "accounts.send_sign_in",
        "accounts.sign_in_link",
        "accounts.use_sign_in_link",
        "accounts.register",
        "accounts.send_register",
        "accounts.invited",
        "accounts.send_invited",
        "accounts.forgotten",
        "accounts.send_forgotten",
        "accounts.password_link",
        "accounts.use_password_link",
        "oidc.start",
        "oidc.back",
        "sharing.open_link",
        metrics.ENDPOINT,  # which asks for more than a sign-in
    }
)
# Addresses for who has recently shown who she is, and not for whoever comes by an open browser, nor
# by a token: they give a way into an account, or an account more power. Each with the page where it
# is asked. (A password asks for the present one; see accounts.change_password.)
FOR_THE_PROVEN = {
    "accounts.make_token": OWN_PAGE,
    "accounts.set_webhook": OWN_PAGE,
    "accounts.drop_webhook": OWN_PAGE,
    "oidc.link": OWN_PAGE,
    "administration.give_link": "administration.person",
    "administration.set_role": "administration.person",
    "administration.link_unix_account": "administration.person",
    "administration.link_account": "administration.unclaimed_jobs",
}
# The blueprints that are an administrator's alone.
ADMINISTRATION = frozenset({"administration", "administration_api"})


def signed_in(person: Person, *, remember: bool, proven: datetime | None) -> None:
    """This browser is the person's from now on, by a new key: what it carried before is void.

    proven: when she showed who she is, where that is known.
    """
    forget()
    secret = keys.open_session(bridge(), person, agent=request.user_agent.string, remember=remember)
    session[SESSION] = secret
    session.permanent = remember
    if proven is not None:
        prove(proven)
    g.caller = _by(KeyKind.SESSION, secret) or NOBODY
    bridge().note("signed in")


def prove(at: datetime) -> None:
    """Whoever has this browser showed then who she is."""
    session[PROVEN] = at.timestamp()


def is_recent(at: datetime) -> bool:
    """Whether what was shown then still says who it is."""
    return abs(datetime.now(UTC) - at) <= RECENTLY


def is_proven() -> bool:
    """Whether whoever has this browser has recently shown who she is."""
    at = session.get(PROVEN)
    return isinstance(at, float) and is_recent(datetime.fromtimestamp(at, UTC))


def forget() -> None:
    """The browser's key is taken back, and its cookie emptied."""
    secret = session.get(SESSION)
    if isinstance(secret, str):
        keys.close_session(bridge(), secret)
    session.clear()


def session_id() -> int | None:
    """The number of the browser's own key."""
    kind, _, number = caller().via.partition(" ")
    return int(number) if kind == KeyKind.SESSION and number.isdigit() else None


def remember_link(secret: str) -> None:
    """This browser may look at the run that the link shows, as long as the link is good."""
    links = [each for each in session.get(LINKS, []) if each != secret]
    session[LINKS] = [*links, secret][-LINKS_MOST:]


def safe_next(address: str | None, otherwise: str = "pages.home") -> str:
    """Where to go after signing in: an address of ours, never another site's."""
    home = url_for(otherwise)
    if not address or not address.startswith("/") or address[1:2] in ("/", "\\"):
        return home
    parts = urlsplit(address)
    clean = not parts.scheme and not parts.netloc and address.isprintable() and "\\" not in address
    return address if clean else home


def know() -> None:
    """Find out who sends this request. Raises NotSignedIn for a token that is not good."""
    address = request.remote_addr or ""
    g.caller = Caller(address=address)
    given = request.authorization
    if given is not None:
        # Shown, a token alone says who asks: a cookie beside it means nothing.
        g.scrapes = given.type == BEARER and metrics.shown(given.token)
        if g.scrapes:
            return
        if given.type == BEARER and given.token:
            g.caller = _by(KeyKind.TOKEN, given.token) or g.caller
        if caller().person is None:
            raise NotSignedIn("This token is unknown, expired or revoked. Make a new one.")
        return
    secret = session.get(SESSION)
    if isinstance(secret, str):
        g.caller = _by(KeyKind.SESSION, secret) or g.caller
    links = session.get(LINKS)
    if isinstance(links, list):
        g.caller = replace(caller(), links=sharing.shown_by(bridge(), links[:LINKS_MOST]))


def _by(kind: KeyKind, secret: str) -> Caller | None:
    return keys.known(bridge(), kind, secret, request.remote_addr or "")


def allow() -> ResponseReturnValue | None:
    """Let it pass, or say where to sign in. Raises NotSignedIn, NotAllowed, NotFound."""
    if request.endpoint is None or request.endpoint in OPEN:
        return None
    who, changing = caller(), request.method not in SAFE_METHODS
    if who.person is None:
        shown = not changing and "run_id" in (request.view_args or {})
        if who.links and shown:
            return None  # which run it is, and whether a link shows it, is found out there
        return _to_sign_in()
    if request.path.startswith("/api/") and changing and request.authorization is None:
        raise NotSignedIn(
            "Changes by the API need a token: Authorization: Bearer … . Make one on your account's "
            "page."
        )
    if request.blueprint in ADMINISTRATION and not who.administers:
        raise NotFound("There is nothing at this address.")
    on_account = changing and request.blueprint == "accounts"
    opens = request.endpoint in FOR_THE_PROVEN
    if request.authorization is not None and (on_account or opens):
        # Else who has somebody's weakest token could make of it one that does all, or come in.
        raise NotAllowed("No token changes an account: sign in with a browser.")
    if changing and not who.scope.reaches(Scope.SUBMIT):
        raise NotAllowed("This token may only read. Use one with the scope submit.")
    if opens and not is_proven():
        return redirect(_to_prove(FOR_THE_PROVEN[request.endpoint]), HTTPStatus.SEE_OTHER)
    return None


def _to_prove(page: str) -> str:
    """Where one shows who one is, and then is back on the page."""
    back = urlsplit(url_for(page, **(request.view_args or {}))).path  # what names the page alone
    return url_for("accounts.prove", next=None if page == OWN_PAGE else back)


def _to_sign_in() -> ResponseReturnValue:
    # Our own scripts follow no redirect to a page: they are told, and load their page anew.
    page = request.method in SAFE_METHODS and request.accept_mimetypes.accept_html
    script = request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate"
    if request.path.startswith("/api/") or script or not page:
        raise NotSignedIn("Sign in first, or send a token: Authorization: Bearer … .")
    wanted = request.full_path.rstrip("?")
    where = url_for("accounts.sign_in", next=None if wanted == "/" else wanted)
    return redirect(where, HTTPStatus.SEE_OTHER)
