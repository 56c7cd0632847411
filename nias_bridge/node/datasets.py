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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from . import archive, layout, names, zipreader

_WORK = ".arriving-"
_READ_BYTES = 1024 * 1024
_LEFT_ALONE_SECONDS = 3600  # what nobody names any more may be another process's work until then
# A content's own folder is its door: who is to come in, stands in its ACL. Behind it all may read.
_DOOR, FOLDER, FILE = 0o500, 0o555, 0o444
_WORKED_AT = 0o700  # which lets nobody in, whomever an ACL names


class Judged(NamedTuple):
    """What there is in an upload: bytes and files, once unpacked."""

    size: int
    files: int


class _Coming(NamedTuple):
    path: str
    size: int
    content: Callable[[], Iterator[bytes]]


def judge(file: BinaryIO, filename: str, limits: archive.Limits) -> Judged:
    """What an upload, which is open, would be, read from a zip's directory alone.

    A file that is named ….zip is unpacked, any other is the dataset's one file. Where all lies in
    one folder, that folder is left out. Raises ArchiveError.
    """
    coming = _coming(file, filename, limits)
    return Judged(sum(each.size for each in coming), len(coming))


def publish(
    path: str, folder: str, filename: str, word: str, limits: Sequence[int]
) -> dict[str, Any]:
    """Make an upload a content in `folder`, unless that is there; the upload stays.

    word: names this work, so that what a killed one left is found when it is done again. Gives
    sha256, size and files, or `refused`: a sentence. Raises OSError; BlockingIOError where another
    process is at it.
    """
    place = Path(folder)
    work = place / f"{_WORK}{word}"
    with Path(path).open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(work)
        try:
            return _publish(_coming(file, filename, archive.Limits(*limits)), place, work)
        except archive.ArchiveError as error:
            return {"refused": str(error)}
        finally:
            _remove(work)


def files_of(folder: str, sha256: str, most: int) -> list[tuple[str, int, str]]:
    """Path, bytes and SHA-256 of the first files of a content, in order. Raises OSError."""
    content = Path(folder) / sha256
    found: list[tuple[str, int, str]] = []
    with (content / layout.CONTENT_SUMS).open(encoding="utf-8") as sums:
        for line in sums:
            if len(found) == most:
                break
            digest, _, path = line.rstrip("\n").partition("  ")
            size = (content / layout.CONTENT_FILES / path).stat().st_size
            found.append((path, size, digest))
    return found


def drop(folder: str, sha256: str, published: int) -> None:
    """Remove a content, or what is left of it, unless it was published again meanwhile.

    published: nanoseconds, its folder's time when it was last known that nobody has it. Raises
    OSError.
    """
    place = Path(folder)
    # Out of sight first: whoever is stopped meanwhile leaves no half of it under its name.
    going = place / f"{_WORK}gone-{sha256}"
    _remove(going)
    with _alone(place), suppress(FileNotFoundError):
        if (place / sha256).stat().st_mtime_ns == published:
            (place / sha256).rename(going)
    _remove(going)


def sweep(folder: str, known: Sequence[str], working: Sequence[str]) -> None:
    """Remove the contents that nobody knows of, and the work that nobody is at."""
    kept = {*known, *(f"{_WORK}{word}" for word in working)}
    with os.scandir(folder) as entries:
        found = [entry.path for entry in entries if entry.name not in kept]
    for path in map(Path, found):
        with suppress(OSError):
            if path.stat().st_ctime < time.time() - _LEFT_ALONE_SECONDS:
                _remove(path)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "publish_dataset": publish,
    "files_of_dataset": files_of,
    "drop_dataset": drop,
    "sweep_datasets": sweep,
}


def _is_zip(filename: str) -> bool:
    return filename.casefold().endswith(".zip")


def _coming(file: BinaryIO, filename: str, limits: archive.Limits) -> list[_Coming]:
    if _is_zip(filename):
        return _of_zip(file, limits)
    size = file.seek(0, os.SEEK_END)
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
    return [_Coming(name[0], size, partial(_read, file))]


def _of_zip(file: BinaryIO, limits: archive.Limits) -> list[_Coming]:
    found = [each for each in archive.contents(file, limits)[0] if not each.folder]
    if not found:
        raise archive.ArchiveError("The zip holds no files.")
    tops = {each.parts[0] for each in found if len(each.parts) > 1}
    in_one = len(tops) == 1 and all(len(each.parts) > 1 for each in found)
    return [
        _Coming(
            "/".join(each.parts[1:] if in_one else each.parts),
            each.member.size,
            partial(zipreader.content, file, each.member),
        )
        for each in found
    ]


def _publish(coming: list[_Coming], place: Path, work: Path) -> dict[str, Any]:
    folder = work / layout.CONTENT_FILES
    work.mkdir(_WORKED_AT)
    folder.mkdir()
    sums = []
    for each in coming:
        path = folder / each.path
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        try:
            archive.write(path, _hashed(each.content(), digest.update))
        except zipreader.ZipError as error:
            raise archive.ArchiveError(f"“{names.shown(each.path)}” {error}.") from None
        path.chmod(FILE)
        sums.append((each.path, digest.hexdigest()))
    sums.sort(key=lambda pair: pair[0].encode())
    text = "".join(f"{digest}  {path}\n" for path, digest in sums).encode()
    archive.write(work / layout.CONTENT_SUMS, [text])
    (work / layout.CONTENT_SUMS).chmod(FILE)
    for within, _, _ in os.walk(folder, topdown=False):
        os.chmod(within, FOLDER)  # noqa: PTH101  # os.walk gives texts
    work.chmod(_DOOR)
    os.sync()  # a content that is there is there after a power cut too
    sha256 = hashlib.sha256(text).hexdigest()
    target = place / sha256
    with _alone(place):
        with suppress(OSError):  # the same content is there: a folder with files in it stays
            work.rename(target)
        if not (target / layout.CONTENT_SUMS).exists():
            raise FileNotFoundError(2, "it could not be published", str(target))
        os.utime(target)  # who was about to drop what was there finds this
    size = sum(each.size for each in coming)
    return {"sha256": sha256, "size": size, "files": len(coming)}


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Within this block no other process publishes a content or takes one away."""
    # Others may pass by here: who could open it could keep it.
    path, how = place.with_name(f"{place.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    lock = os.open(path, how, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _hashed(content: Iterable[bytes], update: Callable[[bytes], None]) -> Iterator[bytes]:
    for piece in content:
        update(piece)
        yield piece


def _read(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    yield from iter(partial(file.read, _READ_BYTES), b"")


def _remove(folder: Path) -> None:
    """A folder and all in it, read-only as it is; it may not be there."""
    for within, inner, _ in os.walk(folder):
        for name in ("", *inner):
            path = Path(within, name)
            if not path.is_symlink():
                path.chmod(_WORKED_AT)
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
