"""Write a zip as fast as the disk allows: what is packed already is stored, the rest deflated.

A large entry is cut into blocks that are deflated independently, on all cores, and joined with
sync flushes into one ordinary deflate stream; its SHA-256 is taken beside that, in the same pass.
ISA-L (the package isal) does the deflating where it is importable, else zlib at its fastest.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

BLOCK = 1024 * 1024  # bytes; pieces of this size keep all cores busy
_PACKED = """
    .7z .avi .br .bz2 .docx .flac .gif .gz .jpeg .jpg .m4a .mkv .mov .mp3 .mp4 .ogg .opus
    .png .pptx .rar .tgz .webm .webp .whl .xlsx .xz .zip .zst
"""
_PACKED_SUFFIXES = frozenset(_PACKED.split())
_SMALL = 64 * 1024  # bytes that are packed in one go
_PROBE = 32 * 1024  # bytes looked at at either end of the first piece
_WORTH = 0.97  # a file that keeps more than this of its size is not worth its deflating
_STORED, _DEFLATED = 0, 8
_UTF8_NAME = 0x800
_PLAIN_FILE = 0o100644 << 16
_LIMIT = 0xFFFFFFFF  # of the fields of a zip without zip64
_ZIP64_FROM = _LIMIT - 2**24  # of a file's size: deflating can add a little to it
_LAST_BLOCK = b"\x03\x00"  # an empty one, that says it is the last
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")


class _Deflate(NamedTuple):
    """A module that deflates, with zlib's interface, and the level to ask it for."""

    module: Any
    level: int

    def block(self, content: bytes) -> bytes:
        """Deflated to the last byte, yet without saying that the stream is at its end."""
        packer = self.module.compressobj(self.level, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed: bytes = packer.compress(content) + packer.flush(zlib.Z_SYNC_FLUSH)
        return packed


class Packed(NamedTuple):
    """An entry of the zip: its size before packing in bytes, and what it holds."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class _Written:
    name: bytes
    when: tuple[int, int]
    method: int
    crc: int
    packed: int
    size: int
    offset: int


class Writer:
    """A zip that is being written to a seekable file; leaving the `with` block completes it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._deflate = _fastest()
        self._written: list[_Written] = []
        self._deflating = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "deflate")
        self._hashing = ThreadPoolExecutor(1, "hash")

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self._deflating.shutdown(cancel_futures=True)
        self._hashing.shutdown(cancel_futures=True)
        if kind is None:
            self._complete()

    def add(self, name: str, pieces: Iterable[bytes], *, size_max: int, modified: float) -> Packed:
        """Add a file whose content comes in pieces, at best of BLOCK bytes each.

        size_max: bytes that the pieces surely do not exceed together. modified: seconds since
        1970. Whatever `pieces` raises passes through and leaves the zip without this entry.
        """
        if size_max <= _SMALL:
            return self._add_small(name, b"".join(pieces), size_max, modified)
        offset = self._file.tell()
        pieces = iter(pieces)
        first = next(pieces, b"")
        method = _DEFLATED if self._worth_deflating(name, first) else _STORED
        zip64 = size_max >= _ZIP64_FROM
        raw = name.encode()
        entry = _Written(raw, _dos_time(modified), method, 0, 0, 0, offset)
        try:
            self._file.write(_local_header(entry, zip64))
            start = self._file.tell()
            size, crc, digest = self._write(chain([first], pieces), method)
            end = self._file.tell()
            _refuse_more(name, size, size_max)
            entry = _Written(raw, entry.when, method, crc, end - start, size, offset)
            self._file.seek(offset)
            self._file.write(_local_header(entry, zip64))
            self._file.seek(end)
        except BaseException:
            self._file.seek(offset)
            self._file.truncate()
            raise
        self._written.append(entry)
        return Packed(name, size, digest)

    def _add_small(self, name: str, content: bytes, size_max: int, modified: float) -> Packed:
        # Threads and a second look at the header would cost more than the work itself.
        _refuse_more(name, len(content), size_max)
        method, packed = _STORED, content
        if not _is_packed(name):
            deflated = self._deflate.block(content) + _LAST_BLOCK
            if len(deflated) < _WORTH * len(content):
                method, packed = _DEFLATED, deflated
        crc = self._deflate.module.crc32(content)
        raw, when, offset = name.encode(), _dos_time(modified), self._file.tell()
        entry = _Written(raw, when, method, crc, len(packed), len(content), offset)
        self._file.write(_local_header(entry, zip64=False) + packed)
        self._written.append(entry)
        return Packed(name, len(content), hashlib.sha256(content).hexdigest())

    def _write(self, pieces: Iterator[bytes], method: int) -> tuple[int, int, str]:
        digest = hashlib.sha256()
        size = crc = 0
        under_way: deque[tuple[Future[bytes], Future[None]]] = deque()
        most = 2 * len(os.sched_getaffinity(0))  # blocks held in memory

        def write_oldest() -> None:
            packed, hashed = under_way.popleft()
            self._file.write(packed.result())
            hashed.result()

        try:
            for piece in pieces:
                size += len(piece)
                crc = self._deflate.module.crc32(piece, crc)
                hashed = self._hashing.submit(digest.update, piece)
                if method == _DEFLATED:
                    under_way.append((self._deflating.submit(self._deflate.block, piece), hashed))
                    if len(under_way) >= most:
                        write_oldest()
                else:
                    self._file.write(piece)
                    hashed.result()
            while under_way:
                write_oldest()
        finally:
            for packed, hashed in under_way:  # of an entry that failed
                packed.cancel()
                hashed.cancel()
        if method == _DEFLATED:
            self._file.write(_LAST_BLOCK)
        return size, crc, digest.hexdigest()

    def _worth_deflating(self, name: str, first: bytes) -> bool:
        if _is_packed(name):
            return False
        probe = first if len(first) <= 2 * _PROBE else first[:_PROBE] + first[-_PROBE:]
        return len(self._deflate.block(probe)) < _WORTH * len(probe)

    def _complete(self) -> None:
        start = self._file.tell()
        for entry in self._written:
            self._file.write(_central_header(entry))
        end = self._file.tell()
        count, size = len(self._written), end - start
        if count >= 0xFFFF or end >= _LIMIT:
            self._file.write(
                _END64.pack(b"PK\6\6", 44, 0x31E, 45, 0, 0, count, count, size, start)
                + _LOCATOR64.pack(b"PK\6\7", 0, end, 1)
            )
        few = min(count, 0xFFFF)
        self._file.write(
            _END.pack(b"PK\5\6", 0, 0, few, few, min(size, _LIMIT), min(start, _LIMIT), 0)
        )


