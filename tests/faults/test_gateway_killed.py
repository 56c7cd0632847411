"""A gateway that is killed in mid-upload loses at most what it had in hand."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import shutil
import socket
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from freeports import free_port
from sites import OWNER, killed, served
from tusclient.client import TusClient

from nias_bridge.site import Site, running, said, set_up, wait_until_served

MIB = 1024**2
AT_MOST_LOST = 1 * MIB  # what one process holds at once of what it was sent
UPLOADS = "/api/v1/uploads"
TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture
def alone() -> Iterator[Site]:
    """A gateway's site with no Slurm at all."""
    state = Path(tempfile.mkdtemp(prefix="nias-killed-"))
    state.chmod(0o755)
    site = set_up(state, port=free_port(), slurm_conf=Path("/nonexistent"))
    said(site, "user", "add", OWNER)
    yield site
    shutil.rmtree(state, ignore_errors=True)


@pytest.fixture(scope="module")
def project() -> bytes:
    """A zip of 40 MiB that nothing makes smaller."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as packed:
        packed.writestr("killed/code.py", "print(1)\n")
        packed.writestr("killed/noise.bin", os.urandom(40 * MIB))
    return body.getvalue()


def part_of(site: Site) -> Path:
    (part,) = (site.state / "shared/uploads").glob("*.part")
    return part


def test_a_killed_gateway_has_all_but_the_last_of_what_it_was_sent(
    alone: Site, project: bytes
) -> None:
    known = {"Authorization": f"Bearer {said(alone, 'token', 'add', OWNER)}"}
    name = base64.b64encode(b"killed.zip").decode()
    sent = 0
    with running(alone, "serve") as process:
        wait_until_served(alone)
        begun = {
            **known,
            "Tus-Resumable": "1.0.0",
            "Upload-Length": str(len(project)),
            "Upload-Metadata": f"filename {name}",
        }
        request = urllib.request.Request(f"{alone.url}{UPLOADS}", headers=begun, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            where = answer.headers["Location"]
        wire = http.client.HTTPConnection("127.0.0.1", alone.port, timeout=30)
        wire.putrequest("PATCH", where)
        for header, value in {
            **known,
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": "0",
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(len(project)),
        }.items():
            wire.putheader(header, value)
        wire.endheaders()
        while sent < len(project) // 2:  # one PATCH that has all of the file, but never ends
            wire.send(project[sent : sent + MIB // 4])
            sent += MIB // 4
        deadline = time.monotonic() + 20
        while part_of(alone).stat().st_size < sent - AT_MOST_LOST:
            assert time.monotonic() < deadline, "what was sent is not on disk"
            time.sleep(0.01)
        killed(process.pid)
        process.wait()
        wire.close()

    with served(alone):
        resumed = TusClient(f"{alone.url}{UPLOADS}", headers=known).uploader(
            file_stream=io.BytesIO(project), chunk_size=8 * MIB, url=f"{alone.url}{where}"
        )
        assert sent - AT_MOST_LOST <= resumed.offset <= sent
        resumed.upload()
        upload = where.rpartition("/")[2]
        taken = urllib.request.Request(
            f"{alone.url}/api/v1/runs?upload={upload}", headers=known, method="POST"
        )
        with urllib.request.urlopen(taken, timeout=60) as answer:
            run = json.load(answer)
    (stored,) = alone.state.glob(f"shared/runs/*/{run['project']}/1/project.zip")
    assert hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(project).digest()


def test_a_client_that_retries_does_not_notice_that_the_gateway_was_killed(
    alone: Site, project: bytes
) -> None:
    known = {"Authorization": f"Bearer {said(alone, 'token', 'add', OWNER)}"}
    with running(alone, "serve") as process:
        wait_until_served(alone)
        sender = TusClient(f"{alone.url}{UPLOADS}", headers=known).uploader(
            file_stream=io.BytesIO(project),
            chunk_size=4 * MIB,
            metadata={"filename": "killed.zip"},
            upload_checksum=True,
            retries=30,
            retry_delay=0.5,
        )
        sender.upload(stop_at=16 * MIB)
        killed(process.pid)
        process.wait()
    with running(alone, "serve"):  # it comes up while the client knocks
        sender.upload()
    assert part_of(alone).read_bytes() == project


def test_a_project_sent_as_the_body_is_kept_as_it_came_and_nothing_of_one_that_broke_off(
    alone: Site, project: bytes
) -> None:
    known = {"Authorization": f"Bearer {said(alone, 'token', 'add', OWNER)}"}
    with served(alone):
        broken = http.client.HTTPConnection("127.0.0.1", alone.port, timeout=30)
        length = {**known, "Content-Length": str(len(project) + 1)}
        broken.request("POST", "/api/v1/runs?filename=killed.zip", project, length)
        broken.sock.shutdown(socket.SHUT_WR)
        assert broken.getresponse().status in (400, 422)
        broken.close()
        assert not list((alone.state / "shared/uploads").iterdir())
        wire = http.client.HTTPConnection("127.0.0.1", alone.port, timeout=60)
        wire.request("POST", "/api/v1/runs?filename=killed.zip", project, known)
        answer = wire.getresponse()
        assert answer.status == 202, answer.read()
        wire.close()
    (stored,) = alone.state.glob("shared/runs/*/killed/1/project.zip")
    assert stored.read_bytes() == project


def test_one_connection_takes_piece_after_piece_whether_their_length_is_told_or_not(
    alone: Site, project: bytes
) -> None:
    known = {"Authorization": f"Bearer {said(alone, 'token', 'add', OWNER)}", **TUS}
    body = project[: 3 * MIB + 17]
    with served(alone):
        wire = http.client.HTTPConnection("127.0.0.1", alone.port, timeout=30)

        def ask(method: str, path: str, content: Any = None, **headers: str) -> Any:
            told = {name.replace("_", "-"): value for name, value in headers.items()}
            wire.request(method, path, body=content, headers={**known, **told})
            answer = wire.getresponse()
            answer.read()
            return answer

        where = ask("POST", UPLOADS, Upload_Length=str(len(body))).headers["Location"]
        kind = {"Content_Type": "application/offset+octet-stream"}
        first, port = MIB + 5, wire.sock.getsockname()
        assert ask("PATCH", where, body[:first], Upload_Offset="0", **kind).status == 204
        assert ask("PATCH", where, b"again", Upload_Offset="0", **kind).status == 409
        untold = iter([body[first : first + 999], body[first + 999 :]])
        assert ask("PATCH", where, untold, Upload_Offset=str(first), **kind).status == 204
        assert ask("HEAD", where).headers["Upload-Offset"] == str(len(body))
        assert wire.sock.getsockname() == port
        wire.close()
    assert part_of(alone).read_bytes() == body
