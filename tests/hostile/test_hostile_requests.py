"""Claims about hostile requests: bodies, heads and addresses that lie, drip or never end."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import staged
from client import zipped
from doors import Gateway, form
from sites import OWNER

from nias_bridge.domain import Run
from nias_bridge.http import patience
from nias_bridge.site import running, said, wait_until_served

MIB = 1024**2
GOOD = zipped("requests", {"code.py": "pass"})
HOST = "Host: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def ended(gateway: Gateway) -> Run:
    """A run with results, of the gateway's account."""
    run = staged.completed(gateway.bridge, "requests-ended")
    give_away(gateway, staged.here(gateway.bridge).run(run).folder)
    return run


def give_away(gateway: Gateway, folder: Path) -> None:
    """What the tests wrote becomes the gateway's own, as what its jobs write is."""
    owner = staged.here(gateway.bridge).uploads.stat()
    top = staged.here(gateway.bridge).root / "runs"
    for path in (*folder.parents, *folder.rglob("*"), folder):
        if top == path or top in path.parents:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def post(head: str, body: bytes = b"", path: str = "/api/v1/runs?filename=requests.zip") -> bytes:
    lines = f"POST {path} HTTP/1.1\r\n{HOST}Connection: close\r\n{head}\r\n"
    return lines.encode("latin-1") + body


# Bodies

BODIES: dict[str, tuple[Callable[[], bytes], set[int]]] = {
    "over the limit, told": (lambda: post("Content-Length: 5000000000\r\n"), {413}),
    "over the limit, untold": (
        lambda: post("Transfer-Encoding: chunked\r\n", (b"100000\r\n" + bytes(MIB) + b"\r\n") * 101
                     + b"0\r\n\r\n"), {413, 0}),
    "a page's body over its limit": (
        lambda: post("Content-Length: 9000000\r\n", path="/runs/1/cancel"), {413, 400}),
    "no length": (lambda: post(""), {422}),
    "a length that is none": (lambda: post("Content-Length: x\r\n"), {400}),
    "a negative length": (lambda: post("Content-Length: -1\r\n"), {400}),
    "a length with a sign": (lambda: post("Content-Length: +9\r\n"), {400}),
    "a huge length": (lambda: post(f"Content-Length: {'9' * 400}\r\n"), {400, 413}),
    "two lengths": (lambda: post("Content-Length: 0\r\nContent-Length: 9\r\n", GOOD), {400}),
    "a length and chunks": (
        lambda: post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), {400}),
    "chunks of another kind": (lambda: post("Transfer-Encoding: chunked, x\r\n"), {400, 501}),
    "a chunk that is none": (lambda: post("Transfer-Encoding: chunked\r\n", b"zz\r\nx"), {400, 0}),
    "a huge chunk": (
        lambda: post("Transfer-Encoding: chunked\r\n", b"f" * 20 + b"\r\nx"), {400, 413, 0}),
    "a long chunk extension": (
        lambda: post("Transfer-Encoding: chunked\r\n", b"1;" + b"a" * MIB + b"\r\nx"),
        {400, 413, 0}),
    "10,000 parts": (
        lambda: multipart(b"".join(part(b'name="a%d"' % n, b"") for n in range(10_000))), {413}),
    "10,000 files": (
        lambda: multipart(b"".join(part(b'name="file"; filename="a"', b"") for _ in range(10_000))),
        {413, 422}),
    "two files": (
        lambda: multipart(part(b'name="file"; filename="a.zip"', GOOD) * 2), {422}),
    "a file without a name": (lambda: multipart(part(b'name="file"', GOOD)), {422, 413}),
    "a file of an empty name": (
        lambda: multipart(part(b'name="file"; filename=""', GOOD)), {422}),
    "a field of 2 MB": (lambda: multipart(part(b'name="again"', b"x" * 2 * MIB)), {413}),
    "a part's head of 2 MB": (
        lambda: multipart(part(b'name="file"; filename="' + b"a" * 2 * MIB + b'"', GOOD)),
        {400, 413, 422}),
    "a form without a boundary": (
        lambda: post(f"Content-Type: multipart/form-data\r\nContent-Length: {len(GOOD)}\r\n", GOOD),
        {400, 422}),
    "a boundary of 1,000 characters": (
        lambda: post("Content-Type: multipart/form-data; boundary=" + "x" * 1000
                     + f"\r\nContent-Length: {len(GOOD)}\r\n", GOOD), {400, 422}),
    "a form without an end": (
        lambda: post("Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 9\r\n",
                     b"--x\r\n\r\nab"), {400, 422}),
}  # fmt: skip


