"""Connections that are too slow hold none of the few threads that answer."""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

HEAD_SECONDS = 30.0  # for a request's head, and before its body has to have its speed
BODY_RATE = 8 * 1024  # bytes a second, on the whole, that a body has to come with at least
STALL_SECONDS = 60.0  # that a reader may take for a piece of the answer


class PatientWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's worker with threads, each of which waits only so long for a client."""

    def handle(self, conn: TConn) -> Any:
        if not isinstance(conn.sock, _Patient):
            conn.sock = _Patient(fileno=conn.sock.detach())
        conn.sock.begin()
        return super().handle(conn)


class _Patient(socket.socket):
    """A connection whose reads together take no longer than what they brought allows."""

    _until = 0.0

    def begin(self) -> None:
        """A request is about to be read."""
        self._until = time.monotonic() + HEAD_SECONDS

    def recv(self, *how: Any) -> bytes:
        self.settimeout(max(0.001, self._until - time.monotonic()))
        try:
            data = super().recv(*how)
        except TimeoutError:
            # What gunicorn and werkzeug take for a client that left: which is what becomes of it.
            raise ConnectionResetError(errno.ECONNRESET, "the client is too slow") from None
        finally:
            self.settimeout(STALL_SECONDS)
        self._until += len(data) / BODY_RATE
        return data
