"""Connections that are too slow hold none of the few threads that answer."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from flask import Request
from gunicorn.http.body import LengthReader
from gunicorn.workers.gthread import TConn, ThreadWorker
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

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
        with self._in_time():
            data = super().recv(*how)
        self._until += len(data) / BODY_RATE
        return data

    def recv_into(self, *how: Any) -> int:
        with self._in_time():
            count = super().recv_into(*how)
        self._until += count / BODY_RATE
        return count

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        self.settimeout(max(0.001, self._until - time.monotonic()))
        try:
            yield
        except TimeoutError:
            # What gunicorn and werkzeug take for a client that left: which is what becomes of it.
            raise ConnectionResetError(errno.ECONNRESET, "the client is too slow") from None
        finally:
            self.settimeout(STALL_SECONDS)


def parts(request: Request, size: int) -> Iterator[bytes | memoryview]:
    """The body of a request in parts of `size` bytes at most, each good until the next one.

    One of known length is read from the connection into one buffer: gunicorn copies each byte
    five times. Raises RequestEntityTooLarge, and ClientDisconnected where the body ends too early.
    """
    reader = getattr(request.environ["wsgi.input"], "reader", None)
    if not isinstance(reader, LengthReader):
        yield from iter(partial(request.stream.read, size), b"")
        return
    most = request.max_content_length
    if most is not None and reader.length > most:
        raise RequestEntityTooLarge
    while data := reader.read(min(size, reader.unreader.buf.tell())):
        yield data  # it came with the request's head
    wire, buffer = reader.unreader.sock, memoryview(bytearray(size))
    while wanted := min(size, reader.length):
        count = _fill(wire, buffer[:wanted])
        reader.length -= count
        yield buffer[:count]
        if count < wanted:
            raise ClientDisconnected


def _fill(wire: socket.socket, buffer: memoryview) -> int:
    """How many bytes came before the buffer was full or the client left."""
    filled = 0
    with suppress(ConnectionError):
        while count := wire.recv_into(buffer[filled:]):
            filled += count
    return filled
