"""Collect what a run left in output/: results.zip, and a manifest of what is in it and what not.

The program that wrote output/ may have put anything there and may still be changing it. So every
file is opened from folder to folder without following links, looked at only once it is open, and
read once.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Union

from . import fastzip, files, layout

BYTES_MAX = 100 * 1000**3
FILES_MAX = 100_000
_DEPTH_MAX = 100
_LEFT_OUT_TOLD = 1000
# None of these is printable, which is quicker to ask.
_CONTROL = "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]"
_NO_TIME = "the job was ended before it was collected"


class Collected(NamedTuple):
    """How much was collected: files and their bytes, and how many entries were left out."""

    files: int
    size: int
    left_out: int


class _File(NamedTuple):
    path: str  # in output/
    parts: tuple[str, ...]  # where it really is in output/, for a link
    top: int  # output/, open


class _LeftOut(NamedTuple):
    path: str
    why: str


class _Unfit(Exception):
    """This file can't be in the results; the words say why."""


def collect(
    run: Path,
    bytes_max: int = BYTES_MAX,
    files_max: int = FILES_MAX,
    time_is_up: Callable[[], bool] = lambda: False,
) -> Collected:
    """Write results.zip and then manifest.json into `run` from its project/output/.

    What would exceed either limit, or is not in the zip when `time_is_up`, is left out and listed.
    Raises OSError when the two can't be written; nothing half-written stays.
    """
    listed: list[fastzip.Packed] = []
    left_out: list[_LeftOut] = []
    size = 0
    with ExitStack() as opened:
        target = opened.enter_context(files.written_by_rename(run / layout.RESULTS))
        results = opened.enter_context(fastzip.Writer(target))
        here = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, here)
        for found in _found(here, opened):
            if len(listed) >= files_max:
                why = f"this and all that follows: there are more than {files_max:,} files"
                left_out.append(_LeftOut(found.path, why))
                break
            if time_is_up():
                left_out.append(_LeftOut(found.path, f"this and all that follows: {_NO_TIME}"))
                break
            try:
                entry = _add(results, found, bytes_max - size, time_is_up)
            except _Unfit as unfit:
                left_out.append(_LeftOut(found.path, str(unfit)))
            else:
                size += entry.size
                listed.append(entry)
    manifest = {
        "files": [{"path": e.name, "size": e.size, "sha256": e.sha256} for e in listed],
        "left_out": [
            {"path": printable(path), "why": why} for path, why in left_out[:_LEFT_OUT_TOLD]
        ],
        "left_out_count": len(left_out),
        "created": time.time(),
    }
    files.write_json(run / layout.MANIFEST, manifest)
    return Collected(len(listed), size, len(left_out))


