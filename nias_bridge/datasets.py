"""The nouns of datasets: data that is uploaded once, has versions, and is seen by runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

NAME_MAX = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
SHORT = 12  # characters of a hash that people are told


@dataclass(frozen=True, kw_only=True)
class Version:
    """One content of a dataset; its name is its hash.

    sha256: of the list of its files (their paths and their own SHA-256), "" until it is published;
    size: of all files in bytes; filename: of what was uploaded; upload: the id of that; problem:
    why it could not be published, "" where nothing is wrong.
    """

    id: int
    dataset_id: int
    created_at: datetime
    filename: str
    sha256: str
    size: int
    files: int
    upload: str
    problem: str = ""
    deleted_at: datetime | None = None

    @property
    def short(self) -> str:
        return self.sha256[:SHORT]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What one owner calls by one name.

    versions: those that can be used, newest first; arriving: those that are not unpacked yet, or
    could not be; people and groups: with whom it is shared, by handle and by name; runs: how many
    runs have used it, open_runs the numbers of those that have not ended.
    """

    id: int
    owner: str
    name: str
    created_at: datetime
    versions: tuple[Version, ...] = ()
    arriving: tuple[Version, ...] = ()
    people: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    runs: int = 0
    open_runs: tuple[int, ...] = ()

    @property
    def newest(self) -> Version | None:
        return self.versions[0] if self.versions else None


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A version of a dataset as a run sees it: read-only, at $NIAS_DATA/<name>."""

    owner: str
    name: str
    sha256: str
    version_id: int = field(compare=False)

    @property
    def short(self) -> str:
        return self.sha256[:SHORT]

    @property
    def word(self) -> str:
        """What names just this one, for people."""
        return f"{self.owner}/{self.name}@{self.short}"

    @property
    def whole(self) -> str:
        """What names just this one, for programs."""
        return f"{self.owner}/{self.name}@{self.sha256}"


def dataset_name(text: str) -> str:
    """A dataset's name as it is kept; raises ValueError with what is wrong."""
    if not _NAME.fullmatch(text) or len(text) > NAME_MAX:
        raise ValueError(
            f"is no name for a dataset: 1 to {NAME_MAX} letters, digits and . _ -, the first one a "
            "letter or a digit"
        )
    return text
