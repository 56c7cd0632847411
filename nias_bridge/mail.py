"""One message of plain text, from its template to the mail server."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nias_bridge.assets import asset
from nias_bridge.errors import NoAnswer, Undeliverable

SECONDS = 20.0  # each step of the mail server's
SUBJECT_MAX = 150
PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


@dataclass(frozen=True)
class Server:
    """A mail server by its URL; tls: “smtp” (none), “smtp+starttls” or “smtps”."""

    tls: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)


def server_of(url: str) -> Server:
    """smtp://user:password@host:port and its like. Raises ValueError with what is wrong."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("must be smtp://, smtp+starttls:// or smtps://user:password@host:port")
    return Server(
        tls=parts.scheme,
        host=parts.hostname,
        port=parts.port or PORTS[parts.scheme],
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


def compose(
    template: str, to: Sequence[str], sender: str, *, number: str, at: datetime, **words: Any
) -> EmailMessage:
    """The message that web/templates/mail/<template>.txt makes of these words.

    Its first line is the subject. number: what makes it this message, so that one which a server
    got twice is known as such.
    """
    text = _templates().get_template(f"mail/{template}.txt").render(words)
    subject, _, body = text.partition("\n")
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["Subject"] = _one_line(subject)
    message["Date"] = format_datetime(at)
    message["Message-ID"] = f"<{number}@{parseaddr(sender)[1].rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(body.strip() + "\n")
    return message


def send(url: str, message: EmailMessage) -> None:
    """Hand it to the mail server of this URL.

    Raises NoAnswer where it may be tried again, Undeliverable where the server never takes it.
    """
    with _told(server_of(url)) as smtp:
        smtp.send_message(message)


def greet(url: str) -> None:
    """Sign in at the mail server of this URL, and send nothing. Raises as `send` does."""
    with _told(server_of(url)) as smtp:
        smtp.noop()


@contextmanager
def _told(server: Server) -> Iterator[smtplib.SMTP]:
    """Signed in at the server; what fails there is one of our errors."""
    try:
        with _connected(server) as smtp:
            if server.user:
                smtp.login(server.user, server.password)
            yield smtp
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        told = "; ".join(f"{to}: {_said(words)}" for to, (_, words) in error.recipients.items())
        kind = Undeliverable if min(codes) >= 500 else NoAnswer
        raise kind(f"The mail server does not take it for {told}") from None
    except smtplib.SMTPAuthenticationError as error:
        raise NoAnswer(f"The mail server refuses our login: {_said(error.smtp_error)}") from None
    except (smtplib.SMTPDataError, smtplib.SMTPSenderRefused) as error:
        kind = Undeliverable if error.smtp_code >= 500 else NoAnswer
        raise kind(f"The mail server refuses it: {_said(error.smtp_error)}") from None
    except smtplib.SMTPNotSupportedError as error:
        raise Undeliverable(f"The mail server can't do what this needs: {error}") from None
    except (smtplib.SMTPException, OSError) as error:
        raise NoAnswer(f"The mail server {server.host}:{server.port} fails: {error}") from None


def _connected(server: Server) -> smtplib.SMTP:
    if server.tls == "smtps":
        trust = ssl.create_default_context()
        return smtplib.SMTP_SSL(server.host, server.port, timeout=SECONDS, context=trust)
    smtp = smtplib.SMTP(server.host, server.port, timeout=SECONDS)
    if server.tls == "smtp+starttls":
        try:
            smtp.starttls(context=ssl.create_default_context())
        except BaseException:
            with suppress(smtplib.SMTPException, OSError):
                smtp.close()
            raise
    return smtp


def _one_line(text: str) -> str:
    """What stands in a header: it can't end there, nor be endless."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(plain.split())
    return line if len(line) <= SUBJECT_MAX else f"{line[: SUBJECT_MAX - 1]}…"


def _said(words: bytes | str) -> str:
    return words.decode("utf-8", "replace") if isinstance(words, bytes) else words


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(asset("web") / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701  # plain text
    )