def part(disposition: bytes, content: bytes) -> bytes:
    head = b"--x\r\nContent-Disposition: form-data; " + disposition
    return head + b"\r\n\r\n" + content + b"\r\n"


def multipart(parts: bytes) -> bytes:
    body = parts + b"--x--\r\n"
    head = f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n"
    return post(head, body)


@pytest.mark.parametrize(("request_", "statuses"), BODIES.values(), ids=BODIES.keys())
def test_a_body_that_lies_is_refused_and_not_kept(
    request_: Callable[[], bytes], statuses: set[int], gateway: Gateway
) -> None:
    data = request_()
    with gateway.unwritten(), gateway.bounded():
        answer = talk(gateway, data)
        settled(gateway)
    assert status(answer) in statuses, answer[:300]


def talk(gateway: Gateway, data: bytes) -> bytes:
    """Send as much as is taken, and return what is answered; none counts as b"".

    A request to the gateway's own host has the person's token.
    """
    data = with_token(data, gateway.secret)
    with socket.create_connection(("127.0.0.1", gateway.site.port), timeout=10) as wire:
        try:
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has heard enough
        try:
            return b"".join(iter(lambda: wire.recv(65536), b""))
        except ConnectionResetError:
            return b""


def with_token(data: bytes, secret: str) -> bytes:
    host = HOST.encode()
    return data.replace(host, host + f"Authorization: Bearer {secret}\r\n".encode(), 1)


def settled(gateway: Gateway) -> None:
    """Wait until the gateway has forgotten the bodies that it refused."""
    deadline = time.monotonic() + 20
    while any(each.stat().st_size for each in staged.here(gateway.bridge).uploads.glob("*.part")
              if not each.with_suffix(".json").exists()):  # fmt: skip
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_requests_in_one_are_not_smuggled(gateway: Gateway) -> None:
    inner = f"POST /api/v1/runs/1/cancel HTTP/1.1\r\n{HOST}\r\n".encode()
    data = post(f"Content-Length: {len(inner)}\r\n", inner)
    answer = talk(gateway, data)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert status(answer) == 422


# Those who are slow


@pytest.fixture(scope="module")
def quick_temper(make_gateway: Callable[..., object]) -> Iterator[tuple[int, str]]:
    """The port of a gateway of two threads which waits a second only, and a token there."""
    site = make_gateway(threads=2)
    (site.state / "sitecustomize.py").write_text(  # type: ignore[attr-defined]
        "from nias_bridge.http import patience\npatience.HEAD_SECONDS = 1.0\n"
    )
    before = os.environ.get("PYTHONPATH", "")
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", f"{site.state}:{before}")  # type: ignore[attr-defined]
            stack.enter_context(running(site, "serve"))  # type: ignore[arg-type]
        wait_until_served(site)  # type: ignore[arg-type]
        yield site.port, said(site, "token", "add", OWNER)  # type: ignore[attr-defined,arg-type]


