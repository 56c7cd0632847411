"""Shared storage, as the services have it: typed, and the same from wherever it is reached."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from nias_bridge.errors import NotFound
from nias_bridge.node import archive
from nias_bridge.reach import PIECE_BYTES, Info, Mounted, Opened, Reach

LISTING_MAX = 2000
Data = bytes | memoryview


class Space(NamedTuple):
    """Bytes in all and free, and whether files can be made there."""

    total: int
    free: int
    writable: bool


@dataclass(frozen=True)
class Storage:
    """Shared storage by one way to reach it. All raise StorageUnreachable, and OSError as files do
    unless they say otherwise."""

    reach: Reach

    def close(self) -> None:
        """Let go of connections: a process that is forked now makes its own."""
        self.reach.close()

    def info(self, path: PurePosixPath) -> Info | None:
        """What is there, a link itself; None where surely nothing is."""
        told = self.reach.call("info", path=str(path))
        return Info(*told) if told else None

    def infos(self, paths: Sequence[PurePosixPath]) -> list[Info | None]:
        """As `info`, in one call; None also for what can't be looked at."""
        told = self.reach.call("infos", paths=list(map(str, paths)))
        return [Info(*each) if each else None for each in told]

    def is_plain(self, file: PurePosixPath) -> bool:
        """Whether there is a file of this name that is neither a link nor anything special."""
        (info,) = self.infos([file])
        return info is not None and info.plain

    def contents(self, files: Sequence[PurePosixPath], most: int) -> list[bytes | None]:
        """Small plain files, whole, in one call; None for what is none or has over `most` bytes."""
        told: list[bytes | None] = self.reach.call(
            "contents", paths=list(map(str, files)), most=most
        )
        return told

    def open(self, file: PurePosixPath) -> Opened:
        """The plain file of just this path, to which no link leads."""
        return self.reach.open(str(file))

    def open_beneath(self, root: PurePosixPath, path: str) -> Opened:
        """A plain file below `root`, to which no link from outside leads. Raises NotFound.

        A link within `root` is followed by its name; one put in place of a folder meanwhile is not,
        nor is `root` where it is one.
        """
        try:
            return self.reach.open_beneath(str(root), path)
        except OSError:
            raise NotFound(f"There is no plain file “{path}”.") from None

    def sha256(self, file: PurePosixPath) -> str:
        """The SHA-256 of a plain file, in hexadecimal."""
        return str(self.reach.call("sha256", path=str(file)))

    def listing(
        self, root: PurePosixPath, inside: str, most: int = LISTING_MAX
    ) -> list[tuple[str, int]]:
        """Path and size of the plain files below the folder `inside` of `root`, folder by folder.

        At most `most` entries are looked at; none where links lead to that folder.
        """
        told = self.reach.call("listing", root=str(root), inside=inside, most=most)
        return [(path, size) for path, size in told]

    def entries(self, folder: PurePosixPath, ending: str = "") -> dict[str, Info]:
        """What is in a folder, by name; only the names that end so. Nothing is in one that is not
        there."""
        told = self.reach.call("entries", folder=str(folder), ending=ending)
        return {name: Info(*info) for name, info in told}

    def size_of(self, folder: PurePosixPath) -> int:
        """Bytes that a folder and all in it take; a file of several names counts once."""
        return int(self.reach.call("size_of", folder=str(folder)))

    def space(self, folder: PurePosixPath) -> Space:
        """How much room there is where a folder is."""
        return Space(*self.reach.call("space", folder=str(folder)))

    def write(self, file: PurePosixPath, content: str | bytes, mode: int = 0o640) -> None:
        """Publish a small file by rename, for its owner and group alone or as `mode` says."""
        data = content.encode() if isinstance(content, str) else content
        self.reach.call("write", path=str(file), data=data, mode=mode)

    def create(self, file: PurePosixPath) -> None:
        """A new empty file. Raises FileExistsError."""
        self.reach.call("create", path=str(file))

    def append(
        self, file: PurePosixPath, offset: int, data: bytes | memoryview
    ) -> tuple[int, bool]:
        """Add to a file that ends at `offset`: its size now, and whether it was added.

        Of two that add at once only the first finds the end where it was. No data adds nothing,
        and tells the same.
        """
        told = self.reach.call("append", path=str(file), offset=offset, data=data)
        return int(told[0]), bool(told[1])

    def growing(self, file: PurePosixPath) -> BinaryIO:
        """A new file to be written to from its beginning on. Raises FileExistsError."""
        return io.BufferedWriter(Growing(self, file), PIECE_BYTES)

    def join(self, file: PurePosixPath, offset: int, source: PurePosixPath) -> tuple[int, bool]:
        """As `append`, of all that another file holds."""
        told = self.reach.call("join", path=str(file), offset=offset, source=str(source))
        return int(told[0]), bool(told[1])

    def end(self, file: PurePosixPath, *others: PurePosixPath) -> None:
        """Remove a file that may be added to at this moment, and what belongs to it."""
        self.reach.call("end", path=str(file), others=list(map(str, others)))

    def put(self, file: PurePosixPath, source: BinaryIO, mode: int) -> None:
        """Publish a large file by rename, with just these permissions."""
        beside = file.with_name(f".{file.name}.{os.urandom(6).hex()}")
        self.create(beside)
        try:
            offset = 0
            while data := source.read(PIECE_BYTES):
                offset, _ = self.append(beside, offset, data)
            self.permit(beside, add=mode, drop=0o7777)
            self.move(beside, file)
        except BaseException:
            self.remove(beside)
            raise

    def seal(self, file: PurePosixPath) -> str:
        """The SHA-256 of a file, in hexadecimal, whose bytes are on the disk from now on."""
        return str(self.reach.call("seal", path=str(file)))

    def make_folder(self, folder: PurePosixPath) -> None:
        """A folder, and those on the way to it; it may be there already."""
        self.reach.call("make_folder", path=str(folder))

    def move(self, source: PurePosixPath, target: PurePosixPath) -> None:
        """Give a file its place, by rename."""
        self.reach.call("move", source=str(source), target=str(target))

    def remove(self, *files: PurePosixPath) -> None:
        """Remove files; one that is not there is as good as removed."""
        if files:
            self.reach.call("remove", paths=list(map(str, files)))

    def touch(self, file: PurePosixPath) -> None:
        """A file was used now, where it is there."""
        self.reach.call("touch", path=str(file))

    def permit(self, path: PurePosixPath, *, add: int = 0, drop: int = 0) -> None:
        """Add and take off permissions."""
        self.reach.call("permit", path=str(path), add=add, drop=drop)

    def take_group(self, path: PurePosixPath) -> None:
        """What is there is of the bridge's own group from now on."""
        self.reach.call("take_group", path=str(path))

    def take(self, source: PurePosixPath, target: PurePosixPath) -> None:
        """Have a plain file, where it is there, a second time: as a link if it is ours, else a
        copy."""
        self.reach.call("take", source=str(source), target=str(target))

    def held(self, locks: Sequence[PurePosixPath]) -> list[bool]:
        """Whether somebody, on whichever machine, holds each of these locks; True also where nobody
        can tell."""
        return list(map(bool, self.reach.call("held", paths=list(map(str, locks)))))

    def retire(self, folder: PurePosixPath, lock: PurePosixPath, aside: str) -> bool:
        """Take a folder from its place at once and remove it, unless somebody holds the lock.

        aside: what its name begins with until it is gone. False where it stays.
        """
        return bool(self.reach.call("retire", folder=str(folder), lock=str(lock), aside=aside))

    def discard(self, folder: PurePosixPath) -> None:
        """Remove a folder and all in it, where it is there and the bridge's own."""
        self.reach.call("discard", folder=str(folder))

    def clear(
        self, root: PurePosixPath, inside: str, *, stays: Sequence[str], logs: str, tasks: str
    ) -> list[str]:
        """Remove what does not stay of the folder `inside` of `root`; no link is followed.

        stays: names; logs: a pattern of further ones; tasks: the folder whose folders are cleared
        alike. Returns what could not be removed, and why.
        """
        told = self.reach.call(
            "clear", root=str(root), inside=inside, stays=list(stays), logs=logs, tasks=tasks
        )
        return list(map(str, told))

    def publish_dataset(
        self,
        upload: PurePosixPath,
        folder: PurePosixPath,
        *,
        filename: str,
        word: str,
        limits: archive.Limits,
    ) -> dict[str, Any]:
        """Make an upload a content in `folder`: its sha256, size and files, or `refused`.

        Raises BlockingIOError where another process is at it.
        """
        told: dict[str, Any] = self.reach.call(
            "publish_dataset",
            path=str(upload),
            folder=str(folder),
            filename=filename,
            word=word,
            limits=list(limits),
        )
        return told

    def files_of_dataset(
        self, folder: PurePosixPath, sha256: str, most: int
    ) -> list[tuple[str, int, str]]:
        """Path, bytes and SHA-256 of the first files of a content, in order."""
        told = self.reach.call("files_of_dataset", folder=str(folder), sha256=sha256, most=most)
        return [(path, size, digest) for path, size, digest in told]

    def drop_dataset(self, folder: PurePosixPath, sha256: str, published: int) -> None:
        """Remove a content, or what is left of it, unless it was published after its folder had
        this time (nanoseconds)."""
        self.reach.call("drop_dataset", folder=str(folder), sha256=sha256, published=published)

    def sweep_datasets(
        self, folder: PurePosixPath, *, known: Collection[str], working: Collection[str]
    ) -> None:
        """Remove the contents that are not known, and the work of uploads that nobody is at."""
        self.reach.call(
            "sweep_datasets", folder=str(folder), known=sorted(known), working=sorted(working)
        )

    def why_no_acls(self, folder: PurePosixPath) -> str:
        """Why no ACLs are kept where this folder of ours is, "" where they are."""
        return str(self.reach.call("why_no_acls", folder=str(folder)))

    def open_datasets(
        self, folder: PurePosixPath, readers: Mapping[str, Collection[int]]
    ) -> dict[str, tuple[int, str]]:
        """Let just these accounts, by their numbers, read each of these contents.

        Gives, by hash, the number and words of the system's error where that could not be done.
        """
        told = self.reach.call(
            "open_datasets",
            folder=str(folder),
            readers={sha256: sorted(uids) for sha256, uids in readers.items()},
        )
        return {sha256: (number, words) for sha256, (number, words) in told.items()}

    def tell_datasets(
        self,
        folder: PurePosixPath,
        texts: Mapping[str, tuple[int, str]],
        kept: Collection[str],
    ) -> dict[str, tuple[int, str]]:
        """Write these accounts' catalogues, each beside the account's number, and remove those of
        accounts that are not kept.

        Gives, by account, the number and words of the system's error for what was not written.
        """
        told = self.reach.call(
            "tell_datasets", folder=str(folder), texts=dict(texts), kept=sorted(kept)
        )
        return {account: (number, words) for account, (number, words) in told.items()}


def mounted(root: Path) -> tuple[Storage, PurePosixPath]:
    """Storage that is mounted here, and its root without links."""
    return Storage(Mounted()), PurePosixPath(root.resolve())


class Growing(io.RawIOBase):
    """A new file that is written from its beginning on, wherever it is sought: it ends what is
    sent."""

    def __init__(self, storage: Storage, file: PurePosixPath) -> None:
        storage.create(file)
        self._storage, self.path, self.size = storage, file, 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, _offset: int, _whence: int = os.SEEK_SET) -> int:
        return self.size

    def write(self, data: Any) -> int:
        size, added = self._storage.append(self.path, self.size, data)
        if not added:
            raise OSError(f"{self.path} was changed by another.")
        self.size = size
        return len(memoryview(data))
