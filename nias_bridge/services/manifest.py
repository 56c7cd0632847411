"""What the node collected of a run's output, by the manifest that it wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from nias_bridge.node.collect import FILES_MAX
from nias_bridge.services.evidence import JSON_MAX_BYTES, parsed, words
from nias_bridge.storage import Storage

FILES_TOLD = 20_000
BYTES_MAX = 64 * 1024 * 1024
_LINES_MAX = 6 * FILES_MAX
_LINE_MAX = 32 * 1024
_SECTIONS = {'"files": [': "files", '"left_out": [': "left_out"}


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputFile:
    """One file that the code left: path within output/, size in bytes, SHA-256 once collected."""

    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """One thing in output/ that was not collected, and why."""

    path: str
    why: str


def read_manifest(
    storage: Storage, file: PurePosixPath
) -> tuple[tuple[OutputFile, ...], tuple[LeftOut, ...]] | None:
    """What is in the results and what was left out; None while there is no manifest.

    Of more than FILES_TOLD files the first are told: all are in the zip.
    The code of the run may have written it: an entry that is not as it should be is passed over.
    """
    try:
        opened = storage.open(file)
    except OSError:
        return None
    with opened:
        length = opened.info.size
        if not 0 < length <= BYTES_MAX:
            return None
        if length <= JSON_MAX_BYTES:
            entries = _small(parsed(opened.read(JSON_MAX_BYTES)))
        else:  # all of it at once would take hundreds of megabytes
            entries = _large(islice(iter(lambda: opened.readline(_LINE_MAX), b""), _LINES_MAX))
        files: list[OutputFile] = []
        left_out: list[LeftOut] = []
        for section, entry in entries:
            path, size = words(entry.get("path")), entry.get("size")
            if not path:
                continue
            if section == "left_out":
                left_out.append(LeftOut(path=path, why=words(entry.get("why"))))
            elif isinstance(size, int) and 0 <= size < 2**63 and len(files) < FILES_TOLD:
                sha256 = words(entry.get("sha256"))
                files.append(OutputFile(path=path, size=int(size), sha256=sha256 or None))
    return tuple(files), tuple(left_out)


def _small(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for section in _SECTIONS.values():
        entries = content.get(section)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict):
                yield section, entry


def _large(lines: Iterator[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    # As the node writes it: a line for each bracket, and for each key of an entry.
    section, entry = "", b""
    for line in lines:
        bare = line.strip()
        if bare == b"{":
            entry = bare
        elif bare in (b"}", b"},") and entry:
            with suppress(ValueError, RecursionError):
                yield section, json.loads(entry + b"}")
            entry = b""
        elif entry and len(entry) < _LINE_MAX:
            entry += bare
        elif not entry:
            section = _SECTIONS.get(bare.decode("utf-8", "replace"), section)
