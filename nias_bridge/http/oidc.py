"""The university's own sign-in: OpenID Connect's code flow, by Authlib."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlsplit

from authlib.integrations.base_client import OAuthError
from authlib.integrations.base_client.errors import MismatchingStateError
from authlib.integrations.flask_client import OAuth
from flask import (
    Blueprint,
    Flask,
    current_app,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from joserfc.errors import JoseError
from requests import RequestException

from nias_bridge.errors import BadRequest, NoAnswer, NotAllowed, NotSignedIn
from nias_bridge.http import who
from nias_bridge.http.errors import status_of
from nias_bridge.http.here import bridge, caller
from nias_bridge.people import EMAIL_MAX, PERSON_NAME_MAX, Person, Vouched
from nias_bridge.services import vouching
from nias_bridge.settings import Settings

blueprint = Blueprint("oidc", __name__, url_prefix="/oidc")

NAME = "university"
WANTED = "oidc"  # in the cookie: where she wanted to go, and whose account is to be linked
SECONDS = 10.0  # each answer of the issuer's
# Signed with a key that the issuer alone has: neither unsigned nor by a shared secret.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
ALGORITHMS_KEY = "id_token_signing_alg_values_supported"

AWAY = "The sign-in service does not answer as it should. Try again later, or use a password."
STALE = "This sign-in was begun elsewhere, or too long ago. Begin again."
ANOTHER = "You signed in there as somebody else than the owner of this account. Begin again."
UNPROVEN = (
    "The sign-in service did not say that you have just signed in there, so nothing can be changed "
    "by it. Set a password: the administrator can give you a link for that."
)
UNTRUE = "What the sign-in service sent can’t be trusted, so nobody was signed in. Begin again."


def init_app(app: Flask, settings: Settings) -> None:
    """Where the site has an issuer: its client, and the addresses."""
    if settings.oidc_issuer is None:
        return
    OAuth(app).register(
        NAME,
        client_id=settings.oidc_client_id,
        client_secret=settings.oidc_client_secret,
        server_metadata_url=settings.oidc_issuer.rstrip("/") + "/.well-known/openid-configuration",
        client_kwargs={
            "scope": "openid email profile",
            "code_challenge_method": "S256",
            "default_timeout": SECONDS,
        },
    )
    app.register_blueprint(blueprint)


@blueprint.get("")
def start() -> ResponseReturnValue:
    """Off to the issuer, to sign in."""
    if caller().person:
        return redirect(who.safe_next(request.args.get("next")), HTTPStatus.SEE_OTHER)
    return _go({"next": request.args.get("next")})


@blueprint.get("/link")
def link() -> ResponseReturnValue:
    """Off to the issuer, to sign in so from now on.

    From a page of ours alone: another site could have signed her in there as somebody else, who
    would then have her account.
    """
    _from_our_page()
    return _go({"link": bridge().person.id})


@blueprint.get("/prove")
def prove() -> ResponseReturnValue:
    """Off to the issuer, to show anew who she is, whether or not she is signed in there."""
    _from_our_page()
    wanted = {"prove": bridge().person.id, "next": request.args.get("next")}
    return _go(wanted, prompt="login", max_age="0")


@blueprint.get("/back")
def back() -> ResponseReturnValue:
    """Back from the issuer, with a code that it takes for an ID token."""
    wanted = session.get(WANTED) or {}
    me = caller().person
    try:
        vouched = _vouched()
        if me and wanted.get("prove") == me.id:
            _prove(me, vouched)
            back = who.safe_next(wanted.get("next"), who.OWN_PAGE)
            return redirect(back, HTTPStatus.SEE_OTHER)
        if me:
            if wanted.get("link") != me.id:
                raise NotSignedIn(STALE)
            vouching.link(bridge(), vouched)
            return redirect(url_for("accounts.account"), HTTPStatus.SEE_OTHER)
        person = vouching.sign_in(bridge(), vouched)
    except (BadRequest, NotAllowed, NotSignedIn, NoAnswer) as error:
        return _told(error)
    who.signed_in(person, remember=False, proven=vouched.signed_in_at)
    return redirect(who.safe_next(wanted.get("next")), HTTPStatus.SEE_OTHER)


def _prove(me: Person, vouched: Vouched) -> None:
    """Believed of the ID token alone: what was asked of the issuer went through her browser."""
    if vouched.subject != me.subject:
        raise NotAllowed(ANOTHER)
    if vouched.signed_in_at is None or not who.is_recent(vouched.signed_in_at):
        raise NotAllowed(UNPROVEN)
    bridge().note("proved anew")
    who.prove(vouched.signed_in_at)


def _from_our_page() -> None:
    if urlsplit(request.referrer or "").netloc != request.host:
        raise NotAllowed("Begin this on your account’s page.")


def _go(wanted: Mapping[str, object], **asked: str) -> ResponseReturnValue:
    """A link leads here, not a form: the pages' forms may lead nowhere but to us."""
    client = _client()
    for begun in [key for key in session if key.startswith(f"_state_{NAME}_")]:
        session.pop(begun)  # a cookie has little room: who begins anew has given the other up
    session[WANTED] = wanted
    back_here = bridge().settings.url + url_for("oidc.back")
    try:
        _check_issuer(client)
        return cast(ResponseReturnValue, client.authorize_redirect(back_here, **asked))
    except (RequestException, ValueError, RuntimeError) as error:
        return _told(_away(error))


