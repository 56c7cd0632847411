"""The headers of a zip's entries and of its end, as bytes."""

from __future__ import annotations

import struct
import time
from typing import NamedTuple

STORED, DEFLATED = 0, 8
LIMIT = 0xFFFFFFFF  # of the fields of a zip without zip64
_UTF8_NAME = 0x800
_PLAIN_FILE = 0o100644 << 16
_FOLDER = 0o40755 << 16 | 0x10
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")


class Entry(NamedTuple):
    """A file in the zip, or a folder where its name ends in a slash.

    packed, size and offset in bytes; when as `dos_time` gives it.
    """

    name: bytes
    when: tuple[int, int]
    method: int
    crc: int
    packed: int
    size: int
    offset: int


def local(entry: Entry, *, zip64: bool) -> bytes:
    """What stands before an entry's data; its length does not depend on crc and sizes."""
    sizes = (LIMIT, LIMIT) if zip64 else (entry.packed, entry.size)
    extra = struct.pack("<2H2Q", 1, 16, entry.size, entry.packed) if zip64 else b""
    version = 45 if zip64 else 20
    common = (version, _UTF8_NAME, entry.method, *entry.when, entry.crc, *sizes)
    return _LOCAL.pack(b"PK\3\4", *common, len(entry.name), len(extra)) + entry.name + extra


def central(entry: Entry) -> bytes:
    """What stands of an entry in the zip's directory."""
    large = [n for n in (entry.size, entry.packed, entry.offset) if n >= LIMIT]
    extra = struct.pack(f"<2H{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    version = 45 if large else 20
    sizes = (min(entry.packed, LIMIT), min(entry.size, LIMIT))
    common = (version, _UTF8_NAME, entry.method, *entry.when, entry.crc, *sizes)
    made_by = 0x31E  # Unix, by the specification's version 3.0
    kind = _FOLDER if entry.name.endswith(b"/") else _PLAIN_FILE
    rest = (len(entry.name), len(extra), 0, 0, 0, kind, min(entry.offset, LIMIT))
    return _CENTRAL.pack(b"PK\1\2", made_by, *common, *rest) + entry.name + extra


def end(count: int, start: int, stop: int) -> bytes:
    """What stands behind a directory of `count` entries, which lies from `start` to `stop`."""
    size = stop - start
    few = min(count, 0xFFFF)
    last = _END.pack(b"PK\5\6", 0, 0, few, few, min(size, LIMIT), min(start, LIMIT), 0)
    if count < 0xFFFF and stop < LIMIT:
        return last
    large = _END64.pack(b"PK\6\6", 44, 0x31E, 45, 0, 0, count, count, size, start)
    return large + _LOCATOR64.pack(b"PK\6\7", 0, stop, 1) + last


def dos_time(epoch: float) -> tuple[int, int]:
    """A time in seconds since 1970 as zips write it, 1980 for what they can't."""
    try:
        at = time.localtime(epoch)
    except (ValueError, OverflowError, OSError):
        at = time.localtime(0)
    if not 1980 <= at.tm_year <= 2107:
        return 0, (1 << 5) | 1
    date = (at.tm_year - 1980) << 9 | at.tm_mon << 5 | at.tm_mday
    return at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2, date
