"""Name the files that a run wrote beside output/, where nobody will look for them."""

from __future__ import annotations

import os
from pathlib import Path

from . import layout

TOLD_MAX = 20
_SEEN_MAX = 50_000
# What Python and its tools leave by themselves.
_NOT_MEANT = frozenset(["__pycache__"])


def written_since(project: Path, mark: Path) -> list[str]:
    """At most TOLD_MAX files of the project that are newer than the file `mark`, by their paths.

    Not those in output/, nor hidden ones. The mark lies on the same storage: one clock has
    written both times. [] where the mark is not there.
    """
    try:
        since = mark.stat().st_mtime_ns
    except OSError:
        return []
    found: list[str] = []
    seen = 0
    for folder, folders, names in os.walk(project):
        here = Path(folder)
        top = here == project
        folders[:] = sorted(
            name
            for name in folders
            if not (name.startswith(".") or name in _NOT_MEANT or (top and name == layout.OUTPUT))
        )
        for name in sorted(names):
            seen += 1
            if not name.startswith(".") and _changed(here / name) > since:
                path = (here / name).relative_to(project).as_posix()
                found.append(path.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
            if len(found) >= TOLD_MAX or seen >= _SEEN_MAX:
                return found
    return found


def _changed(path: Path) -> int:
    # The time of the change and not of the content: unpacking and copying may set the latter.
    try:
        return path.lstat().st_ctime_ns
    except OSError:
        return 0
