"""Files that nginx sends in the gateway's place are answered as the gateway would have."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pytest
import staged
from proxies import NAME, URL, Answer, Proxy, gateway, nginx
from pydantic import ValidationError

from nias_bridge.domain import Run
from nias_bridge.http import create_app, downloads
from nias_bridge.reach import Mounted, Opened, open_afar
from nias_bridge.services.bridge import Bridge
from nias_bridge.settings import Settings
from nias_bridge.storage import Storage

ODD = "é 100%/a b?c#d.csv"
HER_OWN, SECRET = b"her own", b"another's"

# Every header that one of both sends, but for what says when, by whom and by which connection.
PASSING = {"Date", "Expires", "Server", "Connection", "Keep-Alive"}


@dataclass(frozen=True)
class Both:
    """One bridge whose files are sent by the gateway (`plain`) and by nginx (`accel`)."""

    bridge: Bridge
    run: Run
    plain: Proxy
    accel: Proxy
    known: Mapping[str, str]

    def ask(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[Answer, Answer]:
        plain, accel = (
            proxy.ask(method, self.at(path), headers={**self.known, **headers})
            for proxy in (self.plain, self.accel)
        )
        return plain, accel

    def at(self, path: str) -> str:
        return f"/runs/{self.run.id}/{path}"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("accel")
    bridge = staged.make_bridge(folder, public_url=URL, trusted_proxies=1, trusted_hosts=(NAME,))
    run = staged.completed(bridge)
    outputs = {
        "spectrum.png": staged.picture(),
        "spectrum.csv": b"hertz,power\n50,1\n",
        "a/b.json": b"{}",
        ODD: b"hertz\n50\n",
        "empty.csv": b"",
        "page.html": b"<script>alert(1)</script>",
        "long.bin": os.urandom(3 << 20),
        "race/file.csv": HER_OWN,
    }
    staged.leave(bridge, run, outputs)
    with (
        gateway(bridge) as port,
        gateway(accelerated(bridge)) as accel_port,
        nginx(folder / "plain", [port], bridge.paths.root) as plain,
        nginx(folder / "accel", [accel_port], bridge.paths.root) as accel,
    ):
        yield Both(bridge, run, plain, accel, staged.token(bridge))


def accelerated(bridge: Bridge) -> Bridge:
    settings = bridge.settings.model_copy(update={"accel_redirect": "/protected"})
    return replace(bridge, settings=settings)


def named(path: str) -> str:
    return f"files/{quote(os.fsencode(path))}"


class ByCalls(Mounted):
    """A way to the storage on which every byte of a file is the answer to a call."""

    def open(self, path: str) -> Opened:
        return open_afar(self, "begin", path=path)

    def open_beneath(self, root: str, path: str) -> Opened:
        return open_afar(self, "begin_beneath", root=root, path=path)


FILES = {
    "an image": "files/spectrum.png",
    "a table": "files/spectrum.csv",
    "a folder's file": "files/a/b.json",
    "an odd name": named(ODD),
    "an empty file": "files/empty.csv",
    "HTML": "files/page.html",
    "a long file": "files/long.bin",
    "the zip": "results.zip",
    "the log": "log.txt",
    "no file": "files/nothing.csv",
    "a folder": "files/a",
}
OLD, FUTURE = "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2099 07:28:00 GMT"
HEADERS: dict[str, dict[str, str]] = {
    "nothing asked": {},
    "the beginning": {"Range": "bytes=0-3"},
    "the rest": {"Range": "bytes=4-"},
    "the end": {"Range": "bytes=-3"},
    "more than there is": {"Range": "bytes=2-99999999"},
    "behind the end": {"Range": "bytes=99999999-"},
    "two ranges": {"Range": "bytes=0-1,3-4"},
    "no range": {"Range": "bytes=x-y"},
    "another unit": {"Range": "lines=1-2"},
    "any ETag known": {"If-None-Match": "*"},
    "another ETag known": {"If-None-Match": '"abc"'},
    "its ETag known": {"If-None-Match": "{etag}"},
    "its ETag known, and a range": {"If-None-Match": "{etag}", "Range": "bytes=0-1"},
    "not changed since its date": {"If-Modified-Since": "{date}"},
    "changed since": {"If-Modified-Since": OLD},
    "another ETag, not changed": {"If-None-Match": '"abc"', "If-Modified-Since": "{date}"},
    "a range of this one": {"If-Range": "{etag}", "Range": "bytes=2-3"},
    "a range of another": {"If-Range": '"abc"', "Range": "bytes=2-3"},
    "a range by date": {"If-Range": "{date}", "Range": "bytes=2-3"},
    "if it is this": {"If-Match": "{etag}"},
    "if it is another": {"If-Match": '"abc"'},
    "unless it changed": {"If-Unmodified-Since": OLD},
    "unless it will change": {"If-Unmodified-Since": FUTURE},
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("file", FILES)
def test_nginx_answers_as_the_gateway_would(file: str, method: str, both: Both) -> None:
    whole, _ = both.ask("HEAD", FILES[file], {})
    facts = {"etag": whole.headers["ETag"] or '"none"', "date": whole.headers["Last-Modified"]}
    for what, headers in HEADERS.items():
        asked = {name: value.format(**facts) for name, value in headers.items()}
        plain, accel = both.ask(method, FILES[file], asked)
        assert accel.status == plain.status, what
        assert accel.body == plain.body, what
        assert told_of(accel) == told_of(plain), what


def told_of(answer: Answer) -> list[tuple[str, str]]:
    # To nginx a range that it sends is word enough that there are ranges.
    left_out = PASSING | ({"Accept-Ranges"} if answer.status == 206 else set())
    return sorted((name, value) for name, value in answer.headers.items() if name not in left_out)


@pytest.mark.parametrize(
    ("file", "end"),
    [
        ("files/spectrum.csv", "output/spectrum.csv"),
        (named(ODD), "output/%C3%A9%20100%25/a%20b%3Fc%23d.csv"),
        ("results.zip", "results.zip"),
        ("log.txt", "slurm.out"),
    ],
)
def test_it_is_nginx_that_sends_them(file: str, end: str, both: Both) -> None:
    client = create_app(accelerated(both.bridge)).test_client()
    with client.get(both.at(file), base_url=URL, headers=both.known) as answer:
        where = answer.headers["X-Accel-Redirect"]
        assert where.startswith("/protected/runs/") and where.endswith(f"/{end}")
        assert answer.data == b""


def test_nobody_reaches_the_storage_by_its_location(both: Both) -> None:
    inside = both.bridge.paths.run(both.run).output.relative_to(both.bridge.paths.root)
    for proxy in (both.plain, both.accel):
        answer = proxy.ask("GET", f"/protected/{inside}/spectrum.csv", headers=both.known)
        assert answer.status == 404


@pytest.mark.parametrize("planted", ["a link to a file", "a link in its way", "a pipe", "a folder"])
def test_what_a_job_puts_in_a_files_place_after_the_check_is_not_sent(
    planted: str, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(both.bridge.paths.run(both.run).output, "race")
    elsewhere = Path(both.bridge.paths.root, "elsewhere")
    for place, content in ((folder, HER_OWN), (elsewhere, SECRET)):
        place.mkdir(exist_ok=True)
        (place / "file.csv").write_bytes(content)
    _, accel = both.ask("GET", "files/race/file.csv", {})
    assert (accel.status, accel.body) == (200, HER_OWN)
    left = downloads._left_to_nginx

    def raced(*given: object) -> object:
        answer = left(*given)  # type: ignore[arg-type]
        (folder / "file.csv").unlink()
        if planted == "a link to a file":
            (folder / "file.csv").symlink_to(elsewhere / "file.csv")
        elif planted == "a link in its way":
            folder.rmdir()
            folder.symlink_to(elsewhere)
        elif planted == "a pipe":
            os.mkfifo(folder / "file.csv")
        else:
            (folder / "file.csv").mkdir()
        return answer

    monkeypatch.setattr(downloads, "_left_to_nginx", raced)
    answer = both.accel.ask("GET", both.at("files/race/file.csv"), headers=both.known)
    assert SECRET not in answer.body
    assert answer.status in {301, 403, 404}
    monkeypatch.undo()
    if folder.is_symlink():
        folder.unlink()
    elif (folder / "file.csv").is_dir():
        (folder / "file.csv").rmdir()
    else:
        (folder / "file.csv").unlink()


def test_what_is_read_over_a_connection_is_sent_by_the_gateway(both: Both) -> None:
    bridge = accelerated(both.bridge)
    away = replace(bridge, storage=Storage(ByCalls()))
    with create_app(away).test_client() as client:
        answer = client.get(both.at("files/spectrum.csv"), base_url=URL, headers=both.known)
        assert "X-Accel-Redirect" not in answer.headers
        assert answer.data == b"hertz,power\n50,1\n"
        answer.close()


def test_where_files_are_their_owners_alone_nginx_is_not_asked_to_read_them(tmp_path: Path) -> None:
    site = {"shared_root": tmp_path, "database_url": "sqlite:///x", "secret_key": "0123456789" * 4}
    Settings(**site, accel_redirect="/protected")
    with pytest.raises(ValidationError, match="accel_redirect can't be had with identity “unix”"):
        Settings(**site, accel_redirect="/protected", identity="unix")
