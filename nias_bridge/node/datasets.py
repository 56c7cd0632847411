"""What is uploaded as a dataset becomes read-only content on shared storage, named by its hash.

The hash is the SHA-256 of the list that `sha256sum` makes of the files in the order of their
paths, so that it does not matter by which tool, or when, a folder was zipped.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from . import archive, layout, names, zipreader

_WORK = ".arriving-"
_READ_BYTES = 1024 * 1024
_LEFT_ALONE_SECONDS = 3600  # what nobody names any more may be another process's work until then
_CLOSED, _OPEN, _FILE = 0o550, 0o750, 0o440


class Judged(NamedTuple):
    """What there is in an upload: bytes and files, once unpacked."""

    size: int
    files: int


class Published(NamedTuple):
    """A content that is there: its hash, bytes and files."""

    sha256: str
    size: int
    files: int


class File(NamedTuple):
    """A file of a content: its path, bytes, and SHA-256."""

    path: str
    size: int
    sha256: str


class _Coming(NamedTuple):
    path: str
    size: int
    content: Callable[[], Iterator[bytes]]


def judge(arrived: Path, filename: str, limits: archive.Limits) -> Judged:
    """What an upload would be, read from the zip's directory alone. Raises ArchiveError.

    A file that is named ….zip is unpacked, any other is the dataset's one file. Where all lies in
    one folder, that folder is left out.
    """
    coming = _coming(arrived, filename, limits)
    return Judged(sum(each.size for each in coming), len(coming))


def publish(
    arrived: Path, filename: str, place: Path, word: str, limits: archive.Limits
) -> Published:
    """Make an upload a content in `place`, unless that is there; the upload stays.

    word: names this work, so that what a killed one left is found when it is done again. Raises
    ArchiveError, OSError; BlockingIOError where another process is at it.
    """
    work = place / f"{_WORK}{word}"
    with arrived.open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(work)
        try:
            return _publish(_coming(arrived, filename, limits), place, work)
        finally:
            _remove(work)


def files(place: Path, sha256: str, most: int) -> list[File]:
    """The first files of a content, in the order of their paths. Raises OSError."""
    content = place / sha256
    found: list[File] = []
    with (content / layout.CONTENT_SUMS).open(encoding="utf-8") as sums:
        for line in sums:
            if len(found) == most:
                break
            digest, _, path = line.rstrip("\n").partition("  ")
            size = (content / layout.CONTENT_FILES / path).stat().st_size
            found.append(File(path, size, digest))
    return found


def remove(place: Path, sha256: str) -> None:
    """Remove a content, or what is left of it. Raises OSError."""
    # Out of sight first: whoever is stopped meanwhile leaves no half of it under its name.
    going = place / f"{_WORK}gone-{sha256}"
    _remove(going)
    with suppress(FileNotFoundError):
        (place / sha256).rename(going)
    _remove(going)


def sweep(place: Path, known: Collection[str], working: Collection[str]) -> None:
    """Remove the contents that nobody knows of, and the work that nobody is at."""
    kept = {*known, *(f"{_WORK}{word}" for word in working)}
    with os.scandir(place) as entries:
        found = [entry.name for entry in entries if entry.name not in kept]
    for name in found:
        with suppress(OSError):
            if (place / name).stat().st_ctime < time.time() - _LEFT_ALONE_SECONDS:
                _remove(place / name)


def _is_zip(filename: str) -> bool:
    return filename.casefold().endswith(".zip")


def _coming(arrived: Path, filename: str, limits: archive.Limits) -> list[_Coming]:
    if _is_zip(filename):
        return _of_zip(arrived, limits)
    size = arrived.stat().st_size
    if size > limits.unpacked_bytes:
        raise archive.ArchiveError(
            f"The file has {size:,} bytes; at most {limits.unpacked_bytes:,} are taken."
        )
    try:
        name = names.parts(filename.replace("\\", "/"))[-1:]
        names.check(name)
    except names.BadName as error:
        raise archive.ArchiveError(f"The file “{names.shown(filename)}” {error}.") from None
    if not name:
        raise archive.ArchiveError("The file has no name.")
    return [_Coming(name[0], size, partial(_read, arrived))]


def _of_zip(arrived: Path, limits: archive.Limits) -> list[_Coming]:
    found = [each for each in archive.contents(arrived, limits)[0] if not each.folder]
    if not found:
        raise archive.ArchiveError("The zip holds no files.")
    tops = {each.parts[0] for each in found if len(each.parts) > 1}
    in_one = len(tops) == 1 and all(len(each.parts) > 1 for each in found)
    return [
        _Coming(
            "/".join(each.parts[1:] if in_one else each.parts),
            each.member.size,
            partial(_unpack, arrived, each.member),
        )
        for each in found
    ]


def _publish(coming: list[_Coming], place: Path, work: Path) -> Published:
    folder = work / layout.CONTENT_FILES
    folder.mkdir(parents=True)
    sums = []
    for each in coming:
        path = folder / each.path
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        try:
            archive.write(path, _hashed(each.content(), digest.update))
        except zipreader.ZipError as error:
            raise archive.ArchiveError(f"“{names.shown(each.path)}” {error}.") from None
        path.chmod(_FILE)
        sums.append((each.path, digest.hexdigest()))
    sums.sort(key=lambda pair: pair[0].encode())
    text = "".join(f"{digest}  {path}\n" for path, digest in sums).encode()
    archive.write(work / layout.CONTENT_SUMS, [text])
    (work / layout.CONTENT_SUMS).chmod(_FILE)
    for within, _, _ in os.walk(work, topdown=False):
        os.chmod(within, _CLOSED)  # noqa: PTH101  # os.walk gives texts
    os.sync()  # a content that is there is there after a power cut too
    published = Published(
        hashlib.sha256(text).hexdigest(), sum(each.size for each in coming), len(coming)
    )
    target = place / published.sha256
    with suppress(OSError):  # the same content is there: a folder with files in it stays
        work.rename(target)
    if not (target / layout.CONTENT_SUMS).exists():
        raise FileNotFoundError(2, "it could not be published", str(target))
    return published


def _hashed(content: Iterable[bytes], update: Callable[[bytes], None]) -> Iterator[bytes]:
    for piece in content:
        update(piece)
        yield piece


def _read(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        yield from iter(partial(opened.read, _READ_BYTES), b"")


def _unpack(zipped: Path, member: zipreader.Member) -> Iterator[bytes]:
    with zipped.open("rb") as opened:
        yield from zipreader.content(opened, member)


def _remove(folder: Path) -> None:
    """A folder and all in it, read-only as it is; it may not be there."""
    for within, inner, _ in os.walk(folder):
        for name in ("", *inner):
            path = Path(within, name)
            if not path.is_symlink():
                path.chmod(_OPEN)
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
