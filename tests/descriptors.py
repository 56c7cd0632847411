"""What this process has open."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def opened_below(folder: Path) -> list[Path]:
    """The files and folders from this one down that are open in this process.

    Not a count of all: other tests' threads open and close what is theirs meanwhile.
    """
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(descriptor.readlink())
    return [path for path in found if path.is_relative_to(folder)]
