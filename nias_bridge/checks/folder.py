"""The folder on shared storage by which an examination and its probe jobs speak to each other."""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nias_bridge.checks.subject import Subject
from nias_bridge.node import layout, probe, ship
from nias_bridge.storage import Storage

TOKEN = "token"  # noqa: S105  # a file's name
SCRIPT = "probe.sbatch"
SAID = "said"  # the last words of a Python on the node
ROOM = 1 << 20  # bytes that are written to see that there is room
TOLD_MAX = 1 << 20  # … and that a node may tell


@dataclass(frozen=True)
class ProbeFolder:
    """`here` as the bridge sees it, `on_cluster` as the nodes do; token: known to this one."""

    storage: Storage
    here: PurePosixPath
    on_cluster: PurePosixPath
    token: str

    def write(self, script: str) -> PurePosixPath:
        """A script for sbatch; returns its path as the cluster sees it."""
        self.storage.write(self.here / SCRIPT, script)
        return self.on_cluster / SCRIPT

    def put(self, script: str, asked: dict[str, Any]) -> PurePosixPath:
        """All that a probe job needs; returns its script's path as the cluster sees it."""
        program = ship.program()
        self.storage.write(self.here / program.modules, ship.packed(program.sources))
        self.storage.write(self.here / layout.NODE_PROGRAM, program.script)
        self.storage.write(self.here / probe.ASKED, json.dumps(asked))
        self.storage.write(self.here / TOKEN, self.token)
        return self.write(script)

    def report(self) -> dict[str, Any] | None:
        """What the node wrote, as soon as it is seen here."""
        self.storage.entries(self.here)  # NFS looks anew at what it had found missing
        (told,) = self.storage.contents([self.here / probe.REPORT], TOLD_MAX)
        report = json.loads(told) if told else None
        return report if report and report.get("token") == self.token else None

    def said(self) -> str:
        """The last line that a Python on the node wrote as it failed."""
        (told,) = self.storage.contents([self.here / SAID], TOLD_MAX)
        lines = (told or b"").decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")


@contextmanager
def probe_folder(subject: Subject) -> Iterator[ProbeFolder]:
    """A new folder, gone at the end; one of its files is locked meanwhile where storage is
    mounted here. Raises OSError."""
    storage, token = subject.storage, secrets.token_hex(6)
    inner = PurePosixPath(layout.EXAMINED, token)
    here = subject.paths.root / inner
    if storage.info(subject.paths.root) is None:
        raise FileNotFoundError(2, "it is not there", str(subject.paths.root))
    try:
        storage.make_folder(here)
        storage.permit(here.parent, add=0o711)
        storage.permit(here, add=0o700, drop=0o077)
        storage.create(here / probe.HELD)
        with ExitStack() as stack:
            if subject.mounted:
                held = stack.enter_context(Path(here / probe.HELD).open("wb"))
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield ProbeFolder(storage, here, subject.paths.on_cluster / inner, token)
    finally:
        storage.discard(here)
        if not storage.entries(here.parent):  # else another examination has its folder there
            storage.discard(here.parent)


def try_writing(subject: Subject) -> None:
    """Write a file to the disk, rename it from folder to folder and remove it. Raises OSError."""
    with probe_folder(subject) as folder:
        made, moved = folder.here / "made", folder.here.parent / f"{folder.token}.moved"
        subject.storage.create(made)
        subject.storage.append(made, 0, b"\0" * ROOM)
        subject.storage.seal(made)
        subject.storage.move(made, moved)
        subject.storage.remove(moved)


def try_linking(subject: Subject) -> None:
    """Link a file of the cache into the environments. Raises OSError."""
    name = f".nias-probe-{secrets.token_hex(6)}"
    source = subject.paths.root / layout.CACHE / name
    target = subject.paths.environments / name
    try:
        subject.storage.create(source)
        subject.storage.take(source, target)
    finally:
        subject.storage.remove(source, target)


def try_acls(subject: Subject) -> str:
    """Why no ACLs are kept, "" where they are. Raises OSError."""
    with probe_folder(subject) as folder:
        return subject.storage.why_no_acls(folder.here)


def shipped_version(subject: Subject) -> str:
    """The version of the bridge that put the node program there last, "" where none did."""
    (told,) = subject.storage.contents([subject.paths.bin / layout.SITE], TOLD_MAX)
    return str(json.loads(told).get("version", "")) if told else ""
