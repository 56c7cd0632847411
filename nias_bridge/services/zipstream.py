"""A zip as a stream of bytes, put together while it is sent: no temporary file, nothing is packed.

What lies in another zip is copied as it is packed there; everything else is stored as it is. The
length is known before the first byte.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from nias_bridge.node import zipheaders, zipreader
from nias_bridge.node.zipheaders import Entry

_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Part:
    """A file of the zip to be: its name, how its bytes are packed, and where they come from.

    crc: of the bytes before packing; None has it taken from them, in a reading of its own.
    """

    name: str
    method: int
    packed: int
    size: int
    crc: int | None
    modified: float
    pieces: Callable[[], Iterator[bytes]]


def text(name: str, content: bytes, modified: float) -> Part:
    """A file of these bytes."""
    size = len(content)
    crc = zlib.crc32(content)
    return Part(name, zipheaders.STORED, size, size, crc, modified, lambda: iter((content,)))


def file(name: str, size: int, modified: float, opened: Callable[[], BinaryIO]) -> Part:
    """A file as `opened` gives it, as long as it was said to be."""

    def pieces() -> Iterator[bytes]:
        with opened() as source:
            left = size
            while left and (piece := source.read(min(_CHUNK, left))):
                left -= len(piece)
                yield piece

    return Part(name, zipheaders.STORED, size, size, None, modified, pieces)


def member(
    name: str, found: zipreader.Member, modified: float, opened: Callable[[], BinaryIO]
) -> Part:
    """A member of the zip that `opened` gives, under another name."""

    def pieces() -> Iterator[bytes]:
        with opened() as source:
            yield from zipreader.packed(source, found)

    return Part(name, found.method, found.packed, found.size, found.crc, modified, pieces)


def length(parts: Sequence[Part]) -> int:
    """Bytes of the whole zip."""
    entries, start = _laid_out(parts)
    directory = sum(len(zipheaders.central(entry)) for entry in entries)
    stop = start + directory
    return stop + len(zipheaders.end(len(entries), start, stop))


def stream(parts: Sequence[Part]) -> Iterator[bytes]:
    """The bytes of the whole zip.

    Raises OSError when a file became shorter meanwhile: what was sent then lacks its end, and
    nobody takes it for whole.
    """
    entries, start = _laid_out(parts)
    written: list[Entry] = []
    for part, laid_out in zip(parts, entries, strict=True):
        entry = _with_crc(part, laid_out)
        yield zipheaders.local(entry, zip64=_is_large(entry))
        sent = 0
        for piece in part.pieces():
            sent += len(piece)
            yield piece
        if sent != part.packed:
            raise OSError(f"{part.name} has become shorter while it was sent.")
        written.append(entry)
    stop = start
    for entry in written:
        header = zipheaders.central(entry)
        stop += len(header)
        yield header
    yield zipheaders.end(len(written), start, stop)


def _laid_out(parts: Sequence[Part]) -> tuple[list[Entry], int]:
    """Where each entry is going to be, and where the directory."""
    entries, offset = [], 0
    for part in parts:
        when = zipheaders.dos_time(part.modified)
        name = part.name.encode()
        entry = Entry(name, when, part.method, part.crc or 0, part.packed, part.size, offset)
        entries.append(entry)
        offset += len(zipheaders.local(entry, zip64=_is_large(entry))) + part.packed
    return entries, offset


def _with_crc(part: Part, entry: Entry) -> Entry:
    if part.crc is not None:
        return entry
    crc = 0
    for piece in part.pieces():
        crc = zlib.crc32(piece, crc)
    return entry._replace(crc=crc)


def _is_large(entry: Entry) -> bool:
    return max(entry.size, entry.packed) >= zipheaders.LIMIT
