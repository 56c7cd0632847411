"""What the bridge reads on shared storage, on the machine that has it.

Paths are absolute texts, answers are JSON's kinds of values in which bytes may stand, and what
fails is an OSError. What a job may have written is never reached through a link of the job's.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from itertools import islice
from typing import Any, BinaryIO, Callable, Optional

from . import files

CHUNK = 1024 * 1024
BLOCK = 512  # bytes, whatever the file system's own blocks
FILE, FOLDER, OTHER = "file", "folder", "other"  # a link is other
_REPLACED = " (deleted)"  # as the kernel writes behind the path of a file that was renamed over

# Kind, bytes, nanoseconds of the last change, inode, the owner's number, permissions.
Info = tuple[str, int, int, int, int, int]


def info(path: str) -> Optional[Info]:
    """What is there under this name, a link itself; None where nothing is. Raises OSError where
    that can't be known."""
    try:
        return told(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def infos(paths: list[str]) -> list[Optional[Info]]:
    """As `info`, but None also for what can't be looked at."""
    found: list[Optional[Info]] = []
    for path in paths:
        try:
            found.append(told(os.lstat(path)))
        except (OSError, ValueError):
            found.append(None)
    return found


def contents(paths: list[str], most: int) -> list[Optional[bytes]]:
    """Plain files of just these paths, whole; None for what is none or has over `most` bytes."""
    found: list[Optional[bytes]] = []
    for path in paths:
        try:
            opened = open_plain(path)
        except OSError:
            found.append(None)
            continue
        with os.fdopen(opened, "rb") as file:
            data = file.read(most + 1)
        found.append(data if len(data) <= most else None)
    return found


def begin(path: str, most: int) -> tuple[str, Info, bytes]:
    """A plain file of just this path, on which `read` goes on: path, info, its first bytes."""
    opened = open_plain(path)
    try:
        return path, told(os.fstat(opened)), os.pread(opened, most, 0)
    finally:
        os.close(opened)


def begin_beneath(root: str, path: str, most: int) -> tuple[str, Info, bytes]:
    """As `begin`, of a file below `root`: a link within it is followed by its name."""
    return begin(beneath(root, path), most)


def read(path: str, offset: int, most: int, inode: int) -> bytes:
    """So many bytes of the plain file that `begin` found. Raises OSError once it is another."""
    opened = open_plain(path)
    try:
        if os.fstat(opened).st_ino != inode:
            raise OSError(errno.ESTALE, "the file was replaced while it was read", path)
        return os.pread(opened, most, offset)
    finally:
        os.close(opened)


def listing(root: str, inside: str, most: int) -> list[tuple[str, int]]:
    """Path and size of the plain files below the folder `inside` of `root`, folder by folder.

    At most `most` entries are looked at; none where links lead to that folder.
    """
    top = os.path.join(root, inside)
    found, left, folders = [], most, [top]
    while folders and left > 0:
        folder = folders.pop()
        below = []
        for name, status in _first_entries(folder, left):
            left -= 1
            path = os.path.join(folder, name)
            if stat.S_ISDIR(status.st_mode):
                below.append(path)
            elif stat.S_ISREG(status.st_mode):
                found.append((os.path.relpath(path, top), status.st_size))
        folders.extend(reversed(below))
    return found


def entries(folder: str, ending: str = "") -> list[tuple[str, Info]]:
    """Name and info of what is in a folder, by name; only of names that end so. Nothing is in one
    that is not there."""
    found = []
    with suppress(FileNotFoundError), os.scandir(folder) as there:
        for entry in there:
            if entry.name.endswith(ending):
                with suppress(FileNotFoundError):  # it has just gone
                    found.append((entry.name, told(entry.stat(follow_symlinks=False))))
    return sorted(found)


def size_of(folder: str) -> int:
    """Bytes that a folder and all in it take on the disk; a file of several names counts once."""
    total, seen, ahead = 0, set(), [folder]
    while ahead:
        try:
            with os.scandir(ahead.pop()) as there:
                for entry in there:
                    status = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        ahead.append(entry.path)
                    elif status.st_nlink > 1:
                        if (status.st_dev, status.st_ino) in seen:
                            continue
                        seen.add((status.st_dev, status.st_ino))
                    total += status.st_blocks * BLOCK
        except OSError:
            continue  # it is gone, or closed to us: what can't be seen is not counted
    return total


def sha256(path: str) -> str:
    """The SHA-256 of the plain file of just this path, in hexadecimal."""
    with os.fdopen(open_plain(path), "rb", buffering=0) as file:
        return digest_of(file)


def space(folder: str) -> tuple[int, int, bool]:
    """Bytes in all and free where a folder is, and whether files can be made in it."""
    disk = os.statvfs(folder)
    if not stat.S_ISDIR(os.stat(folder).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
    whole, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    return whole, free, os.access(folder, os.W_OK | os.X_OK)


def open_plain(path: str) -> int:
    """The plain file of just this path: no part of it, from shared storage on, may be a link.

    What is below a run's folder its job may have put there: to follow a link of the job's would be
    to read for its owner what is another's. Raises OSError.
    """
    try:
        opened = os.open(path, files.FILE)
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error), path) from None
    really = os.readlink(f"/proc/self/fd/{opened}")
    plain = stat.S_ISREG(os.fstat(opened).st_mode)
    # NFS gives what was renamed over, while it is open here, another name in its folder.
    replaced = really == f"{path}{_REPLACED}" or (
        os.path.dirname(really) == os.path.dirname(path)
        and os.path.basename(really).startswith(".nfs")
    )
    if not plain or (really != path and not replaced):
        os.close(opened)
        raise OSError(errno.ELOOP, "it is not a plain file, or a link leads to it", path)
    return opened


