"""What every request must satisfy and every response carries, whoever answers it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFProtect
from werkzeug.exceptions import Forbidden
from werkzeug.middleware.proxy_fix import ProxyFix

from nias_bridge.services.keys import REMEMBERED
from nias_bridge.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "media-src 'self'",
        "frame-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
# What a job wrote is a stranger's: shown, it may run nothing and reach nothing.
SANDBOX = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

HEADERS = (
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
    ("Cache-Control", "no-cache, private"),
)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SMALL_BODY = 1024 * 1024  # bytes; an upload's own limit is set where it is taken

csrf = CSRFProtect()


def protect(
    app: Flask, settings: Settings, who: Sequence[Callable[[], ResponseReturnValue | None]]
) -> None:
    """Set the app's guards up: hosts, cross-site changes, who asks, CSRF, and the headers."""
    secure = settings.url.startswith("https:")
    # So named, no other host and no page without TLS can plant it, and browsers see to that.
    prefix = "__Host-" if secure else ""
    app.config.update(
        SECRET_KEY=settings.secret_key,
        TRUSTED_HOSTS=[*settings.trusted_hosts],
        MAX_CONTENT_LENGTH=SMALL_BODY,
        # Cookies know no ports: two gateways on one host must not overwrite each other's.
        SESSION_COOKIE_NAME=f"{prefix}nias_bridge_{settings.port}",
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=secure,
        PERMANENT_SESSION_LIFETIME=REMEMBERED,
        WTF_CSRF_TIME_LIMIT=None,
    )
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops)  # type: ignore[method-assign]
    # First the cheap look at the headers: CSRF's token is in a body that may be long.
    app.before_request(_refuse_cross_site_changes)
    for guard in who:
        app.before_request(guard)
    csrf.init_app(app)
    # Not after_request: these are what each response pays for, and werkzeug looks at each twice.
    app.wsgi_app = _with_headers(app.wsgi_app)  # type: ignore[method-assign,assignment]


def _refuse_cross_site_changes() -> None:
    """Only our own pages, and programs that are no browser, may change anything."""
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    foreign = site not in ("same-origin", "none") if site else False
    if origin is not None:
        foreign = foreign or urlsplit(origin).netloc != request.host
    if foreign:
        raise Forbidden("This was sent from a page of another site, so nothing was changed.")


def _with_headers(app: WSGIApplication) -> WSGIApplication:
    """The app, whose responses carry HEADERS where they say nothing else."""

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        def begin(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            said = {name.lower() for name, _ in headers}
            missing = [(name, value) for name, value in HEADERS if name.lower() not in said]
            return start(status, headers + missing, *error)

        return app(environ, begin)

    return answer
