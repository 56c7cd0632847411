"""What the bridge writes and removes on shared storage, on the machine that has it.

As `reading`, it takes absolute texts for paths, answers with JSON's kinds of values and fails by an
OSError.
"""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Callable

from . import files
from .reading import CHUNK, digest_of, open_plain


def write(path: str, data: bytes, mode: int) -> None:
    """Publish a small file by rename, with just these permissions."""
    with files.written_by_rename(Path(path), 0o600) as file:
        file.write(data)
        os.fchmod(file.fileno(), mode)


def create(path: str) -> None:
    """A new empty file. Raises FileExistsError."""
    os.close(os.open(path, files.NEW, 0o666))


def append(path: str, offset: int, data: bytes) -> tuple[int, bool]:
    """Add to a file that is there and ends at `offset`; its size now, and whether it was added.

    One adds at a time, in this process or another: of two only the first finds the end where it
    was. No data adds nothing, and tells the same. A full disk can leave a part of it.
    """
    with _alone(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size != offset:
            return size, False
        _add(file, data)
        return offset + len(data), True


def join(path: str, offset: int, source: str) -> tuple[int, bool]:
    """As `append`, of all that another file holds."""
    with _alone(path) as file, os.fdopen(os.open(source, files.FILE), "rb", buffering=0) as other:
        size = os.fstat(file.fileno()).st_size
        if size != offset:
            return size, False
        while data := other.read(CHUNK):
            _add(file, data)
            offset += len(data)
        return offset, True


def end(path: str, others: list[str]) -> None:
    """Remove a file that may be added to, and what belongs to it: who adds then finds it gone."""
    with _alone(path):
        remove([path, *others])


def seal(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal, whose bytes are on the disk from now on."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # no other needs it

    with open(path, "rb", buffering=0) as file, ThreadPoolExecutor(1) as beside:
        written = beside.submit(os.fsync, file.fileno())  # while it is hashed, and for no core
        digest = digest_of(file)
        written.result()
    return digest


def make_folder(path: str) -> None:
    """A folder, and those on the way to it; it may be there already."""
    os.makedirs(path, exist_ok=True)


def move(source: str, target: str) -> None:
    """Give a file its place, by rename."""
    os.replace(source, target)


def remove(paths: list[str]) -> None:
    """Remove files; one that is not there is as good as removed."""
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)


def touch(path: str) -> None:
    """A file that is there was used now."""
    with suppress(FileNotFoundError):
        os.utime(path)


def permit(path: str, add: int, drop: int) -> None:
    """Add and take off permissions."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    wanted = (mode & ~drop) | add
    if wanted != mode:
        os.chmod(path, wanted)


def take_group(path: str) -> None:
    """What is at this path is of our group from now on."""
    os.chown(path, -1, os.getegid())


def take(source: str, target: str) -> None:
    """Have a plain file, where it is there, a second time: as a link if it is ours, else a copy."""
    try:
        opened = open_plain(source)
    except OSError:
        return
    with os.fdopen(opened, "rb", buffering=0) as file:
        if os.fstat(opened).st_uid == os.geteuid():
            os.link(source, target)
            return
        with os.fdopen(os.open(target, files.NEW, 0o666), "wb") as copy:
            shutil.copyfileobj(file, copy, CHUNK)


def held(paths: list[str]) -> list[bool]:
    """Whether somebody, on whichever machine, holds the lock of each of these files; True also
    where nobody can tell, False where there is no such file."""
    found = []
    for path in paths:
        with _unheld(path) as free:
            found.append(not free)
    return found


def retire(folder: str, lock: str, aside: str) -> bool:
    """Take a folder from its place at once and remove it, unless somebody holds the file `lock`.

    aside: what its name begins with until it is gone. False where it stays.
    """
    parent, name = os.path.split(folder)
    doomed = os.path.join(parent, f"{aside}{name}-{os.urandom(4).hex()}")
    with _unheld(lock) as free:
        if not free:
            return False
        # Gone from its place within this lock: who comes now waits, and then makes it anew.
        try:
            os.rename(folder, doomed)
        except PermissionError:
            return False
    discard(doomed)
    return True


def discard(folder: str) -> None:
    """Remove a folder and all in it, what is read-only too, where it is there and ours."""
    files.discard(Path(folder))


def clear(root: str, inside: str, stays: list[str], logs: str, tasks: str) -> list[str]:
    """Remove what does not stay of the folder `inside` of `root`; no link is followed.

    stays: names; logs: a pattern of further ones; tasks: the folder whose folders are cleared
    alike. Returns what could not be removed, and why.
    """
    try:
        folder = _opened(root, inside)
    except OSError as error:
        return [f"{inside}: {error}"]
    staying = {*stays, tasks}
    try:
        left = _clear_folder(folder, staying, logs)
        with suppress(OSError):  # a run that is no sweep has no tasks
            below = os.open(tasks, files.FOLDER, dir_fd=folder)
            try:
                for name in os.listdir(below):
                    with suppress(OSError):
                        task = os.open(name, files.FOLDER, dir_fd=below)
                        try:
                            left += _clear_folder(task, staying, logs)
                        finally:
                            os.close(task)
            finally:
                os.close(below)
    finally:
        os.close(folder)
    return left


OPERATIONS: dict[str, Callable[..., Any]] = {
    operation.__name__: operation
    for operation in (
        *(write, create, append, join, end, seal, make_folder, move, remove, touch),
        *(permit, take_group, take, held, retire, discard, clear),
    )
}


@contextmanager
def _alone(path: str) -> Iterator[BinaryIO]:
    """A file that is there, which nobody else changes meanwhile."""
    with open(path, "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # By its name: on NFS what was removed while it is open has another name, and so a link.
        if not os.path.samestat(os.stat(path), os.fstat(file.fileno())):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        yield file


def _add(file: BinaryIO, data: bytes) -> None:
    file.seek(0, os.SEEK_END)
    rest = memoryview(data)
    while rest:  # a disk that is almost full takes less than it was given
        rest = rest[file.write(rest) :]


@contextmanager
def _unheld(path: str) -> Iterator[bool]:
    """Within this block nobody begins to hold it; False: somebody does already."""
    try:
        opened = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        yield True
        return
    except OSError:
        yield False
        return
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by somebody; or a storage without locks, where nobody can tell
        os.close(opened)
        yield False
        return
    try:
        yield True
    finally:
        os.close(opened)


def _opened(root: str, inside: str) -> int:
    """The folder `inside` of `root`, to which no link leads. Raises OSError."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in inside.split("/"):
        try:
            deeper = os.open(part, files.FOLDER, dir_fd=folder)
        finally:
            os.close(folder)
        folder = deeper
    return folder


def _clear_folder(folder: int, staying: set[str], logs: str) -> list[str]:
    left = []
    for name in os.listdir(folder):
        if name in staying or fnmatch.fnmatch(name, logs):
            continue
        try:
            _drop(folder, name)
        except (OSError, RecursionError) as error:  # a job can nest folders as deep as it likes
            left.append(f"{name}: {error}")
    return left


def _drop(folder: int, name: str) -> None:
    """A file, a link itself, or a folder with all in it, also where it was made read-only."""
    try:
        os.unlink(name, dir_fd=folder)
        return
    except IsADirectoryError:
        pass
    for _, _, _, inner in os.fwalk(name, dir_fd=folder, follow_symlinks=False):
        with suppress(OSError):
            os.fchmod(inner, 0o700)
    shutil.rmtree(f"/proc/self/fd/{folder}/{name}")  # Python 3.9 takes no descriptor here