def printable(path: str) -> str:
    """A file's name as JSON and UTF-8 can hold it, on one line."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if text.isprintable():
        return text
    return re.sub(_CONTROL, lambda found: f"<U+{ord(found[0]):04X}>", text)


def _found(run: int, opened: ExitStack) -> Iterator[Union[_File, _LeftOut]]:
    try:
        top = opened.enter_context(_opened(run, (layout.PROJECT, layout.OUTPUT), files.FOLDER))
    except FileNotFoundError:
        return iter(())  # the program removed it: it left nothing
    except OSError:
        return iter([_LeftOut(layout.OUTPUT, "it is not a folder any more")])
    return _walk(top)


def _walk(top: int) -> Iterator[Union[_File, _LeftOut]]:
    real = str(Path(f"/proc/self/fd/{top}").readlink())
    folders: list[tuple[str, ...]] = [()]
    while folders:
        folder = folders.pop()
        try:
            entries = _entries(top, folder)
        except OSError as error:
            yield _LeftOut("/".join(folder), f"it can't be read: {_words(error)}")
            continue
        below = []
        for name, kind in entries:
            parts = (*folder, name)
            path = "/".join(parts)
            if kind == stat.S_IFDIR and len(parts) > _DEPTH_MAX:
                yield _LeftOut(path, f"it lies more than {_DEPTH_MAX} folders deep")
            elif kind == stat.S_IFDIR:
                below.append(parts)
            elif name in layout.NO_RESULTS:
                continue
            elif kind == stat.S_IFLNK:
                yield _linked(top, real, path)
            else:
                yield _File(path, parts, top)
        folders.extend(reversed(below))


def _entries(top: int, folder: tuple[str, ...]) -> list[tuple[str, int]]:
    with _opened(top, folder, files.FOLDER) as descriptor, os.scandir(descriptor) as found:
        _show(descriptor, stat.S_IRGRP | stat.S_IXGRP)
        return sorted((e.name, _kind(e)) for e in found)


def _kind(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return stat.S_IFLNK
    return stat.S_IFDIR if entry.is_dir(follow_symlinks=False) else 0


def _linked(top: int, real: str, path: str) -> Union[_File, _LeftOut]:
    try:
        target = os.path.realpath(os.path.join(real, path))  # noqa: PTH118  # bytes, no text
    except OSError:  # it was swapped for something else just now
        return _LeftOut(path, "it changed while the results were collected")
    if not target.startswith(real + os.sep):
        return _LeftOut(path, "it is a link that leads out of output/")
    return _File(path, Path(target[len(real) + 1 :]).parts, top)


@contextmanager
def _opened(top: int, parts: tuple[str, ...], how: int) -> Iterator[int]:
    # Folder by folder, so that none of them can be swapped for a link on the way.
    descriptor = os.dup(top)
    try:
        for depth, part in enumerate(parts, 1):
            last = depth == len(parts)
            inner = os.open(part, how if last else files.FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _add(
    results: fastzip.Writer,
    found: Union[_File, _LeftOut],
    room: int,
    time_is_up: Callable[[], bool],
) -> fastzip.Packed:
    if isinstance(found, _LeftOut):
        raise _Unfit(found.why)
    if not found.path.isprintable() and re.search(_CONTROL, found.path):
        raise _Unfit("its name has a control character, such as a line break")
    if printable(found.path) != found.path:
        raise _Unfit("its name is not UTF-8")
    with ExitStack() as opened:
        try:
            descriptor = opened.enter_context(_opened(found.top, found.parts, files.FILE))
        except OSError as error:
            raise _Unfit(f"it can't be opened: {_words(error)}") from None
        status = os.fstat(descriptor)
        _refuse(status, room)
        _show(descriptor, stat.S_IRGRP)
        pieces = _pieces(descriptor, status.st_size, time_is_up)
        return results.add(found.path, pieces, size_max=status.st_size, modified=status.st_mtime)


def _show(descriptor: int, bits: int) -> None:
    # Where jobs run as their owners' accounts the gateway sees what an ACL lets it see, and the
    # group's bits are the most that it lets.
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if mode & bits != bits:
        with suppress(OSError):
            os.fchmod(descriptor, mode | bits)


def _refuse(status: os.stat_result, room: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _Unfit("it is not a plain file (a pipe, a device, a socket or a linked folder)")
    if status.st_nlink > 1 and status.st_uid != os.geteuid():
        raise _Unfit("it is a hard link to a file of somebody else")
    if status.st_size > room:
        raise _Unfit(f"it is too large ({status.st_size / 1e9:,.1f} GB) for what results may hold")


def _pieces(descriptor: int, size: int, time_is_up: Callable[[], bool]) -> Iterator[bytes]:
    # A file that grows while it is read is taken as long as it was when it was opened.
    while size > 0:
        if time_is_up():
            raise _Unfit(_NO_TIME)
        try:
            piece = os.read(descriptor, min(fastzip.BLOCK, size))
        except OSError as error:
            raise _Unfit(f"it could be read only in part: {_words(error)}") from None
        if not piece:
            return
        size -= len(piece)
        yield piece


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
