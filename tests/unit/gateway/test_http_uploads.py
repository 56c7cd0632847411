"""Claims about bodies: streamed once, bounded, and nothing kept of what was refused."""

from __future__ import annotations

import errno
import io
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import staged
from client import zipped
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from nias_bridge.http import create_app, uploads
from nias_bridge.node import keeping
from nias_bridge.node.operations import OPERATIONS
from nias_bridge.services.bridge import Bridge

GOOD = zipped("project", {"code.py": "print(1)"})


def kept(bridge: Bridge) -> list[Path]:
    return list(staged.here(bridge).uploads.iterdir())


@contextmanager
def served(bridge: Bridge) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, create_app(bridge), threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.port
    server.shutdown()
    thread.join()
    server.server_close()


HUGE = "Content-Type: application/zip\nContent-Length: 5000000000"
CHUNKED = "Content-Type: application/zip\nTransfer-Encoding: chunked"


def talk(bridge: Bridge, port: int, head: str, body: bytes) -> str:
    """Send a request's bytes, end our side, and return the whole answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        known = "".join(f"{name}: {value}\n" for name, value in staged.token(bridge).items())
        lines = f"POST /api/v1/runs HTTP/1.1\nHost: 127.0.0.1\nConnection: close\n{known}{head}\n\n"
        wire.sendall(lines.replace("\n", "\r\n").encode() + body)
        wire.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: wire.recv(65536), b"")).decode()


def test_an_accepted_upload_leaves_nothing_behind(web: FlaskClient, bridge: Bridge) -> None:
    assert web.post("/api/v1/runs?filename=project.zip", data=GOOD).status_code == 202
    assert kept(bridge) == []


@pytest.mark.parametrize("body", [b"", b"no zip at all", GOOD[:-30]])
def test_what_is_refused_is_not_kept(web: FlaskClient, bridge: Bridge, body: bytes) -> None:
    answer = web.post("/api/v1/runs?filename=project.zip", data=body)
    assert answer.status_code == 422
    assert answer.get_json()["detail"]
    assert kept(bridge) == []


def test_a_form_without_the_file_is_told_which_field_is_missing(web: FlaskClient) -> None:
    answer = web.post("/api/v1/runs", data={"other": (io.BytesIO(GOOD), "project.zip")})
    assert answer.status_code == 422
    assert "“file”" in answer.get_json()["detail"]


def test_two_files_at_once_are_refused_and_neither_kept(web: FlaskClient, bridge: Bridge) -> None:
    files = [(io.BytesIO(GOOD), "a.zip"), (io.BytesIO(GOOD), "b.zip")]
    answer = web.post("/api/v1/runs", data={"file": files})
    assert answer.status_code == 422
    assert "one zip" in answer.get_json()["detail"]
    assert kept(bridge) == []


def test_a_name_can_come_in_the_content_disposition(web: FlaskClient) -> None:
    body = io.BytesIO()
    import zipfile

    with zipfile.ZipFile(body, "w") as packed:
        packed.writestr("code.py", "")
    header = {"Content-Disposition": "attachment; filename*=UTF-8''An%C3%A1lise.zip"}
    answer = web.post("/api/v1/runs", data=body.getvalue(), headers=header)
    assert answer.get_json()["project"] == "Análise"


def test_a_body_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path, upload_max_bytes=1000)
    with served(bridge) as port:
        # None of the announced gigabytes is ever sent: the answer comes all the same.
        answer = talk(bridge, port, HUGE, b"")
    assert " 413 " in answer.splitlines()[0]
    assert "at most" in answer
    assert kept(bridge) == []


def test_the_limit_holds_for_a_body_of_unannounced_length(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path, upload_max_bytes=1000)
    size = 1000 + uploads.FORM_ROOM + 1
    chunks = f"{size:x}\r\n".encode() + b"0" * size + b"\r\n0\r\n\r\n"
    with served(bridge) as port:
        answer = talk(bridge, port, CHUNKED, chunks)
    assert " 413 " in answer.splitlines()[0]
    assert kept(bridge) == []


def test_the_room_for_a_form_is_no_room_for_the_zip(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path, upload_max_bytes=1000)
    web = staged.program(create_app(bridge), bridge)
    answer = web.post("/api/v1/runs", data=b"0" * 1001)
    assert answer.status_code == 422
    assert "at most 1,000" in answer.get_json()["detail"]


def test_a_body_that_broke_off_is_refused(bridge: Bridge) -> None:
    head = f"Content-Type: application/zip\nContent-Length: {len(GOOD) + 10}"
    with served(bridge) as port:
        answer = talk(bridge, port, head, GOOD)
    assert " 400 " in answer.splitlines()[0] or " 422 " in answer.splitlines()[0]
    assert kept(bridge) == []


def test_a_form_that_broke_off_is_refused(bridge: Bridge) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="p.zip"\r\n\r\n' + GOOD
    head = f"Content-Type: multipart/form-data; boundary=x\nContent-Length: {len(form) + 9}"
    with served(bridge) as port:
        answer = talk(bridge, port, head, form)
    assert " 400 " in answer.splitlines()[0] or " 422 " in answer.splitlines()[0]
    assert kept(bridge) == []


def test_a_full_disk_is_told_and_nothing_kept(
    web: FlaskClient, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(OPERATIONS, "append", full)
    answer = web.post("/api/v1/runs?filename=project.zip", data=GOOD)
    assert answer.status_code == 507
    assert "full" in answer.get_json()["detail"]
    assert kept(bridge) == []


def test_what_the_disk_does_not_take_in_the_end_is_not_accepted(
    web: FlaskClient, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keeping.os, "fsync", full)
    answer = web.post("/api/v1/runs?filename=project.zip", data=GOOD)
    assert answer.status_code == 507
    assert kept(bridge) == []
    assert web.get("/api/v1/runs").get_json()["runs"] == []


@pytest.mark.parametrize("way", ["body", "form"])
def test_memory_does_not_grow_with_the_upload(web: FlaskClient, way: str) -> None:
    size = 48 * staged.MIB

    class Endless(io.RawIOBase):
        left = size

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            count = min(len(buffer), self.left)
            buffer[:count] = bytes(count)
            self.left -= count
            return count

    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="p.zip"\r\n\r\n'
    if way == "form":
        body: io.RawIOBase | io.BytesIO = _Joined([io.BytesIO(head), Endless()])
        kind, length = "multipart/form-data; boundary=x", len(head) + size
    else:
        body, kind, length = Endless(), "application/zip", size
    tracemalloc.start()
    answer = web.post(
        "/api/v1/runs",
        environ_overrides={"wsgi.input": body},
        headers={"Content-Length": str(length), "Content-Type": kind},
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.status_code in (400, 422)  # zeros are no zip
    assert peak < 12 * staged.MIB


class _Joined(io.RawIOBase):
    """Streams one after the other."""

    def __init__(self, streams: list[io.RawIOBase | io.BytesIO]) -> None:
        self._streams = streams

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while self._streams:
            if count := self._streams[0].readinto(buffer):
                return count
            self._streams.pop(0)
        return 0