def _vouched() -> Vouched:
    """Who comes back, by an ID token that was checked. Raises NotSignedIn, NotAllowed, NoAnswer."""
    client, settings = _client(), bridge().settings
    try:
        _check_issuer(client)
        # Asked anew each time: a key of before would lock everybody out once the issuer has others.
        client.server_metadata.pop("jwks", None)
        token = client.authorize_access_token(
            claims_options={
                "iss": {"essential": True, "value": settings.oidc_issuer},
                "aud": {"essential": True, "value": settings.oidc_client_id},
            }
        )
        claims = token.get("userinfo")
        if not claims:
            raise NotSignedIn(UNTRUE)
        return _read(settings, _complete(settings, client, token, claims))
    except MismatchingStateError:
        raise NotSignedIn(STALE) from None
    except JoseError as error:
        current_app.logger.warning("An ID token was not taken: %s", error)
        raise NotSignedIn(UNTRUE) from None
    except OAuthError as error:
        if error.error == "access_denied":
            raise NotAllowed("The sign-in was given up, or refused by the service.") from None
        current_app.logger.warning("The issuer refused: %s %s", error.error, error.description)
        raise NotSignedIn(f"The sign-in service refused ({error.error}). Begin again.") from None
    except (RequestException, ValueError, RuntimeError) as error:
        raise _away(error) from None


def _check_issuer(client: Any) -> None:
    """The metadata is the issuer's own, and names no signature that others can make.

    Raises ValueError.
    """
    metadata = client.load_server_metadata()
    if metadata.get("issuer") != bridge().settings.oidc_issuer:
        raise ValueError(f"it calls itself {metadata.get('issuer')}, oidc_issuer says otherwise")
    signed_by = [name for name in metadata.get(ALGORITHMS_KEY, ["RS256"]) if name in ALGORITHMS]
    if not signed_by:
        raise ValueError("it signs by no key of its own")
    metadata[ALGORITHMS_KEY] = signed_by


def _complete(
    settings: Settings, client: Any, token: Any, claims: Mapping[str, Any]
) -> Mapping[str, Any]:
    """With what some issuers tell at their userinfo address alone."""
    if "email" in claims and settings.oidc_groups_claim in claims:
        return claims
    if "userinfo_endpoint" not in client.load_server_metadata():
        return claims
    more = client.userinfo(token=token)
    return {**more, **claims} if more.get("sub") == claims["sub"] else claims


def _read(settings: Settings, claims: Mapping[str, Any]) -> Vouched:
    sub = claims.get("sub")
    if not isinstance(sub, str) or not 0 < len(sub) <= 255:  # OpenID Connect's own limit
        raise NotSignedIn(UNTRUE)
    groups = claims.get(settings.oidc_groups_claim) or []
    return Vouched(
        subject=f"{settings.oidc_issuer}|{sub}",
        email=_text(claims.get("email"))[: EMAIL_MAX + 1],
        verified=claims.get("email_verified") is True,
        name=_text(claims.get("name"))[:PERSON_NAME_MAX],
        groups=frozenset(
            each
            for each in (groups if isinstance(groups, list) else [groups])
            if isinstance(each, str)
        ),
        signed_in_at=_moment(claims.get("auth_time")),
    )


def _moment(value: object) -> datetime | None:
    """Seconds since 1970 as the time that they are."""
    try:
        return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else None
    except (ValueError, OverflowError, OSError):
        return None


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _away(error: Exception) -> NoAnswer:
    current_app.logger.warning("The issuer does not answer as it should: %s", error)
    return NoAnswer(AWAY)


def _told(error: BadRequest | NotAllowed | NotSignedIn | NoAnswer) -> ResponseReturnValue:
    page = "error.html" if caller().person else "sign_in.html"
    status = status_of(error)
    told = render_template(
        page, error=error, sentence=error, status=status, title="The sign-in did not work"
    )
    return told, status


def _client() -> Any:
    return current_app.extensions["authlib.integrations.flask_client"].create_client(NAME)
