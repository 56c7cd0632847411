"""Claims about uploads and downloads over connections as they are."""

from __future__ import annotations

import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nias_bridge.client import gateway as gateways
from nias_bridge.client.gateway import Gateway, NoAnswer, Refused
from nias_bridge.client.login import Login

CONTENT = bytes(range(256)) * 4000
MIB = 1024**2
Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def answering(answer: Answer) -> Iterator[Gateway]:
    """A server that answers every request like this, and the way to it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    gateway = Gateway(Login(f"http://127.0.0.1:{server.server_port}", "t"))
    try:
        yield gateway
    finally:
        gateway.close()
        server.shutdown()
        thread.join()
        server.server_close()


def say(request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    request.send_response(status)
    for name, value in {"Content_Length": str(len(body)), **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def hang_up(request: BaseHTTPRequestHandler) -> None:
    request.wfile.flush()
    request.connection.shutdown(socket.SHUT_RDWR)
    request.close_connection = True


def test_a_download_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    asked = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        span = request.headers.get("Range")
        asked.append((span, request.headers.get("If-Range")))
        start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        rest = CONTENT[start:]
        request.send_response(206 if span else 200)
        request.send_header("Content-Length", str(len(rest)))
        request.send_header("ETag", '"one"')
        request.end_headers()
        request.wfile.write(rest[:400_000])
        if len(rest) > 400_000:
            hang_up(request)

    with answering(answer) as gateway:
        seen: list[tuple[int, int | None]] = []
        gateway.fetch("results.zip", tmp_path / "r.zip", lambda *how: seen.append(how))
    assert (tmp_path / "r.zip").read_bytes() == CONTENT
    assert asked[0] == (None, None)
    assert len(asked) == 3
    assert all(tag == '"one"' and span for span, tag in asked[1:])
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert all(whole == len(CONTENT) for _, whole in seen)
    assert [file.name for file in tmp_path.iterdir()] == ["r.zip"]


def test_a_download_begins_anew_where_the_server_can_not_go_on(tmp_path: Path) -> None:
    calls = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        calls.append(request.headers.get("Range"))
        request.send_response(200)
        request.send_header("Content-Length", str(len(CONTENT)))
        request.end_headers()
        request.wfile.write(CONTENT[: 1000 if len(calls) == 1 else None])
        if len(calls) == 1:
            hang_up(request)

    with answering(answer) as gateway:
        gateway.fetch("results.zip", tmp_path / "r.zip")
    assert (tmp_path / "r.zip").read_bytes() == CONTENT
    assert calls == [None, None], "what has no ETag can't be gone on with"


def test_a_download_is_given_up_when_nothing_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateways, "_PAUSES", (0, 0, 0))
    calls = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        calls.append(1)
        hang_up(request)

    with answering(answer) as gateway, pytest.raises(NoAnswer, match="can’t be reached"):
        gateway.fetch("results.zip", tmp_path / "r.zip")
    assert len(calls) == 3
    assert list(tmp_path.iterdir()) == []


def test_an_upload_and_a_download_take_no_memory(tmp_path: Path) -> None:
    size = 200 * MIB
    got = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.command == "GET":
            request.send_response(200)
            request.send_header("Content-Length", str(size))
            request.end_headers()
            for _ in range(size // MIB):
                request.wfile.write(bytes(MIB))
            return
        left = int(request.headers["Content-Length"])
        while left:
            left -= len(request.rfile.read(min(left, MIB)))
        got.append(request.headers["Transfer-Encoding"])
        say(request, 200, b"{}")

    file = tmp_path / "big.zip"
    with file.open("wb") as made:
        made.truncate(size)
    with answering(answer) as gateway:
        tracemalloc.start()
        gateway.send("runs", file)
        gateway.fetch("results.zip", tmp_path / "r.zip")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert got == [None]
    assert (tmp_path / "r.zip").stat().st_size == size
    assert peak < 16 * MIB


def test_a_refusal_in_the_middle_of_an_upload_is_told(tmp_path: Path) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.rfile.read(1000)
        body = b'{"type": "urn:nias-bridge:x", "detail": "This is too large."}'
        say(request, 413, body, Connection="close")
        request.wfile.flush()
        # As servers do that are kind: what was sent already is taken, or the answer may be lost.
        request.connection.shutdown(socket.SHUT_WR)
        while request.connection.recv(MIB):
            pass
        request.close_connection = True

    file = tmp_path / "big.zip"
    file.write_bytes(bytes(8 * MIB))
    with answering(answer) as gateway, pytest.raises(Refused, match=r"This is too large\."):
        gateway.send("runs", file)


def test_a_redirect_is_told_and_not_followed() -> None:
    asked = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        say(request, 301, b"", Location="https://nias.lab.org/")

    with answering(answer) as gateway, pytest.raises(NoAnswer, match=r"to https://nias.lab.org/"):
        gateway.post("runs/1/cancel")
    assert asked == ["/api/v1/runs/1/cancel"]


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>Sign in to the network"), (502, b"Bad Gateway"), (200, b"1")]
)
def test_what_is_no_gateway_is_told(status: int, body: bytes) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        say(request, status, body)

    with answering(answer) as gateway, pytest.raises(NoAnswer, match="not as a gateway"):
        gateway.get("runs")
