"""A file or a folder of data as it is sent for a dataset: a zip that is never written down.

The same folder makes the same bytes each time, so that an upload that broke off goes on, and its
hash is the one by which the gateway knows the content.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from nias_bridge.datasets import dataset_name
from nias_bridge.errors import BadUpload
from nias_bridge.node import names, zipheaders
from nias_bridge.node.zipheaders import Entry

_CHUNK = 1024 * 1024
_TOP = "data"  # the one folder that the gateway leaves out
_WHEN = zipheaders.dos_time(0)  # the same for all: when a file was made is no part of a dataset

# Told how far something is: bytes done, and bytes in all.
Told = Callable[[int, int | None], None]


@dataclass(frozen=True)
class _Read:
    """A file that was looked at: its path in the dataset, and what is in it."""

    path: str
    source: Path
    size: int
    crc: int
    sha256: str


@dataclass(frozen=True)
class _Stretch:
    """Some of the bytes that are sent: these, or those of a file."""

    size: int
    header: bytes = b""
    source: Path | None = None


@dataclass(frozen=True)
class Packed:
    """What is sent: its name and bytes, and the hash of the version that it will be.

    sha256: "" for a zip, which the gateway unpacks first.
    """

    filename: str
    size: int
    sha256: str
    stretches: tuple[_Stretch, ...]

    def read(self, offset: int) -> Iterator[bytes]:
        """The bytes from this offset on. Raises BadUpload where a file became shorter meanwhile."""
        for stretch in self.stretches:
            if offset >= stretch.size:
                offset -= stretch.size
                continue
            if stretch.source is None:
                yield stretch.header[offset:]
            else:
                yield from _part(stretch.source, offset, stretch.size)
            offset = 0


def packed(path: str | Path, told: Told) -> Packed:
    """Look at a file or at all files of a folder, which are read once. Raises BadUpload."""
    source = Path(path).expanduser().resolve()
    if source.is_file():
        return _single(source, told)
    if not source.is_dir():
        raise BadUpload(f"There is no file or folder “{path}”.")
    found = sorted(_files(source), key=lambda each: each[0].encode())
    if not found:
        raise BadUpload(f"{source} holds no files.")
    whole = sum(file.stat().st_size for _, file in found)
    done, read = 0, []
    for name, file in found:
        read.append(_looked_at(name, file, _beyond(told, done, whole)))
        done += read[-1].size
    return _zipped(f"{source.name or _TOP}.zip", read)


def name_for(path: str | Path) -> str:
    """How a dataset of this file or folder is called where nobody says. Raises BadUpload."""
    source = Path(path).expanduser().resolve()
    name = source.name[: -len(".zip")] if source.name.lower().endswith(".zip") else source.name
    try:
        return dataset_name(name)
    except ValueError as error:
        raise BadUpload(f"“{name}” {error}. Give it one with --name.") from None


def _single(source: Path, told: Told) -> Packed:
    size = source.stat().st_size
    stretches = (_Stretch(size, source=source),)
    if source.name.lower().endswith(".zip"):
        return Packed(source.name, size, "", stretches)
    one = _looked_at(normalize("NFC", source.name), source, lambda done: told(done, size))
    return Packed(source.name, one.size, _hash([one]), stretches)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for within, folders, found in os.walk(folder, onerror=_unreadable):
        here = Path(within)
        for inner in folders:
            if (here / inner).is_symlink():
                raise BadUpload(f"{here / inner} is a link to a folder. Put the folder there.")
        for name in found:
            file = here / name
            parts = tuple(normalize("NFC", p) for p in file.relative_to(folder).parts)
            if names.is_junk(parts):
                continue
            try:
                names.check(parts)
            except names.BadName as error:
                raise BadUpload(f"{file} {error}.") from None
            yield "/".join(parts), file


def _unreadable(error: OSError) -> None:
    raise BadUpload(f"{error.filename} can't be read: {error.strerror}.") from None


def _beyond(told: Told, done: int, whole: int) -> Callable[[int], None]:
    return lambda size: told(done + size, whole)


def _looked_at(path: str, source: Path, told: Callable[[int], None]) -> _Read:
    size, crc, digest = 0, 0, hashlib.sha256()
    with source.open("rb") as opened:
        while piece := opened.read(_CHUNK):
            size += len(piece)
            crc = zlib.crc32(piece, crc)
            digest.update(piece)
            told(size)
    return _Read(path, source, size, crc, digest.hexdigest())


def _hash(read: list[_Read]) -> str:
    listed = "".join(f"{each.sha256}  {each.path}\n" for each in read)
    return hashlib.sha256(listed.encode()).hexdigest()


def _zipped(filename: str, read: list[_Read]) -> Packed:
    stretches, directory, at = [], [], 0
    for each in read:
        name = f"{_TOP}/{each.path}".encode()
        stored = zipheaders.STORED
        entry = Entry(name, _WHEN, stored, each.crc, each.size, each.size, at)
        header = zipheaders.local(entry, zip64=each.size >= zipheaders.LIMIT)
        stretches += [_Stretch(len(header), header), _Stretch(each.size, source=each.source)]
        directory.append(zipheaders.central(entry))
        at += len(header) + each.size
    central = b"".join(directory)
    last = central + zipheaders.end(len(read), at, at + len(central))
    stretches.append(_Stretch(len(last), last))
    return Packed(filename, at + len(last), _hash(read), tuple(stretches))


def _part(source: Path, offset: int, size: int) -> Iterator[bytes]:
    with source.open("rb") as opened:
        opened.seek(offset)
        left = size - offset
        while left:
            piece = opened.read(min(_CHUNK, left))
            if not piece:
                raise BadUpload(f"{source} has become shorter while it was sent. Begin again.")
            left -= len(piece)
            yield piece
