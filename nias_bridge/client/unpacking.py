"""Results unpacked into a folder, under names that files can have on this system."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

from nias_bridge.errors import BadUpload

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file: a colon would write to a stream of
# another file, and a device's name to the device.
_NO_NAME = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$')
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[1-9¹²³]|lpt[1-9¹²³]) *(?:\.|$)", re.IGNORECASE)


def on_windows(part: str) -> str:
    """One part of a path as Windows can have it, with _ for what it can't."""
    fitting = _NO_NAME.sub("_", part)
    return f"_{fitting}" if _DEVICE.match(fitting) else fitting


as_here = on_windows if os.name == "nt" else str


def unpacked(packed: Path, folder: Path) -> list[Path]:
    """Unpack results into a folder, over earlier ones; returns where each file is.

    Two names that are one to this system (a.csv and A.csv, say) become two files all the same.
    Raises BadUpload for a name that leads out of the folder.
    """
    top, written = folder.resolve(), []
    ours: set[tuple[int, int]] = set()
    with zipfile.ZipFile(packed) as archive:
        for member in archive.infolist():
            target = top / member.filename
            # On Windows a backslash or a drive's letter in a name would lead elsewhere too.
            if not target.resolve().is_relative_to(top) or target.resolve() == top:
                raise BadUpload(f"The results have a file “{member.filename}” outside of output/.")
            target = top.joinpath(*map(as_here, member.filename.split("/")))
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target = _free(target, ours)
            with archive.open(member) as source, target.open("wb") as out:
                while piece := source.read(1024 * 1024):
                    out.write(piece)
                ours.add(_identity(os.fstat(out.fileno())))
            written.append(folder / target.relative_to(top))
    return written


def _free(target: Path, ours: set[tuple[int, int]]) -> Path:
    """The path, or one beside it where it is that of a file which was unpacked a moment ago."""
    free, number = target, 1
    while free.exists() and _identity(free.stat()) in ours:
        number += 1
        free = target.with_stem(f"{target.stem}~{number}")
    return free


def _identity(seen: os.stat_result) -> tuple[int, int]:
    return seen.st_dev, seen.st_ino
