"""Zips that lie, collide, overlap or lead out: written by hand, byte by byte."""

from __future__ import annotations

import stat
import struct
import zlib
from dataclasses import dataclass

STORED, DEFLATED = 0, 8
FULL = 0xFFFFFFFF
UTF8, ENCRYPTED, STREAMED = 0x800, 1, 8


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry, and where what the directory says of it is to differ from what is there."""

    name: bytes
    content: bytes = b""
    method: int = STORED
    flags: int = UTF8
    mode: int = stat.S_IFREG | 0o644
    data: bytes | None = None  # what lies there, where it is not `content` packed
    size: int | None = None
    packed: int | None = None
    crc: int | None = None
    local_name: bytes | None = None
    local_size: int | None = None
    offset: int | None = None
    extra: bytes = b""


def entry(name: str | bytes, content: bytes = b"", **more: object) -> Entry:
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogatepass")
    return Entry(name=raw, content=content, **more)  # type: ignore[arg-type]


CODE = entry("p/code.py", b"print('ran')\n")


def pack(
    *entries: Entry,
    before: bytes = b"",
    more: bytes = b"",
    after: bytes = b"",
    disks: int = 0,
    count: int | None = None,
) -> bytes:
    """A zip of these entries; `more` stands between their data and the directory, count is told."""
    body, central = bytearray(before), b""
    for each in entries:
        offset = len(body) if each.offset is None else each.offset
        data = each.content
        if each.method == DEFLATED:
            packer = zlib.compressobj(9, zlib.DEFLATED, -15)
            data = packer.compress(data) + packer.flush()
        data = data if each.data is None else each.data
        crc = zlib.crc32(each.content) if each.crc is None else each.crc
        size = len(each.content) if each.size is None else each.size
        packed = len(data) if each.packed is None else each.packed
        if each.offset is None:
            local = each.name if each.local_name is None else each.local_name
            body += header(each, local, crc, packed, size) + data
        central += struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 0x31E, 20, each.flags, each.method, 0, 0, crc, packed, size,
            len(each.name), len(each.extra), 0, 0, 0, each.mode << 16, offset,
        ) + each.name + each.extra  # fmt: skip
    body += more
    told = len(entries) if count is None else count
    end = struct.pack("<4s4H2LH", b"PK\5\6", disks, disks, told, told, len(central), len(body), 0)
    return bytes(body) + central + end + after


def header(each: Entry, name: bytes, crc: int, packed: int, size: int) -> bytes:
    """What stands before the data of an entry."""
    size = size if each.local_size is None else each.local_size
    sizes = (0, 0, 0) if each.flags & STREAMED else (crc, packed, size)
    return (
        struct.pack("<4s5H3L2H", b"PK\3\4", 20, each.flags, each.method, 0, 0, *sizes, len(name), 0)
        + name
    )


def overlapping(files: int = 250, kernel: int = 41_000_000) -> bytes:
    """A zip of some 60 KB that declares 10 GB: each entry quotes the header of the next one, and
    all share the data of the last (after David Fifield's “A better zip bomb”)."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packer.compress(bytes(kernel)) + packer.flush()
    size, laid = kernel, data
    told = []
    for number in reversed(range(files)):
        each = Entry(name=b"p/%d" % number, method=DEFLATED)
        head = header(each, each.name, 0, len(laid), size)
        told.append((each.name, len(laid), size, len(head) + len(laid)))
        quoted = struct.pack("<BHH", 0, len(head), 0xFFFF ^ len(head)) + head
        laid, size = quoted + laid, size + len(head)
    body = laid[5:]  # the first header is not quoted
    start = pack(CODE).index(b"PK\1\2")
    lies = [
        Entry(name=name, method=DEFLATED, packed=packed, size=size, crc=0,
              offset=start + len(body) - from_end)
        for name, packed, size, from_end in told
    ]  # fmt: skip
    return pack(CODE, *lies, more=body)


def end64(count: int, size: int, start: int) -> bytes:
    """The end of a zip with more entries or bytes than the plain one can tell."""
    at = start + size
    return (
        struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
        + struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
        + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, FULL, FULL, 0)
    )


def million(count: int) -> bytes:
    """A million entries of one name each, of which the end tells `count`."""
    start = pack(CODE).index(b"PK\1\2")
    first = pack(CODE)[:start]
    each = b"PK\1\2" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"a"
    body = each * 1_000_000
    return first + body + end64(count, len(body), start)


def changed(zipped: bytes, kind: bytes, at: int, value: bytes) -> bytes:
    """The zip with these bytes put into the first of its records of a kind."""
    found = zipped.index(kind) + at
    return zipped[:found] + value + zipped[found + len(value) :]
