"""Claims about uploads in pieces: what is here stays, is its owner's alone, and becomes a run."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import staged
from apiflask import APIFlask
from client import zipped
from flask.testing import FlaskClient
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from nias_bridge.http import create_app
from nias_bridge.node.operations import OPERATIONS
from nias_bridge.services import held, pieces
from nias_bridge.services.bridge import Bridge

GOOD = zipped("project", {"code.py": "print(1)", "noise.bin": os.urandom(5000)})
TUS = {"Tus-Resumable": "1.0.0"}
UPLOADS = "/api/v1/uploads"


def named(filename: str) -> str:
    return f"filename {base64.b64encode(filename.encode()).decode()}"


def begin(web: FlaskClient, size: int = len(GOOD), **headers: str) -> str:
    """A new upload's address."""
    told = {"Upload-Length": str(size), "Upload-Metadata": named("project.zip"), **headers}
    answer = web.post(UPLOADS, headers={**TUS, **told})
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def send(web: FlaskClient, where: str, offset: int, body: bytes, **headers: str) -> TestResponse:
    told = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.patch(where, data=body, headers={**TUS, **told, **named})


def offset(web: FlaskClient, where: str) -> int:
    answer = web.head(where, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


def kept(bridge: Bridge) -> list[str]:
    return sorted(file.suffix for file in staged.here(bridge).uploads.iterdir())


@contextmanager
def served(bridge: Bridge) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, create_app(bridge), threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


# The protocol


def test_an_upload_in_pieces_becomes_a_run(web: FlaskClient, bridge: Bridge) -> None:
    where = begin(web)
    assert offset(web, where) == 0
    for start in range(0, len(GOOD), 1000):
        answer = send(web, where, start, GOOD[start : start + 1000])
        assert answer.status_code == 204
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert offset(web, where) == int(answer.headers["Upload-Offset"])
    answer = web.post(f"/api/v1/runs?upload={where.rpartition('/')[2]}")
    assert answer.status_code == 202
    run = bridge.store.run(answer.get_json()["id"])
    assert staged.here(bridge).run(run).archive.read_bytes() == GOOD
    assert run.contents.sha256 == hashlib.sha256(GOOD).hexdigest()
    assert [suffix for suffix in kept(bridge) if suffix in (".part", ".coming", ".json")] == []


def test_it_says_what_it_understands(web: FlaskClient) -> None:
    answer = web.options(UPLOADS)
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Extension"] == "creation,termination,checksum,expiration"
    assert "sha1" in answer.headers["Tus-Checksum-Algorithm"].split(",")
    assert int(answer.headers["Tus-Max-Size"]) == 100 * staged.GIB, "a dataset's"


def test_another_version_is_refused_and_ours_is_named(web: FlaskClient) -> None:
    where = begin(web)
    for version in ({}, {"Tus-Resumable": "0.2.2"}):
        for answer in (web.head(where, headers=version), web.post(UPLOADS, headers=version)):
            assert answer.status_code == 412
            assert answer.headers["Tus-Version"] == "1.0.0"


def test_what_was_said_of_the_file_is_given_back(web: FlaskClient) -> None:
    said = f"{named('Análise.zip')},is_confidential"
    where = begin(web, **{"Upload-Metadata": said})
    answer = web.head(where, headers=TUS)
    assert answer.headers["Upload-Metadata"] == said
    assert answer.headers["Upload-Length"] == str(len(GOOD))
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_piece_goes_where_the_upload_ends_and_nowhere_else(web: FlaskClient) -> None:
    where = begin(web)
    send(web, where, 0, GOOD[:100])
    for wrong in (0, 99, 101):
        answer = send(web, where, wrong, b"x")
        assert answer.status_code == 409
        assert "100 bytes are here" in answer.get_json()["detail"]
    assert offset(web, where) == 100


def test_a_piece_past_the_end_is_refused(web: FlaskClient) -> None:
    where = begin(web, size=10)
    assert send(web, where, 0, b"x" * 11).status_code == 413
    assert offset(web, where) == 0


@pytest.mark.parametrize("kind", ["application/zip", "", "multipart/form-data; boundary=x"])
def test_a_piece_has_its_own_content_type(web: FlaskClient, kind: str) -> None:
    assert send(web, begin(web), 0, b"x", Content_Type=kind).status_code == 415


@pytest.mark.parametrize(
    "headers",
    [
        {"Upload-Length": "-1"},
        {"Upload-Length": ""},
        {"Upload-Length": "9" * 30},
        {"Upload-Length": "٣"},
        {"Upload-Length": "5", "Upload-Metadata": "filename ***"},
        {"Upload-Length": "5", "Upload-Metadata": "filename /w=="},
        {"Upload-Length": "5", "Upload-Metadata": "x " + "A" * 5000},
    ],
)
def test_headers_that_mean_nothing_are_told(
    web: FlaskClient, bridge: Bridge, headers: dict[str, str]
) -> None:
    answer = web.post(UPLOADS, headers={**TUS, **headers})
    assert answer.status_code == 400
    assert "Upload-" in answer.get_json()["detail"]
    assert kept(bridge) == []


def test_an_ended_upload_is_gone(web: FlaskClient, bridge: Bridge) -> None:
    where = begin(web)
    send(web, where, 0, b"x")
    assert web.delete(where, headers=TUS).status_code == 204
    assert kept(bridge) == []
    assert web.head(where, headers=TUS).status_code == 404
    assert send(web, where, 1, b"x").status_code == 404
    assert web.delete(where, headers=TUS).status_code == 404


def test_a_post_can_stand_for_another_method(web: FlaskClient) -> None:
    where = begin(web)
    stands = {"X-HTTP-Method-Override": "PATCH", "Content-Type": "application/offset+octet-stream"}
    answer = web.post(where, data=b"abc", headers={**TUS, **stands, "Upload-Offset": "0"})
    assert answer.status_code == 204
    assert offset(web, where) == 3
    assert web.post(where, headers=TUS).status_code == 405


@pytest.mark.parametrize("algorithm", pieces.ALGORITHMS)
def test_a_piece_is_what_its_checksum_says(web: FlaskClient, algorithm: str) -> None:
    where = begin(web)

    def checksum(body: bytes) -> str:
        digest = hashlib.new(algorithm, body, usedforsecurity=False).digest()
        return f"{algorithm} {base64.b64encode(digest).decode()}"

    answer = send(web, where, 0, GOOD[:300], Upload_Checksum=checksum(GOOD[:299]))
    assert answer.status_code == 460
    assert "Send it again" in answer.get_json()["detail"]
    assert offset(web, where) == 0
    assert send(web, where, 0, GOOD[:300], Upload_Checksum=checksum(GOOD[:300])).status_code == 204
    assert offset(web, where) == 300


@pytest.mark.parametrize("header", ["crc32 AAAA", "sha1", "sha1 ***", "", "shake_128 AAAA"])
def test_a_checksum_that_cannot_be_checked_is_refused(web: FlaskClient, header: str) -> None:
    where = begin(web)
    assert send(web, where, 0, b"abc", Upload_Checksum=header).status_code == 400
    assert offset(web, where) == 0


# What is kept, and for how long


def test_what_came_before_the_connection_broke_is_kept(bridge: Bridge) -> None:
    web = staged.program(create_app(bridge), bridge)
    where = begin(web)
    with served(bridge) as url:
        known = {**TUS, **staged.token(bridge), "Upload-Offset": "0", "Host": "127.0.0.1"}
        known |= {"Content-Type": "application/offset+octet-stream"}
        known |= {"Content-Length": str(len(GOOD))}
        head = "".join(f"{name}: {value}\r\n" for name, value in known.items())
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
            wire.sendall(f"PATCH {where} HTTP/1.1\r\n{head}\r\n".encode() + GOOD[:2000])
        deadline = time.monotonic() + 30
        while offset(web, where) < 2000:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert send(web, where, 2000, GOOD[2000:]).status_code == 204
    assert web.post(f"/api/v1/runs?upload={where.rpartition('/')[2]}").status_code == 202


def test_one_who_hangs_keeps_nobody_from_going_on_and_writes_nothing_after(bridge: Bridge) -> None:
    begun = pieces.begin(bridge, 30, "p.zip")
    more, hangs = threading.Event(), threading.Event()

    def drips() -> Iterator[bytes]:
        yield b"a" * 10
        hangs.set()
        assert more.wait(30)
        yield b"b" * 10

    told: list[Exception] = []

    def slow() -> None:
        try:
            pieces.append(bridge, begun.id, 0, drips())
        except pieces.WrongOffset as error:
            told.append(error)

    thread = threading.Thread(target=slow)
    thread.start()
    assert hangs.wait(30)
    assert pieces.append(bridge, begun.id, 10, [b"c" * 10, b"d" * 5]).offset == 25
    more.set()
    thread.join()
    assert len(told) == 1
    part = staged.here(bridge).uploads / f"{begun.id}.part"
    assert part.read_bytes() == b"a" * 10 + b"c" * 10 + b"d" * 5


def test_of_many_who_send_one_piece_at_once_one_is_taken(bridge: Bridge) -> None:
    begun = pieces.begin(bridge, 100_000, "p.zip")
    together = threading.Barrier(8)
    taken = []

    def one(letter: int) -> None:
        together.wait()
        try:
            pieces.append(bridge, begun.id, 0, [bytes([letter]) * 50_000])
        except pieces.WrongOffset:
            return
        taken.append(letter)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (letter,) = taken
    part = staged.here(bridge).uploads / f"{begun.id}.part"
    assert part.read_bytes() == bytes([letter]) * 50_000


def test_an_upload_that_is_ended_while_it_is_sent_is_not_there_again(bridge: Bridge) -> None:
    begun = pieces.begin(bridge, 30, "p.zip")

    def body() -> Iterator[bytes]:
        yield b"a" * 10
        pieces.end(bridge, begun.id)
        yield b"b" * 10

    with pytest.raises(pieces.NotFound):
        pieces.append(bridge, begun.id, 0, body())
    assert kept(bridge) == []


def test_what_is_left_alone_goes_and_what_is_sent_to_stays(bridge: Bridge) -> None:
    stays, goes = pieces.begin(bridge, 30, "p.zip"), pieces.begin(bridge, 30, "p.zip")
    long_ago = time.time() - held.HELD_SECONDS - 1
    for file in staged.here(bridge).uploads.iterdir():
        os.utime(file, (long_ago, long_ago))
    pieces.append(bridge, stays.id, 0, [b"x"])
    held.sweep(bridge)
    assert kept(bridge) == [".coming", ".part"]
    assert pieces.find(bridge, stays.id).offset == 1
    with pytest.raises(pieces.NotFound):
        pieces.find(bridge, goes.id)


def test_what_is_long_on_its_way_is_known_to_come_not_with_each_part_but_now_and_then(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = pieces.begin(bridge, 30, "p.zip")
    touched, touch = [], OPERATIONS["touch"]

    def noted(path: str) -> None:
        touched.append(path)
        touch(path)

    monkeypatch.setitem(OPERATIONS, "touch", noted)
    pieces.append(bridge, begun.id, 0, [b"a" * 10, b"b" * 10])
    assert len(touched) == 1
    monkeypatch.setattr(pieces, "_TOUCH_SECONDS", 0.0)
    pieces.append(bridge, begun.id, 20, [b"c" * 5, b"d" * 5])
    assert len(touched) == 3


def test_when_it_goes_is_told(web: FlaskClient) -> None:
    expires = web.head(begin(web), headers=TUS).headers["Upload-Expires"]
    left = parsedate_to_datetime(expires).timestamp() - time.time()
    assert abs(left - held.HELD_SECONDS) < 60


# Limits


def test_what_is_too_large_is_refused_before_any_of_it_is_sent(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path, upload_max_bytes=1000)
    web = staged.program(create_app(bridge), bridge)
    answer = web.post(UPLOADS, headers={**TUS, "Upload-Length": "1001"})
    assert answer.status_code == 413
    assert kept(bridge) == []


def test_what_has_no_room_is_refused_before_any_of_it_is_sent(
    web: FlaskClient, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPERATIONS, "space", lambda folder: (100, 10, True))
    answer = web.post(UPLOADS, headers={**TUS, "Upload-Length": "11"})
    assert answer.status_code == 507
    assert kept(bridge) == []


def test_nothing_is_no_upload(web: FlaskClient) -> None:
    answer = web.post(UPLOADS, headers={**TUS, "Upload-Length": "0"})
    assert answer.status_code == 422
    assert "empty" in answer.get_json()["detail"]


def test_nobody_begins_uploads_without_end(web: FlaskClient) -> None:
    begun = [begin(web, size=5) for _ in range(pieces.UNFINISHED_MOST)]
    answer = web.post(UPLOADS, headers={**TUS, "Upload-Length": "5"})
    assert answer.status_code == 409
    assert "unfinished" in answer.get_json()["detail"]
    web.delete(begun[0], headers=TUS)
    begin(web, size=5)


# What becomes of it


def test_what_is_not_complete_is_no_run(web: FlaskClient, bridge: Bridge) -> None:
    where = begin(web)
    send(web, where, 0, GOOD[:100])
    answer = web.post(f"/api/v1/runs?upload={where.rpartition('/')[2]}")
    assert answer.status_code == 409
    assert "100 of" in answer.get_json()["detail"]
    assert offset(web, where) == 100


def test_what_is_no_zip_is_told_and_not_kept(web: FlaskClient, bridge: Bridge) -> None:
    where = begin(web, size=20)
    send(web, where, 0, b"no zip, but 20 bytes")
    answer = web.post(f"/api/v1/runs?upload={where.rpartition('/')[2]}")
    assert answer.status_code == 422
    assert kept(bridge) == []


def test_a_project_that_is_there_costs_no_second_upload(web: FlaskClient, bridge: Bridge) -> None:
    staged.add(bridge, "project")
    where = begin(web)
    send(web, where, 0, GOOD)
    run = f"/api/v1/runs?upload={where.rpartition('/')[2]}"
    assert web.post(run).status_code == 409
    assert web.post(f"{run}&again=true").get_json()["number"] == 2


@pytest.mark.parametrize("upload", ["x", "../secret", "A" * 22, "é" * 22, "%00"])
def test_an_upload_that_never_was_is_not_found(web: FlaskClient, upload: str) -> None:
    assert web.post(f"/api/v1/runs?upload={upload}").status_code == 404
    assert web.head(f"{UPLOADS}/{upload}", headers=TUS).status_code == 404


# Pages


def browser_of(app: APIFlask, bridge: Bridge) -> tuple[FlaskClient, str]:
    client = app.test_client()
    told = staged.cookie(app, bridge)
    client.set_cookie(told["name"], told["value"], domain="localhost")
    page = client.get("/upload", headers={"Accept": "text/html"}).get_data(as_text=True)
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    return client, found[1]


def test_a_page_sends_in_pieces_and_is_shown_what_was_found(app: APIFlask, bridge: Bridge) -> None:
    client, token = browser_of(app, bridge)
    known = {**TUS, "X-CSRFToken": token, "Accept": "application/json"}
    told = {"Upload-Length": str(len(GOOD)), "Upload-Metadata": named("project.zip")}
    where = client.post("/uploads", headers={**known, **told}).headers["Location"]
    assert where.startswith("/uploads/")
    piece = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert client.patch(where, data=GOOD, headers={**known, **piece}).status_code == 204
    form = {"csrf_token": token, "upload": where.rpartition("/")[2]}
    for _ in range(2):  # an answer that was lost is asked for again
        answer = client.post("/upload", data=form, headers={"Accept": "application/json"})
        assert answer.get_json()["location"] == f"/upload/{form['upload']}"
    page = client.get(answer.get_json()["location"], headers={"Accept": "text/html"})
    assert "noise.bin" in page.get_data(as_text=True)


@pytest.mark.parametrize("token", [{}, {"X-CSRFToken": "made up"}])
def test_without_the_pages_token_no_page_changes_anything(
    app: APIFlask, bridge: Bridge, token: dict[str, str]
) -> None:
    client, _ = browser_of(app, bridge)
    begun = pieces.begin(bridge, 5, "p.zip")
    piece = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    known: dict[str, Any] = {"headers": {**TUS, **token, **piece, "Upload-Length": "5"}}
    override = {**known["headers"], "X-HTTP-Method-Override": "DELETE"}
    where = f"/uploads/{begun.id}"
    for answer in (
        client.post("/uploads", **known),
        client.patch(where, data=b"x", **known),
        client.delete(where, **known),
        client.post(where, headers=override),
    ):
        assert answer.status_code == 400
    assert pieces.find(bridge, begun.id).offset == 0
    assert len(kept(bridge)) == 2


# An independent client, and several gateways


def test_tuspy_uploads_with_checksums_and_goes_on_at_another_gateway(bridge: Bridge) -> None:
    with served(bridge) as one, served(bridge) as other:
        known = staged.token(bridge)
        sender = TusClient(f"{one}{UPLOADS}", headers=known).uploader(
            file_stream=io.BytesIO(GOOD),
            chunk_size=700,
            metadata={"filename": "Análise.zip"},
            upload_checksum=True,
        )
        sender.upload(stop_at=2100)
        assert sender.url
        there = sender.url.replace(one, other)
        resumed = TusClient(f"{other}{UPLOADS}", headers=known).uploader(
            file_stream=io.BytesIO(GOOD), chunk_size=10_000, url=there
        )
        assert resumed.offset == 2100
        resumed.upload()
        assert resumed.offset == len(GOOD)
    web = staged.program(create_app(bridge), bridge)
    answer = web.post(f"/api/v1/runs?upload={there.rpartition('/')[2]}")
    run = bridge.store.run(answer.get_json()["id"])
    assert staged.here(bridge).run(run).archive.read_bytes() == GOOD


def test_tuspy_is_told_when_it_may_not(bridge: Bridge) -> None:
    with served(bridge) as url:
        client = TusClient(f"{url}{UPLOADS}")
        with pytest.raises(TusCommunicationError) as refused:
            client.uploader(file_stream=io.BytesIO(GOOD)).upload()
    assert refused.value.status_code == 401
