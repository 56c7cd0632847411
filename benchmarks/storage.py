"""Shared storage through a login node against a mount of it, side by side.

    PYTHONPATH=tests python benchmarks/storage.py [--views N] [--megabytes N]

pages     what a request takes by either way, and how many questions it asks of the storage
files     a large file sent and fetched by either way, and by paramiko's SFTP

The sshd is that of the tests, on loopback: each question costs a network's round trip more.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import loginnode
import paramiko
import staged
from loginnode import LoginNode

from nias_bridge.http import create_app
from nias_bridge.reach import PIECE_BYTES
from nias_bridge.services.bridge import Bridge
from nias_bridge.slurm.files import LoginFiles
from nias_bridge.slurm.ssh import Connection
from nias_bridge.storage import Storage

PAGES = {
    "status, API": "/api/v1/runs/{}",
    "log, API": "/api/v1/runs/{}/log?offset=-1",
    "files, API": "/api/v1/runs/{}/files",
    "page of a run": "/runs/{}",
    "first page": "/",
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--views", type=int, default=200, help="of each page by each way")
    options.add_argument("--megabytes", type=int, default=300, help="of the large file")
    asked = options.parse_args()
    with ways() as (node, bridges):
        pages(bridges, asked.views)
        files(node, bridges, asked.megabytes)


@contextmanager
def ways() -> Iterator[tuple[LoginNode, dict[str, Bridge]]]:
    """One bridge with one run that went well, whose storage is had by either way."""
    state = Path(tempfile.mkdtemp(prefix="nias-bench-", dir="/tmp"))
    state.chmod(0o755)
    with loginnode.running() as node:
        try:
            mounted = staged.make_bridge(state)
            staged.completed(mounted)
            if os.geteuid() == 0:
                subprocess.run(["chown", "-R", node.user, state / "shared"], check=True)
            there = LoginFiles(Connection(node.login), mounted.paths.root)
            yield node, {"mount": mounted, "SSH": replace(mounted, storage=Storage(there))}
            there.close()
        finally:
            shutil.rmtree(state)


def pages(bridges: dict[str, Bridge], views: int) -> None:
    took: dict[tuple[str, str], list[float]] = {}
    asked: dict[str, int] = {}
    clients = {way: browsers(bridge) for way, bridge in bridges.items()}
    for turn in range(views + 5):
        for page, address in PAGES.items():
            for way, (browser, program) in clients.items():
                client = program if "API" in page else browser
                began = time.perf_counter()
                answer = client.get(address.format(1))
                if turn >= 5:
                    took.setdefault((page, way), []).append(time.perf_counter() - began)
                assert answer.status_code == 200, answer.text
    for page, address in PAGES.items():
        counted = replace(bridges["SSH"], storage=Storage(Counting(bridges["SSH"].storage.reach)))
        browser, program = browsers(counted)
        (program if "API" in page else browser).get(address.format(1))
        asked[page] = counted.storage.reach.calls  # type: ignore[attr-defined]
    print("| ms, p50 / p95 | mount | SSH | questions |\n|---|---|---|---|")
    for page in PAGES:
        told = " | ".join(quantiles(took[page, way]) for way in bridges)
        print(f"| {page} | {told} | {asked[page]} |")


def browsers(bridge: Bridge) -> tuple[Any, Any]:
    """Somebody's browser and her program, before this bridge."""
    app = create_app(bridge)
    browser = app.test_client()
    name, value = staged.cookie(app, bridge).values()
    browser.set_cookie(name, value)
    return browser, staged.program(app, bridge)


class Counting:
    """A way to the storage that counts what is asked."""

    def __init__(self, reach: Any) -> None:
        self.calls, self._reach = 0, reach

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        return getattr(self._reach, name)


def quantiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p50, p95 = statistics.median(ordered), ordered[int(len(ordered) * 0.95)]
    return f"{p50 * 1e3:.1f} / {p95 * 1e3:.1f}"


def files(node: LoginNode, bridges: dict[str, Bridge], megabytes: int) -> None:
    pieces = megabytes * 1_000_000 // PIECE_BYTES
    piece = os.urandom(PIECE_BYTES)
    large = bridges["mount"].paths.uploads / "large"

    def sent(storage: Storage) -> None:
        storage.create(large)
        for number in range(pieces):
            storage.append(large, number * PIECE_BYTES, piece)

    def fetched(storage: Storage) -> None:
        with storage.open(large) as file:
            while file.read(PIECE_BYTES):
                pass

    print("| MB/s | sent | fetched | one look, ms |\n|---|---|---|---|")
    for way, bridge in bridges.items():
        storage = bridge.storage
        up, down = timed(lambda s=storage: sent(s)), timed(lambda s=storage: fetched(s))
        look = statistics.median(timed(lambda s=storage: s.info(large)) for _ in range(200))
        print(row(way, pieces, up, down, look))
        storage.remove(large)
    with sftp(node) as session:

        def put() -> None:
            with session.open(str(large), "wb") as file:
                file.set_pipelined(True)
                for _ in range(pieces):
                    file.write(piece)

        def get() -> None:
            with session.open(str(large), "rb") as file:
                file.prefetch(pieces * PIECE_BYTES)
                while file.read(PIECE_BYTES):
                    pass

        up, down = timed(put), timed(get)
        look = statistics.median(timed(lambda: session.lstat(str(large))) for _ in range(200))
        print(row("SFTP", pieces, up, down, look))


@contextmanager
def sftp(node: LoginNode) -> Iterator[Any]:
    connection = Connection(node.login)
    channel = connection.channel()
    channel.invoke_subsystem("sftp")
    yield paramiko.SFTPClient(channel)
    connection.close()


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def row(way: str, pieces: int, up: float, down: float, look: float) -> str:
    size = pieces * PIECE_BYTES / 1e6
    return f"| {way} | {size / up:.0f} | {size / down:.0f} | {look * 1e3:.2f} |"


if __name__ == "__main__":
    main()
