"""Read a project's Python modules out of its zip, as far as foresight looks at them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import BinaryIO

from . import archive

# An upload must not wait long, and a syntax tree has up to a kilobyte for each word or sign.
FILES_MAX = 200
FILE_MAX_BYTES = 200 * 1000
WORDS_MAX = 50_000  # some 200 kB as people write
_WORD = r"\w+|[^\w\s]"


def read(zipped: BinaryIO, inventory: archive.Inventory) -> dict[str, str]:
    """The project's modules by their paths; those that are not read are there, but empty."""
    found: dict[str, str] = {}
    room, seen = WORDS_MAX, 0
    # What lies near the top is the most likely to be the program's own.
    for entry in sorted(inventory.entries, key=lambda e: (e.path.count("/"), e.path)):
        path = PurePosixPath(entry.path)
        if path.suffix == ".so":  # filters.cpython-311-x86_64-linux-gnu.so
            found[str(path.with_name(path.name.partition(".")[0] + ".py"))] = ""
        if path.suffix != ".py":
            continue
        found[entry.path] = ""
        if seen < FILES_MAX and room and entry.size <= FILE_MAX_BYTES:
            text = _text(zipped, inventory, entry.path)
            words = sum(1 for _ in re.finditer(_WORD, text))
            seen += 1
            if words <= room:
                found[entry.path], room = text, room - words
    return found


def _text(zipped: BinaryIO, inventory: archive.Inventory, path: str) -> str:
    try:
        content = archive.read_member(zipped, inventory, path, FILE_MAX_BYTES)
    except archive.ArchiveError:
        return ""  # damage is told when it is unpacked
    return (content or b"").decode("utf-8-sig", "replace")
