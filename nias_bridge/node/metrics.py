"""Read the numbers that a program wrote to output/metrics.json, whatever else may stand there."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path

from . import files

FILE = "metrics.json"
NUMBERS_MAX = 100
NAME_MAX = 100  # characters
_BYTES_MAX = 64 * 1024


def read(output: Path) -> dict[str, float]:
    """The finite numbers by their names, {} where the file is not an object with any.

    true and false are no numbers; what is nested, and what is beyond NUMBERS_MAX, is passed over.
    """
    try:
        content = json.loads(_bytes(output))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    found = {name: value for name, value in content.items() if name[:NAME_MAX] and _fits(value)}
    return {name[:NAME_MAX]: found[name] for name in list(found)[:NUMBERS_MAX]}


def _bytes(output: Path) -> bytes:
    # The program may have put a link or a pipe there, or a link in place of the folder.
    folder = os.open(output, files.FOLDER)
    try:
        descriptor = os.open(FILE, files.FILE, dir_fd=folder)
    finally:
        os.close(folder)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _BYTES_MAX:
            raise ValueError("not a small plain file")
        return file.read(_BYTES_MAX)


def _fits(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False