def _fastest() -> _Deflate:
    # Looked for late: whoever packs may only just have put the tools environment on sys.path. And
    # whatever is wrong with that costs speed, not results.
    try:
        from isal import isal_zlib  # noqa: PLC0415
    except Exception:
        return _Deflate(zlib, 1)
    return _Deflate(isal_zlib, 2)


def _is_packed(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in _PACKED_SUFFIXES


def _refuse_more(name: str, size: int, size_max: int) -> None:
    if size > size_max:
        raise ValueError(f"{name} has {size} bytes, more than the {size_max} announced")


def pack(files: Iterable[tuple[str, Path]], target: Path) -> list[Packed]:
    """Write a zip of these files (name in the zip, where it is) to `target`. Raises OSError."""
    with target.open("wb") as file, Writer(file) as writer:
        return [_add_path(writer, name, path) for name, path in files]


def _add_path(writer: Writer, name: str, path: Path) -> Packed:
    with path.open("rb", buffering=0) as source:
        status = os.fstat(source.fileno())
        pieces = _blocks(source, status.st_size)
        return writer.add(name, pieces, size_max=status.st_size, modified=status.st_mtime)


def _blocks(source: BinaryIO, size: int) -> Iterator[bytes]:
    # A file that grows while it is read is taken as long as it was when it was opened.
    while size and (piece := source.read(min(BLOCK, size))):
        size -= len(piece)
        yield piece


def _local_header(entry: _Written, zip64: bool) -> bytes:
    sizes = (_LIMIT, _LIMIT) if zip64 else (entry.packed, entry.size)
    extra = struct.pack("<2H2Q", 1, 16, entry.size, entry.packed) if zip64 else b""
    version = 45 if zip64 else 20
    common = (version, _UTF8_NAME, entry.method, *entry.when, entry.crc, *sizes)
    return _LOCAL.pack(b"PK\3\4", *common, len(entry.name), len(extra)) + entry.name + extra


def _central_header(entry: _Written) -> bytes:
    large = [n for n in (entry.size, entry.packed, entry.offset) if n >= _LIMIT]
    extra = struct.pack(f"<2H{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    version = 45 if large else 20
    sizes = (min(entry.packed, _LIMIT), min(entry.size, _LIMIT))
    common = (version, _UTF8_NAME, entry.method, *entry.when, entry.crc, *sizes)
    made_by = 0x31E  # Unix, by the specification's version 3.0
    rest = (len(entry.name), len(extra), 0, 0, 0, _PLAIN_FILE, min(entry.offset, _LIMIT))
    return _CENTRAL.pack(b"PK\1\2", made_by, *common, *rest) + entry.name + extra


def _dos_time(epoch: float) -> tuple[int, int]:
    try:
        at = time.localtime(epoch)
    except (ValueError, OverflowError, OSError):
        at = time.localtime(0)
    if not 1980 <= at.tm_year <= 2107:
        return 0, (1 << 5) | 1
    date = (at.tm_year - 1980) << 9 | at.tm_mon << 5 | at.tm_mday
    return at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2, date