def fetched(port: int) -> float:
    """Seconds until a page is there."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
        wire.sendall(f"GET /sign-in HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n".encode())
        assert b" 200 " in b"".join(iter(lambda: wire.recv(65536), b"")).split(b"\r\n", 1)[0]
    return time.monotonic() - started


@pytest.mark.parametrize(
    "beginning",
    [
        b"G",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ",
        post("Content-Length: 100000\r\n", b"PK"),
        post("Transfer-Encoding: chunked\r\n", b"ff\r\nPK"),
        multipart(part(b'name="file"; filename="a.zip"', GOOD))[:-40],
    ],
    ids=["a letter", "a head", "a body", "chunks", "a form"],
)
def test_slow_senders_hold_no_thread_for_good(
    quick_temper: tuple[int, str], beginning: bytes
) -> None:
    port, secret = quick_temper
    with ExitStack() as open_:
        wires = []
        for _ in range(6):
            wire = open_.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            wire.sendall(with_token(beginning, secret))
            wires.append(wire)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:  # a byte now and then does not keep them
            for wire in wires:
                try:
                    wire.send(b"a")
                except OSError:
                    continue
            time.sleep(0.2)
        assert fetched(port) < 20


def test_a_body_at_an_honest_speed_is_taken_however_long_it_takes(
    quick_temper: tuple[int, str],
) -> None:
    port, secret = quick_temper
    body = zipped("slow", {"code.py": "pass", "data": os.urandom(64 * 1024)})
    head = f"Content-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(with_token(post(head, path="/api/v1/runs?filename=slow.zip"), secret))
        step = 4 * patience.BODY_RATE // 10
        for at in range(0, len(body), step):  # 2.5 s, at two and a half times the least speed
            wire.sendall(body[at : at + step])
            time.sleep(0.12)
        answer = b"".join(iter(lambda: wire.recv(65536), b""))
    assert status(answer) == 202


# Heads

HEADS: dict[str, tuple[Callable[[], str], set[int]]] = {
    "a header of 1 MB": (lambda: "X-A: " + "a" * MIB + "\r\n", {431, 400, 0}),
    "a name of 1 MB": (
        lambda: f"Authorization: Basic {'a' * MIB}\r\n", {431, 400, 0}),
    "a cookie of 8 kB": (lambda: "Cookie: a=" + "b" * 8000 + "\r\n", {200}),
    "a thousand headers": (lambda: "".join(f"X-{n}: a\r\n" for n in range(1000)), {431, 400}),
    "a header without a name": (lambda: ": a\r\n", {400}),
    "a header with a NUL": (lambda: "X-A: a\0b\r\n", {400}),
    "a header in two lines": (lambda: "X-A: a\r\n b\r\n", {400}),
    "two hosts": (lambda: "Host: evil.example\r\n", {400}),
    "a thousand ranges": (
        lambda: "Range: bytes=" + ",".join(f"{n}-{n}" for n in range(1000)) + "\r\n", {200, 416}),
    "ranges that overlap": (lambda: "Range: bytes=" + "0-," * 2000 + "0-\r\n", {200, 416, 206}),
    "a range of another unit": (lambda: "Range: lines=1-2\r\n", {200, 416}),
    "a range beyond": (lambda: f"Range: bytes={'9' * 300}-\r\n", {416, 200}),
    "a range backwards": (lambda: "Range: bytes=9-1\r\n", {416, 200}),
    "an odd If-Range": (lambda: "Range: bytes=0-1\r\nIf-Range: x\r\n", {200, 206}),
    "a thousand tags": (lambda: "If-None-Match: " + '"a",' * 1900 + '"b"\r\n', {200}),
    "any tag": (lambda: "If-None-Match: *\r\n", {304, 200}),
    "a date that is none": (lambda: "If-Modified-Since: 99999999\r\n", {200}),
    "another length": (lambda: "Content-Length: 1000\r\n", {200}),
    "another language": (lambda: "Accept-Language: " + "a;q=" * 1900 + "\r\n", {200}),
    "another type": (lambda: "Accept: " + "a/b;q=0.1," * 700 + "\r\n", {200, 406}),
}  # fmt: skip


@pytest.mark.parametrize(("head", "statuses"), HEADS.values(), ids=HEADS.keys())
def test_an_odd_head_is_answered_or_refused_at_little_cost(
    head: Callable[[], str], statuses: set[int], gateway: Gateway, ended: Run
) -> None:
    for path in (f"/api/v1/runs/{ended.id}/files/spectrum.png", f"/runs/{ended.id}"):
        data = f"GET {path} HTTP/1.1\r\n{HOST}Connection: close\r\n{head()}\r\n".encode("latin-1")
        with gateway.unwritten(), gateway.bounded():
            answer = talk(gateway, data)
        assert status(answer) in statuses, answer[:300]
        assert len(answer) < MIB


FORGED = {
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-For": "1.2.3.4",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Port": "99",
    "Forwarded": "host=evil.example",
    "X-Original-URL": "/api/v1/health",
    "X-Rewrite-URL": "/api/v1/health",
    "X-HTTP-Method-Override": "DELETE",
    "Script-Name": "/evil",
    "SCRIPT_NAME": "/evil",
    "PATH_INFO": "/evil",
    "REMOTE_USER": "root",
}


@pytest.mark.parametrize(("name", "value"), FORGED.items())
def test_a_forged_header_of_a_proxy_changes_nothing(
    name: str, value: str, gateway: Gateway, ended: Run
) -> None:
    plain = gateway.get(f"/api/v1/runs/{ended.id}")
    forged = gateway.ask("GET", f"/api/v1/runs/{ended.id}", headers={name: value})
    assert (forged.status, forged.body) == (plain.status, plain.body)
    page = gateway.ask("GET", "/upload", headers={name: value})
    assert page.status == 200
    assert "evil" not in page.text


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "", "a b", "[::",
             "evil.example:80", "\xe9"],
)  # fmt: skip
def test_a_forged_host_is_refused(host: str, gateway: Gateway) -> None:
    lines = f"GET /results HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    answer = talk(gateway, lines.encode("latin-1"))
    assert status(answer) == 400
    assert b"evil.example/" not in answer


# Addresses

SECRETS = ("nias-bridge.toml", "secret-key", "db/nias.db", "../../../../secret-key")
WAYS_OUT = [
    "../{}",
    "..%2f{}",
    "%2e%2e/{}",
    "%2e%2e%2f%2e%2e%2f{}",
    "..%5c{}",
    "..%255c{}",
    "%252e%252e%252f{}",
    ".%00./{}",
    "./../{}",
    "//{}",
    "/{}",
    "%2f{}",
    "spectrum.csv/../{}",
    "spectrum.csv%00{}",
    "a/../../{}",
    "..;/{}",
    "%c0%ae%c0%ae/{}",
    "%ff{}",
    "{}%0d%0aX-Evil:%201",
]


@pytest.mark.parametrize("way", WAYS_OUT)
def test_no_address_leads_out_of_a_runs_output(way: str, gateway: Gateway, ended: Run) -> None:
    inside = ["project.zip", "exit.json", "slurm.out", "code.py"]
    key = (gateway.site.state / "secret-key").read_text()
    for name in (*SECRETS, *inside):
        for start in (
            f"/runs/{ended.id}/files/",
            f"/api/v1/runs/{ended.id}/files/",
            f"/runs/{ended.id}/look/",
            f"/runs/{ended.id}/frame/",
            f"/runs/{ended.id}/previews/",
            "/static/",
        ):
            line = f"GET {start}{way.format(name)} HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"
            answer = talk(gateway, line.encode("latin-1"))
            assert status(answer) in (400, 404, 308, 405), answer[:300]
            assert key.encode() not in answer
            assert b"\r\nX-Evil" not in answer


IDS = ["0", "-1", "1e3", "9" * 20, "9" * 4000, "1%0a", "1;id", "1'--", "0x1",
       "18446744073709551617", "../1", "1%00", "None", "1/"]  # fmt: skip


@pytest.mark.parametrize("number", IDS, ids=lambda text: text[:20])
def test_a_number_of_a_run_that_is_none_is_not_found(
    number: str, gateway: Gateway, ended: Run
) -> None:
    for path in ("/runs/{}", "/runs/{}/log.txt", "/runs/{}/results.zip", "/api/v1/runs/{}",
                 "/api/v1/runs/{}/log", f"/api/v1/runs/{ended.id}/tasks/{{}}",
                 f"/runs/{ended.id}/tasks/{{}}"):  # fmt: skip
        line = f"GET {path.format(number)} HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"
        answer = talk(gateway, line.encode("latin-1"))
        assert status(answer) in (400, 404, 308, 414), answer[:300]


UPLOADS = ["../../secret-key", "..%2f..%2fsecret-key", ".", "..", "%00", "a%2f..%2fb", "*", "?",
           "..%2fbin%2fsite", "a" * 300, "%0a", "..%2fruns%2flab", "%ff"]  # fmt: skip


@pytest.mark.parametrize("upload", UPLOADS, ids=lambda text: text[:20])
def test_an_upload_that_is_none_can_be_neither_seen_nor_run_nor_dropped(
    upload: str, gateway: Gateway
) -> None:
    with gateway.unwritten():
        assert gateway.get(f"/upload/{upload}").status in (200, 404, 405, 308, 400)
        for end in ("", "/drop"):
            assert gateway.post(f"/upload/{upload}{end}").status in (404, 405, 308, 400, 422)


QUERIES = [
    "/results?page=" + "9" * 30,
    "/results?page=-9",
    "/results?page=a",
    "/results?show=%00&q=%00",
    "/results?q=" + "%25" * 1000,
    "/results?q=%F0%9F&show=x",
    "/results?q=%27%20OR%201=1--",
    "/results?q=%ED%A0%80",
    "/api/v1/runs?page=" + "9" * 30,
    "/api/v1/runs?page=" + "9" * 3900,
    "/api/v1/runs?per_page=1000000",
    "/api/v1/runs?state=" + ",".join(["A"] * 1500),
    "/api/v1/runs?q=%00",
    "/api/v1/runs?q=" + "a" * 3900,
    "/api/v1/runs/{}/log?offset=" + "9" * 30,
    "/api/v1/runs/{}/log?offset=-2",
    "/api/v1/runs/{}/log?limit=" + "9" * 30,
    "/api/v1/compare?a=" + "9" * 30 + "&b={}",
    "/api/v1/compare?a={}&b=-1",
    "/compare?a={}&b=" + "9" * 30,
    "/compare?a=x&b=%00",
    "/compare",
]


@pytest.mark.parametrize("path", QUERIES, ids=lambda text: text[:40])
def test_a_query_beyond_sense_is_answered_with_a_sentence_or_nothing_found(
    path: str, gateway: Gateway, ended: Run
) -> None:
    with gateway.unwritten(), gateway.bounded():
        answer = gateway.get(path.replace("{}", str(ended.id)))
    assert answer.status in (200, 400, 404, 422), answer.said


def test_nothing_redirects_to_another_site(gateway: Gateway, ended: Run) -> None:
    away = ("//evil.example/", "/\\evil.example", "https://evil.example/", "/%2fevil.example/",
            "//evil.example/..%2f", "/.evil.example")  # fmt: skip
    paths = [f"{way}upload" for way in away]
    paths += [f"/{word}?{name}={way}" for way in away for word in ("upload", "results", "")
              for name in ("next", "url", "return_to", "location")]  # fmt: skip
    paths += [f"/runs/{ended.id}/{way}" for way in away]
    for path in paths:
        line = f"GET {path} HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"
        head = talk(gateway, line.encode("latin-1")).partition(b"\r\n\r\n")[0].decode("latin-1")
        for name, _, value in (each.partition(": ") for each in head.split("\r\n")[1:]):
            if name.lower() == "location":
                assert value.startswith("/") and not value.startswith(("//", "/\\")), (path, value)


# The gateway's log


def test_no_word_of_a_stranger_makes_a_line_of_the_gateways_log(gateway: Gateway) -> None:
    forged = "2026-01-01 00:00:00,000 INFO nias_bridge: FORGED"
    before = len(gateway.log())
    for path in (f"/%0a{forged}", f"/runs/1%0d%0a{forged}", f"/results?q=%0a{forged}"):
        gateway.get(path.replace(" ", "%20"))
    gateway.send(GOOD, f"a\n{forged}.zip")
    gateway.ask("POST", "/api/v1/runs", GOOD, {"User-Agent": "a\x1b[2Jb", "Referer": forged})
    body, kind = form({}, GOOD, "a\r\n\t.zip")
    gateway.ask("POST", "/api/v1/runs", body, kind)
    talk(gateway, f"GET /{forged} HTTP/1.1\r\nX: \x1b]0;evil\x07\r\n\r\n".encode())
    talk(gateway, b"\x16\x03\x01\n" + forged.encode() + b"\r\n\r\n")
    lines = gateway.log()[before:].split("\n")
    assert not [line for line in lines if line.startswith("2026-01-01")]
    assert "\x1b" not in "".join(lines)
