"""Write a zip as fast as the disk allows: what is packed already is stored, the rest deflated.

A large entry is cut into blocks that are deflated independently, on all cores, and joined with
sync flushes into one ordinary deflate stream; its SHA-256 is taken beside that, in the same pass.
ISA-L (the package isal) does the deflating where it is importable, else zlib at its fastest.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Optional

from . import zipheaders
from .zipheaders import DEFLATED, STORED, Entry

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

BLOCK = 1024 * 1024  # bytes; pieces of this size keep all cores busy
_PACKED = """
    .7z .avi .br .bz2 .docx .flac .gif .gz .jpeg .jpg .m4a .mkv .mov .mp3 .mp4 .ogg .opus
    .png .pptx .rar .tgz .webm .webp .whl .xlsx .xz .zip .zst
"""
_PACKED_SUFFIXES = frozenset(_PACKED.split())
_SMALL = 64 * 1024  # bytes that are packed in one go
_PROBE = 32 * 1024  # bytes looked at at either end of the first piece
_WORTH = 0.97  # a file that keeps more than this of its size is not worth its deflating
_ZIP64_FROM = zipheaders.LIMIT - 2**24  # of a file's size: deflating can add a little to it
_LAST_BLOCK = b"\x03\x00"  # an empty one, that says it is the last


class _Deflate(NamedTuple):
    """A module that deflates, with zlib's interface, and the level to ask it for."""

    module: Any
    level: int

    def block(self, content: bytes) -> bytes:
        """Deflated to the last byte, yet without saying that the stream is at its end."""
        packer = self.module.compressobj(self.level, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed: bytes = packer.compress(content) + packer.flush(zlib.Z_SYNC_FLUSH)
        return packed


class _Threads(NamedTuple):
    deflating: ThreadPoolExecutor
    hashing: ThreadPoolExecutor


class Packed(NamedTuple):
    """An entry of the zip: its size before packing in bytes, and what it holds."""

    name: str
    size: int
    sha256: str


class Writer:
    """A zip that is being written to a seekable file; leaving the `with` block completes it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._deflate = _fastest()
        self._written: list[Entry] = []
        self._threads: Optional[_Threads] = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        for threads in self._threads or ():
            threads.shutdown(cancel_futures=True)
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
        method = DEFLATED if self._worth_deflating(name, first) else STORED
        zip64 = size_max >= _ZIP64_FROM
        raw = name.encode()
        entry = Entry(raw, zipheaders.dos_time(modified), method, 0, 0, 0, offset)
        try:
            self._file.write(zipheaders.local(entry, zip64=zip64))
            start = self._file.tell()
            size, crc, digest = self._write(chain([first], pieces), method)
            end = self._file.tell()
            _refuse_more(name, size, size_max)
            entry = entry._replace(crc=crc, packed=end - start, size=size)
            self._file.seek(offset)
            self._file.write(zipheaders.local(entry, zip64=zip64))
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
        method, packed = STORED, content
        if not _is_packed(name):
            deflated = self._deflate.block(content) + _LAST_BLOCK
            if len(deflated) < _WORTH * len(content):
                method, packed = DEFLATED, deflated
        crc = self._deflate.module.crc32(content)
        raw, when, offset = name.encode(), zipheaders.dos_time(modified), self._file.tell()
        entry = Entry(raw, when, method, crc, len(packed), len(content), offset)
        self._file.write(zipheaders.local(entry, zip64=False) + packed)
        self._written.append(entry)
        return Packed(name, len(content), hashlib.sha256(content).hexdigest())

    def _write(self, pieces: Iterator[bytes], method: int) -> tuple[int, int, str]:
        self._threads = threads = self._threads or _started()
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
                hashed = threads.hashing.submit(digest.update, piece)
                if method == DEFLATED:
                    under_way.append((threads.deflating.submit(self._deflate.block, piece), hashed))
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
        if method == DEFLATED:
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
            self._file.write(zipheaders.central(entry))
        self._file.write(zipheaders.end(len(self._written), start, self._file.tell()))


def _started() -> _Threads:
    # A run that leaves only small files needs none, and is not kept waiting for their import.
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    cores = len(os.sched_getaffinity(0))
    return _Threads(ThreadPoolExecutor(cores, "deflate"), ThreadPoolExecutor(1, "hash"))


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
