"""How files are written that others read meanwhile, how those of others are opened, how ours go."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

# How to open what a program left: itself, never what a link in its place leads to.
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a pipe that nobody writes to must not wait.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Whoever can write to the folder must not have us write through a link of theirs.
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def written_by_rename(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends, and vanishes when it fails.

    mode: its permissions from the beginning on, but for what the umask takes off.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(6).hex()}")
    try:
        with os.fdopen(os.open(temporary, NEW, mode), "wb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file by rename."""
    with written_by_rename(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file by rename."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1))


def read_json(path: Path) -> Any:
    """What a JSON file holds, None where it is absent or unreadable."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def discard(folder: Path) -> None:
    """Remove a folder and all in it, what is read-only too, where it is there and ours.

    Another account's it could swap for a link meanwhile; nor could we remove it.
    """
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return
    for inner, _, _ in os.walk(folder):
        with suppress(OSError):
            os.chmod(inner, 0o700)  # noqa: PTH101  # os.walk gives texts
    shutil.rmtree(folder, ignore_errors=True)
