"""The folder on shared storage by which an examination and its probe jobs speak to each other."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nias_bridge.node import files, layout, probe, ship
from nias_bridge.paths import SharedPaths

TOKEN = "token"  # noqa: S105  # a file's name
SCRIPT = "probe.sbatch"
SAID = "said"  # the last words of a Python on the node
ROOM = 1 << 20  # bytes that are written to see that there is room


@dataclass(frozen=True)
class ProbeFolder:
    """`here` as the gateway sees it, `on_cluster` as the nodes do; token: known to this one."""

    here: Path
    on_cluster: PurePosixPath
    token: str

    def write(self, script: str) -> PurePosixPath:
        """A script for sbatch; returns its path as the cluster sees it."""
        files.write_text(self.here / SCRIPT, script)
        return self.on_cluster / SCRIPT

    def put(self, script: str, asked: dict[str, Any]) -> PurePosixPath:
        """All that a probe job needs; returns its script's path as the cluster sees it."""
        ship.build(self.here)
        files.write_json(self.here / probe.ASKED, asked)
        files.write_text(self.here / TOKEN, self.token)
        return self.write(script)

    def report(self) -> dict[str, Any] | None:
        """What the node wrote, as soon as it is seen here."""
        with suppress(OSError):
            os.listdir(self.here)  # noqa: PTH208  # NFS looks anew at what it had found missing
        told = files.read_json(self.here / probe.REPORT)
        return told if isinstance(told, dict) and told.get("token") == self.token else None

    def said(self) -> str:
        """The last line that a Python on the node wrote as it failed."""
        with suppress(OSError):
            lines = (self.here / SAID).read_text(encoding="utf-8", errors="replace").split("\n")
            return next((line for line in reversed(lines) if line.strip()), "")
        return ""


@contextmanager
def probe_folder(paths: SharedPaths) -> Iterator[ProbeFolder]:
    """A new folder, gone at the end; one of its files is locked meanwhile. Raises OSError."""
    token = secrets.token_hex(6)
    inner = PurePosixPath(layout.EXAMINED, token)
    here = paths.root / inner
    here.parent.mkdir(mode=0o711, exist_ok=True)
    here.mkdir(mode=0o700)
    try:
        with (here / probe.HELD).open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield ProbeFolder(here, paths.on_cluster / inner, token)
    finally:
        shutil.rmtree(here, ignore_errors=True)
        with suppress(OSError):  # another examination has its folder there
            here.parent.rmdir()


def try_writing(paths: SharedPaths) -> None:
    """Write a file, rename it from folder to folder and remove it. Raises OSError."""
    with probe_folder(paths) as folder:
        made, other = folder.here / "made", folder.here.parent / f"{folder.token}.moved"
        with made.open("wb") as file:
            file.write(b"\0" * ROOM)
            os.fsync(file.fileno())
        made.replace(other)
        other.unlink()


def try_linking(paths: SharedPaths) -> None:
    """Link a file of the cache into the environments. Raises OSError."""
    probe.link(paths.root / layout.CACHE, paths.environments)


def room(folder: Path) -> tuple[int, int]:
    """Bytes, and files, that there is room for. Raises OSError."""
    told = os.statvfs(folder)
    # File systems that count no files say that they have none at all.
    return told.f_bavail * told.f_frsize, told.f_favail if told.f_files else 1 << 62


def shipped_version(paths: SharedPaths) -> str:
    """The version of the bridge that put the node program there last, "" where none did."""
    return str((files.read_json(paths.bin / layout.SITE) or {}).get("version", ""))