def beneath(root: str, path: str) -> str:
    """The path itself of what is below `root`, which may be led to by links within it.

    One that leads out is refused; one put in place of a folder after this is refused by
    `open_plain`, and so is `root` where it is one. Raises OSError.
    """
    try:
        found = os.path.realpath(os.path.join(root, path))
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error), path) from None
    if not found.startswith(root.rstrip("/") + "/"):
        raise OSError(errno.ELOOP, "a link leads out of the folder", path)
    return found


OPERATIONS: dict[str, Callable[..., Any]] = {
    operation.__name__: operation
    for operation in (
        *(info, infos, contents, begin, begin_beneath, read),
        *(listing, entries, size_of, sha256, space),
    )
}


def digest_of(file: BinaryIO) -> str:
    """The SHA-256 of all that is still to be read of a file, in hexadecimal."""
    digest = hashlib.sha256()
    while data := file.read(CHUNK):
        digest.update(data)
    return digest.hexdigest()


def told(status: os.stat_result) -> Info:
    kind = OTHER
    if stat.S_ISREG(status.st_mode):
        kind = FILE
    elif stat.S_ISDIR(status.st_mode):
        kind = FOLDER
    mode = stat.S_IMODE(status.st_mode)
    return kind, status.st_size, status.st_mtime_ns, status.st_ino, status.st_uid, mode


def _first_entries(folder: str, most: int) -> list[tuple[str, os.stat_result]]:
    """Not all of a million, nor those whose names are no text; none where a link led there."""
    found = []
    try:
        opened = os.open(folder, files.FILE | os.O_DIRECTORY)
    except (OSError, ValueError):
        return []
    try:
        if os.readlink(f"/proc/self/fd/{opened}") != folder:
            return []
        with os.scandir(opened) as there:
            for entry in islice(there, most):
                with suppress(OSError):  # it is a live folder: what was there can have gone
                    if entry.name.isprintable():
                        found.append((entry.name, entry.stat(follow_symlinks=False)))
    finally:
        os.close(opened)
    return sorted(found, key=lambda named: named[0])
