"""What datasets hold, on shared storage: judged here, unpacked and hashed where the storage is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from nias_bridge.node import archive
from nias_bridge.node import datasets as node
from nias_bridge.services.bridge import Bridge

Failed = dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Published:
    """A content that is there: its hash, bytes and files."""

    sha256: str
    size: int
    files: int


@dataclass(frozen=True)
class File:
    """A file of a content: its path, bytes, and SHA-256."""

    path: str
    size: int
    sha256: str


def judge(
    bridge: Bridge, part: PurePosixPath, filename: str, limits: archive.Limits
) -> node.Judged:
    """What an upload would be, by a zip's directory alone. Raises ArchiveError."""
    with bridge.storage.open(part) as file:
        return node.judge(file, filename, limits)


def publish(
    bridge: Bridge, part: PurePosixPath, filename: str, limits: archive.Limits
) -> Published:
    """Make an upload a content, unless that is there; the upload stays.

    Raises ArchiveError, OSError; BlockingIOError where another process is at it.
    """
    told = bridge.storage.reach.call(
        "publish_dataset",
        path=str(part),
        folder=str(bridge.paths.dataset_contents),
        filename=filename,
        word=part.stem,
        limits=list(limits),
    )
    if "refused" in told:
        raise archive.ArchiveError(told["refused"])
    return Published(**told)


def files(bridge: Bridge, sha256: str, most: int) -> list[File]:
    """The first files of a content, in the order of their paths. Raises OSError."""
    place = str(bridge.paths.dataset_contents)
    told = bridge.storage.reach.call("files_of_dataset", folder=place, sha256=sha256, most=most)
    return [File(*each) for each in told]


def drop(bridge: Bridge, sha256: str) -> None:
    """Remove a content, or what is left of it. Raises OSError."""
    place = str(bridge.paths.dataset_contents)
    bridge.storage.reach.call("drop_dataset", folder=place, sha256=sha256)


def sweep(bridge: Bridge, known: Collection[str], working: Collection[str]) -> None:
    """Remove the contents that are not known, and the work of uploads that nobody is at."""
    place = str(bridge.paths.dataset_contents)
    bridge.storage.reach.call(
        "sweep_datasets", folder=place, known=sorted(known), working=sorted(working)
    )


def why_no_acls(bridge: Bridge) -> str:
    """Why the storage keeps no ACLs, "" where it does. Raises OSError."""
    place = str(bridge.paths.dataset_contents.parent)
    return str(bridge.storage.reach.call("why_no_acls", folder=place))


def open_to(bridge: Bridge, readers: Mapping[str, Collection[int]]) -> Failed:
    """Let just these accounts, by their numbers, read each of these contents.

    Gives, by hash, the number and words of the system's error where that could not be done.
    """
    told: Failed = bridge.storage.reach.call(
        "open_datasets",
        folder=str(bridge.paths.dataset_contents),
        readers={sha256: sorted(uids) for sha256, uids in readers.items()},
    )
    return told


def tell(
    bridge: Bridge, catalogues: Mapping[str, tuple[int, str]], kept: Collection[str]
) -> Failed:
    """Write these accounts' catalogues, each beside the account's number, and remove those of
    accounts that are not kept.

    Gives, by account, the number and words of the system's error for what could not be written.
    """
    told: Failed = bridge.storage.reach.call(
        "tell_datasets",
        folder=str(bridge.paths.catalogues),
        texts=dict(catalogues),
        kept=sorted(kept),
    )
    return told
