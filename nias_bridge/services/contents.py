"""What datasets hold, on shared storage: judged here, unpacked and hashed where the storage is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath

from nias_bridge.node import archive
from nias_bridge.node import datasets as node
from nias_bridge.services.bridge import Bridge


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
    told = bridge.storage.publish_dataset(
        part, bridge.paths.dataset_contents, filename=filename, word=part.stem, limits=limits
    )
    if "refused" in told:
        raise archive.ArchiveError(told["refused"])
    return Published(**told)


def files(bridge: Bridge, sha256: str, most: int) -> list[File]:
    """The first files of a content, in the order of their paths. Raises OSError."""
    told = bridge.storage.files_of_dataset(bridge.paths.dataset_contents, sha256, most)
    return [File(*each) for each in told]


def published(bridge: Bridge, sha256: str) -> int:
    """Which time a content's folder has, in nanoseconds: another once it is published again."""
    there = bridge.storage.info(bridge.paths.dataset_contents / sha256)
    return there.modified_ns if there else 0


def drop(bridge: Bridge, sha256: str, known: int) -> None:
    """Remove a content, or what is left of it, unless it was published since `published` gave this.

    Raises OSError.
    """
    bridge.storage.drop_dataset(bridge.paths.dataset_contents, sha256, known)


def sweep(bridge: Bridge, known: Collection[str], working: Collection[str]) -> None:
    """Remove the contents that are not known, and the work of uploads that nobody is at."""
    bridge.storage.sweep_datasets(bridge.paths.dataset_contents, known=known, working=working)
