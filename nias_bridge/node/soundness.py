"""Whether a published environment is still what was published."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from . import files

RECORD = "nias-environment.json"
LATER = "later"  # in it, as long as the environment is still to be completed
# Modules that no program imports in its ordinary life: compiling them would take as long again.
NOT_COMPILED = r"/(tests?|testing/tests|idle_test)/"
BROKEN = ".broken"  # a file beside an environment, by its key, that a run has found to lack files
_WATCHED_DEPTH = 2  # of folders below site-packages


def record_of(folder: Path) -> Optional[dict[str, Any]]:
    """The record of an environment that is there and seems whole, else None.

    Without running anything, in a hundred looks or so: a file that was deleted has changed its
    folder's time. What lies deeper is found by `doubt`, after a run that missed it.
    """
    if not os.access(folder / "bin" / "python", os.X_OK) or _mark(folder).exists():
        return None
    record: Optional[dict[str, Any]] = files.read_json(folder / RECORD)
    try:
        for name, changed in (record or {})["folders"].items():
            if _changed(f"{folder}/{name}") != changed:
                return None
    except (OSError, KeyError):
        return None
    return record


def watched(made: Path) -> dict[str, int]:
    """The folders whose change tells that something is gone, each with its time."""
    folders = ["bin"]
    for site in _site_packages(made):
        level = [site.relative_to(made).as_posix()]
        for _ in range(_WATCHED_DEPTH + 1):
            folders += level
            level = [
                f"{above}/{entry.name}"
                for above in level
                for entry in os.scandir(made / above)
                if entry.is_dir(follow_symlinks=False) and _is_watched(entry.name)
            ]
    return {name: _changed(f"{made}/{name}") for name in folders}


def doubt(folder: Path) -> list[str]:
    """The files that the environment should have and has not, every one looked at; with any, it is
    marked, and built anew for the next run."""
    lacking = [
        path
        for site in _site_packages(folder)
        for dist_info in site.glob("*.dist-info")
        for path in _lacking(site, dist_info)
    ]
    if lacking:
        _mark(folder).touch()
    return lacking


def is_whole_again(folder: Path) -> None:
    """It was built anew: the mark of the old one goes."""
    _mark(folder).unlink(missing_ok=True)


def _mark(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{BROKEN}")


def _site_packages(made: Path) -> list[Path]:
    return list(made.glob("lib/python*/site-packages"))


def _is_watched(name: str) -> bool:
    # Where modules were not compiled, root's Python would write beside them, read-only or not.
    return name != "__pycache__" and not re.search(NOT_COMPILED, f"/{name}/")


def _changed(path: str) -> int:
    return os.stat(path).st_mtime_ns  # noqa: PTH116  # a tenth of a millisecond a hundred times


def _lacking(site: Path, dist_info: Path) -> Iterator[str]:
    """What RECORD lists and is not there, or not of that size."""
    try:
        lines = (dist_info / "RECORD").read_text(encoding="utf-8").splitlines()
    except OSError:
        yield f"{dist_info.name}/RECORD"
        return
    for path, _, size in (line.rsplit(",", 2) for line in lines if line.count(",") >= 2):
        if "__pycache__" in path:
            continue
        try:
            there = (site / path.strip('"')).stat().st_size
        except OSError:
            yield path
            continue
        if size.isdigit() and there != int(size):
            yield path
