"""What a preview is made of: facts, plots, rows, text; and the desk on which it is laid."""

from __future__ import annotations

import string
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nias_bridge.node import files

from . import SECONDS_MAX

_NAMES = [a + b for a in ["", *string.ascii_lowercase] for b in string.ascii_lowercase]


class NoPreview(Exception):
    """This file can't be shown; the words say why, to the person who made it."""


@dataclass
class Preview:
    """A file as index.json tells of it. Every field but kind may be empty.

    summary: facts, each a mapping of names to numbers and words. plots: names of pictures, text:
    name of a UTF-8 file, both in the previews folder. rows: the head of a table, column names
    first. cells: of a notebook, each with type, text, output and pictures. error: why there is
    no more.
    """

    kind: str
    summary: list[dict[str, Any]] = field(default_factory=list)
    plots: list[str] = field(default_factory=list)
    error: str = ""
    text: str = ""
    rows: list[list[str]] = field(default_factory=list)
    cells: list[dict[str, Any]] = field(default_factory=list)


class Desk:
    """Where the preview of file number `number` leaves its pictures and texts.

    until: by time.monotonic(), when long signals should be left; what was seen is then shown.
    """

    def __init__(self, folder: Path, number: int, kind: str) -> None:
        self.kind = kind
        self.until = time.monotonic() + SECONDS_MAX / 2
        self._folder = folder
        self._number = number
        self._kept = 0

    def keep(self, content: bytes, suffix: str) -> str:
        """Write a file by rename; returns its name in the previews folder."""
        name = f"{self._number:04d}-{_NAMES[self._kept]}{suffix}"
        self._kept += 1
        with files.written_by_rename(self._folder / name) as file:
            file.write(content)
        return name

    def clear(self) -> None:
        """Remove everything that was kept for this file, half-written files included."""
        for pattern in (f"{self._number:04d}-*", f".{self._number:04d}-*"):
            for left in self._folder.glob(pattern):
                left.unlink()
