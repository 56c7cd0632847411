"""Points of what people meet: the address, its certificate, mails."""

from __future__ import annotations

import secrets
import socket
import ssl
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from urllib.parse import urlsplit

from nias_bridge import mail
from nias_bridge.checks.points import Finding, Point, fault, skipped, warning, well
from nias_bridge.checks.subject import Subject
from nias_bridge.errors import NoAnswer, Undeliverable
from nias_bridge.settings import LOOPBACK

SECONDS = 10
SOON_DAYS = 21
DAY = 86400
LIVE = "/api/v1/live"
UNTRUSTED = (
    "let it be for this name and come with the authorities between; where it is your own "
    "authority's, let this machine trust that (SSL_CERT_FILE)"
)
RENEW = "renew it, and let that be done by itself (certbot, acme.sh)"


def address(subject: Subject) -> Finding:
    """By what people reach the gateway, and whether it knows that it is meant."""
    settings = subject.settings
    host = urlsplit(settings.url).hostname
    if settings.public_url is None:
        return _without_a_name(settings.host)
    if host not in settings.trusted_hosts:
        return fault(
            f"trusted_hosts lacks {host}: who comes by that name gets no answer",
            f'trusted_hosts = ["{host}", "127.0.0.1"]',
        )
    if settings.url.startswith("http:"):
        if host in LOOPBACK:
            return well(f"{settings.url}, this machine alone")
        return fault(
            f"{settings.url} is not encrypted: passwords can be read on the way",
            "get a certificate, and set public_url to https://… (docs/production.md)",
        )
    if settings.trusted_proxies == 0:
        return warning(
            f"{settings.url} with trusted_proxies = 0: all people seem to come from the proxy's "
            "address, and are locked out together",
            "set trusted_proxies to how many proxies stand before the gateway",
        )
    return well(settings.url)


def _without_a_name(host: str) -> Finding:
    if host in LOOPBACK:
        return warning(
            "this machine alone reaches the pages", "set public_url (docs/production.md)"
        )
    return fault(
        f"pages go out from {host} as they are: passwords can be read on the way",
        "put nginx before the gateway, and set public_url to https://… (docs/production.md)",
    )


def certificate(subject: Subject) -> Finding:
    """Browsers will believe it, and for how long."""
    url = urlsplit(subject.settings.url)
    if url.scheme != "https" or url.hostname is None:
        return skipped("public_url is not https")
    try:
        with (
            socket.create_connection((url.hostname, url.port or 443), SECONDS) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=url.hostname) as safe,
        ):
            ends_at = ssl.cert_time_to_seconds(str((safe.getpeercert() or {})["notAfter"]))
    except ssl.SSLCertVerificationError as error:
        mend = RENEW if "expired" in error.verify_message else UNTRUSTED
        return fault(f"the certificate is not valid: {error.verify_message}", mend)
    except OSError as error:
        return fault(
            f"nobody answers with TLS at {url.netloc}: {error}",
            "is nginx up, and does the name lead here?",
        )
    days = (ends_at - time.time()) / DAY
    seen = f"the certificate is good for {days:.0f} days"
    return warning(seen, RENEW) if days < SOON_DAYS else well(seen)


def gateway(subject: Subject) -> Finding:
    """The gateway itself answers at that address."""
    url = subject.settings.url
    try:
        with urllib.request.urlopen(url + LIVE, timeout=SECONDS) as answer:  # noqa: S310
            answer.read(1000)
    except urllib.error.HTTPError as error:
        with error:
            return fault(
                f"{url} answers {error.code}",
                "does the proxy hand on Host, as in trusted_hosts? 502: start nias-bridge serve",
            )
    except OSError as error:
        return warning(
            f"{url} does not answer: {getattr(error, 'reason', error)}", "start nias-bridge serve"
        )
    return well(f"{url} answers")


def mails(subject: Subject) -> Finding:
    """The mail server takes us in; a mail is sent only where one was asked for."""
    settings, to = subject.settings, subject.wanted.mail_to
    if not settings.smtp_url:
        if to:
            return fault("no mail can be sent: smtp_url is not set", "set smtp_url and mail_from")
        return skipped("smtp_url is not set: who forgets her password asks an administrator")
    server = mail.server_of(settings.smtp_url)
    try:
        mail.greet(settings.smtp_url)
        if to:
            _send(subject, to)
    except (NoAnswer, Undeliverable) as error:
        return fault(str(error), _mend(server, str(error)))
    sent = f", and took a mail for {to}" if to else ""
    if server.tls == "smtp" and server.host not in LOOPBACK:
        return warning(
            f"{server.host}:{server.port} takes us in{sent}, but mails go there for all to read",
            "smtp_url with smtp+starttls:// or smtps://",
        )
    return well(f"{server.host}:{server.port} takes us in{sent}")


def _send(subject: Subject, to: str) -> None:
    settings = subject.settings
    message = mail.compose(
        "examined",
        [to],
        settings.mail_from or "",
        number=secrets.token_hex(8),
        at=datetime.now(UTC),
        site=settings.url,
    )
    mail.send(settings.smtp_url or "", message)


def _mend(server: mail.Server, said: str) -> str:
    if "STARTTLS" in said:
        return (
            "smtps:// where it speaks TLS from the beginning (465), smtp:// within the site alone"
        )
    if "login" in said:
        return "see user and password in smtp_url; characters such as @ and / are written %40, %2F"
    if "certificate" in said.casefold():
        return (
            "name the server as its certificate does; SSL_CERT_FILE, if it is your own authority's"
        )
    return f"is {server.host}:{server.port} right, and does a firewall let this machine there?"


POINTS = (
    Point("address", address),
    Point("certificate", certificate),
    Point("gateway", gateway),
    Point("mail", mails),
)
