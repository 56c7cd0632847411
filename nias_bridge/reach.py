"""Ways to the machine that has the shared storage, and plain files that are opened by them."""

from __future__ import annotations

import io
import os
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Protocol

from nias_bridge.node import reading
from nias_bridge.node.operations import OPERATIONS

PIECE_BYTES = 1024 * 1024  # of a file, in one call
FIRST_BYTES = 128 * 1024  # … with its opening: all of most files


class Info(NamedTuple):
    """What is there under a name: size in bytes, modified in nanoseconds; a link is neither a file
    nor a folder."""

    kind: str
    size: int
    modified_ns: int
    inode: int
    uid: int
    mode: int

    @property
    def plain(self) -> bool:
        return self.kind == reading.FILE

    @property
    def folder(self) -> bool:
        return self.kind == reading.FOLDER

    @property
    def modified(self) -> float:
        """Seconds."""
        return self.modified_ns / 1e9


class Opened(io.BufferedReader):
    """A plain file open for reading, its path without links, and what it was when it was opened."""

    def __init__(self, raw: io.RawIOBase, path: str, info: Info, buffer: int) -> None:
        super().__init__(raw, buffer)
        self.path = PurePosixPath(path)
        self.info = info


class Reach(Protocol):
    """A way to the machine that has the storage. Each raises StorageUnreachable where it is not to
    be had, and OSError for what is wrong with the file."""

    def call(self, operation: str, **arguments: Any) -> Any:
        """What this one of OPERATIONS answers; tuples may have become lists."""
        ...

    def open(self, path: str) -> Opened:
        """The plain file of just this path."""
        ...

    def open_beneath(self, root: str, path: str) -> Opened:
        """A plain file below `root`, whose links within are followed by name."""
        ...

    def close(self) -> None:
        """Let go of what is held; the next call takes it up anew."""
        ...


class Mounted:
    """The storage is mounted here."""

    def call(self, operation: str, **arguments: Any) -> Any:
        return OPERATIONS[operation](**arguments)

    def open(self, path: str) -> Opened:
        file = io.FileIO(reading.open_plain(path))
        info = Info(*reading.told(os.fstat(file.fileno())))
        return Opened(file, path, info, io.DEFAULT_BUFFER_SIZE)

    def open_beneath(self, root: str, path: str) -> Opened:
        return self.open(reading.beneath(root, path))

    def close(self) -> None:
        pass


class Afar(io.RawIOBase):
    """A file that is read by calls, each of which knows where it begins: any of them may go another
    way than the one before."""

    def __init__(self, reach: Reach, path: str, info: Info, beginning: bytes) -> None:
        self._reach, self._path, self._info = reach, path, info
        self._beginning, self._at = beginning, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._info.size}[whence]
        if start + offset < 0:
            raise OSError(22, "a file has nothing before its beginning", self._path)
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        data = self._beginning[self._at : self._at + len(into)]
        if not data and self._at < self._info.size:
            data = self._reach.call(
                "read",
                path=self._path,
                offset=self._at,
                most=min(len(into), PIECE_BYTES),
                inode=self._info.inode,
            )
        into[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(PIECE_BYTES) or b"", b""))


def open_afar(reach: Reach, operation: str, **where: str) -> Opened:
    """A file opened by a call: `begin` (path), or `begin_beneath` (root, path)."""
    path, told, beginning = reach.call(operation, most=FIRST_BYTES, **where)
    info = Info(*told)
    return Opened(Afar(reach, path, info, beginning), path, info, PIECE_BYTES)
