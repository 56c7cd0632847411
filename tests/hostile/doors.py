"""The doors that hostile input comes through: a real gateway process, and the node's program."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nias_bridge.node import layout
from nias_bridge.services.bridge import Bridge
from nias_bridge.site import Site

CPU_SECONDS = 2.0
GROWTH = 64 * 1024**2  # bytes
GIVE_UP = 30  # seconds
ZIP = {"Content-Type": "application/zip"}


@dataclass(frozen=True)
class Answer:
    """What came back, and the seconds of a processor that it took the gateway."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def said(self) -> str:
        """The sentence of a problem, of the API or on a page."""
        if self.headers.get("content-type", "").startswith("application/problem+json"):
            return str(json.loads(self.body)["detail"])
        words = re.sub(r"<[^>]*>", " ", self.text)
        return " ".join(words.split())


@dataclass(frozen=True)
class Gateway:
    """A gateway process that is served, its bridge as the tests look into it, and a person's token
    that is sent with every request."""

    site: Site
    bridge: Bridge
    worker: int
    secret: str

    @property
    def known(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"}

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] = {},
    ) -> Answer:
        """One request; fails where its answer takes more of a processor than it may."""
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=GIVE_UP)
        before = _processor_seconds(self.worker)
        try:
            connection.request(method, path, body, {**self.known, **headers})
            got = connection.getresponse()
            answer = Answer(
                got.status,
                {name.lower(): value for name, value in got.getheaders()},
                got.read(),
                _processor_seconds(self.worker) - before,
            )
        finally:
            connection.close()
        assert answer.seconds < CPU_SECONDS, f"{method} {path}: {answer.seconds:.1f} s"
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def raw(self, data: bytes, seconds: float = GIVE_UP) -> bytes:
        """What comes back to these bytes until the gateway ends the connection."""
        with socket.create_connection(("127.0.0.1", self.site.port), timeout=seconds) as wire:
            wire.sendall(data)
            try:
                return b"".join(iter(lambda: wire.recv(65536), b""))
            except ConnectionResetError:
                return b""

    def send(self, zipped: bytes, filename: str = "p.zip", **query: Any) -> Answer:
        """Upload by the API."""
        words = urllib.parse.urlencode({"filename": filename, **query})
        return self.ask("POST", f"/api/v1/runs?{words}", zipped, ZIP)

    def send_page(self, zipped: bytes, filename: str = "p.zip") -> Answer:
        """Upload by the page, as a browser does without its script."""
        body, kind = form({"csrf_token": self.token[0]}, zipped, filename)
        return self.ask("POST", "/upload", body, {**kind, "Cookie": self.token[1]})

    def post(self, path: str, **fields: str) -> Answer:
        """Send a form of one of our pages."""
        body = urllib.parse.urlencode({"csrf_token": self.token[0], **fields}).encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": self.token[1]}
        return self.ask("POST", path, body, kind)

    @cached_property
    def token(self) -> tuple[str, str]:
        """The token of the page's forms, and the cookie that it belongs to."""
        page = self.get("/upload")
        found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
        assert found
        return found[1], page.headers["set-cookie"].partition(";")[0]

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Fails where the process dies, or where its memory grows beyond what it may."""
        before = _status(self.worker, "VmRSS")
        Path(f"/proc/{self.worker}/clear_refs").write_text("5")  # its peak begins anew
        yield
        grown = _status(self.worker, "VmHWM") - before
        assert grown < GROWTH, f"the gateway grew by {grown / 1024**2:.0f} MiB"

    @contextmanager
    def unwritten(self) -> Iterator[None]:
        """Fails where anything appears on shared storage or beside it, or goes."""
        before = self.tree()
        yield
        assert self.tree() == before

    def tree(self) -> dict[str, int]:
        """All that lies in the site's folder but its database and logs, with its mode."""
        state = self.site.state
        return {
            str(path.relative_to(state)): path.lstat().st_mode
            for path in state.rglob("*")
            if path.parent != state / "db" and path.suffix != ".log"
        }

    def log(self) -> str:
        """What the gateway wrote to its log."""
        return self.site.log("serve").read_text(errors="replace")


def form(fields: Mapping[str, str], zipped: bytes, filename: str) -> tuple[bytes, dict[str, str]]:
    """A form with a zip in its field “file”, and the header that says so."""
    parts = b"".join(
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    )
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
    body = parts + head.encode("utf-8", "surrogateescape") + zipped + b"\r\n--x--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=x"}


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that serve: the children of the one that was started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def _processor_seconds(pid: int) -> float:
    """What the process has had so far: others may keep it waiting, and it is as quick as it was."""
    told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, told[11:13])) / os.sysconf("SC_CLK_TCK")


def _status(pid: int, field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found, f"process {pid} is gone"
    return int(found[1]) * 1024


# A process counts as its own the memory that its parent had when it was made: the job's parent is
# a small one, not the tests.
_MEASURED = """import os, resource, subprocess, sys
subprocess.call(sys.argv[2:])
os.write(int(sys.argv[1]), b"%d" % resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@dataclass(frozen=True)
class Ended:
    """How a job of the node's program ended: its exit.json, and its peak memory in bytes."""

    told: dict[str, Any]
    peak: int
    folder: Path

    @property
    def said(self) -> str:
        return str(self.told["message"])


@dataclass(frozen=True)
class Node:
    """The node's program in a process of its own, on a run's folder within `shared`."""

    shared: Path
    identity: Mapping[str, Any]

    def run(self, folder: Path, *command: str) -> Ended:
        """What becomes of the run in this folder, whose project.zip is there."""
        argv = [
            *(sys.executable, str(self.shared / layout.BIN / layout.NODE_PROGRAM), "run"),
            *("--folder", str(folder), "--shared", str(self.shared)),
            *("--name", "nias-tok-p", "--token", "tok", "--", *(command or ["code.py"])),
        ]
        slurm = {"SLURM_JOB_NAME": "nias-tok-p", "SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "1"}
        variables = {"PATH": "/usr/bin:/bin", "TMPDIR": str(self.shared.parent), **slurm}
        read, write = os.pipe()
        with (folder / layout.LOG).open("ab") as log, os.fdopen(read) as told_peak:
            subprocess.run(
                [sys.executable, "-IS", "-c", _MEASURED, str(write), *argv],
                env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=[write], check=False, **self.identity,
            )  # fmt: skip
            os.close(write)
            peak = int(told_peak.read()) * 1024
        told = json.loads((folder / layout.EXIT).read_text())
        return Ended(told, peak, folder)
