"""A real mail server on loopback that keeps what it is sent."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, Session
from freeports import free_port


@dataclass
class Postbox:
    """What came: each message with the addresses it was for. answer: what is said to the next."""

    port: int = 0
    answer: str = "250 OK"
    came: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)

    async def handle_RCPT(  # aiosmtpd's names
        self, _server: Any, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        envelope.rcpt_tos.append(address)
        return "550 there is nobody of this name" if address.startswith("nobody@") else "250 OK"

    async def handle_DATA(self, _server: Any, _session: Session, envelope: Envelope) -> str:
        if self.answer.startswith("250"):
            parsed = message_from_bytes(envelope.content or b"", policy=policy.default)  # type: ignore[arg-type]
            self.came.append((list(envelope.rcpt_tos), parsed))
        return self.answer

    def login(self, _server: Any, _session: Any, _envelope: Any, _how: str, data: Any) -> Any:
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password == b"right", handled=False)

    def text(self, number: int = -1) -> str:
        """The words of a message."""
        body = self.came[number][1].get_body(("plain",))
        assert body is not None
        return str(body.get_content())


@contextmanager
def postbox(trust: ssl.SSLContext | None = None, **how: Any) -> Iterator[Postbox]:
    """A mail server, up; with a certificate it offers STARTTLS, and logins after it."""
    box = Postbox(port=free_port())
    server = Controller(
        box,
        hostname="127.0.0.1",
        port=box.port,
        tls_context=trust,
        authenticator=box.login,
        auth_require_tls=trust is not None,
        ready_timeout=60,
        **how,
    )
    server.start()
    try:
        yield box
    finally:
        server.stop()
