"""What the store keeps beside runs, each part a Protocol: people, keys, deeds, …"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Protocol

from nias_bridge.datasets import Dataset, Version
from nias_bridge.domain import Unclaimed
from nias_bridge.errands import Errand, ErrandKind, Hook
from nias_bridge.people import (
    Admission,
    Deed,
    Group,
    Key,
    KeyKind,
    NewKey,
    NewPerson,
    Person,
)


class People(Protocol):
    """Who has an account. Reads and writes are each one transaction."""

    def add(self, new: NewPerson, *, at: datetime) -> Person:
        """A new person; her handle gets a number behind it where it is another's.

        Raises BadRequest where the address or the subject is another's.
        """
        ...

    def change(self, person_id: int, **changes: Any) -> Person:
        """Write changed fields of a person. Raises NotFound, BadRequest as `add` does; NotPossible
        where no active administrator would be left."""
        ...

    def person(self, person_id: int) -> Person:
        """One person. Raises NotFound."""
        ...

    def find(
        self, *, email: str = "", handle: str = "", subject: str = "", unix_account: str = ""
    ) -> Person | None:
        """The person of this address (whatever its case), handle, subject or Unix account."""
        ...

    def all(self) -> list[Person]:
        """Everybody, by name."""
        ...

    def password(self, person_id: int) -> str | None:
        """The hash of a person's password, None where she has none."""
        ...

    def set_password(self, person_id: int, hashed: str | None) -> None:
        """Keep the hash of a new password, or none."""
        ...

    def groups(self) -> list[Group]:
        """All groups with their members' handles, by name."""
        ...

    def save_group(self, name: str, *, shares: bool, group_id: int | None = None) -> Group:
        """A new group, or a changed one. Raises BadRequest where the name is taken, NotFound."""
        ...

    def set_members(self, group_id: int, handles: Sequence[str]) -> Group:
        """Let these people, and nobody else, be in the group. Raises NotFound."""
        ...

    def drop_group(self, group_id: int) -> None:
        """Forget a group; its members stay. Raises NotFound."""
        ...

    def sees(self, person_id: int) -> frozenset[str]:
        """The handles of those who share a sharing group with this person."""
        ...

    def orphans(self) -> list[str]:
        """Owners of projects who are nobody's handle, whoever has the most projects first."""
        ...


class Keys(Protocol):
    """The secrets by which callers are known, by their hashes."""

    def add(self, new: NewKey) -> Key:
        """Keep a key."""
        ...

    def find(self, hashed: str, kind: KeyKind, *, now: datetime) -> Key | None:
        """The key of this kind and hash that has not expired."""
        ...

    def holder(
        self, hashed: str, kind: KeyKind, *, now: datetime
    ) -> tuple[Key, Person, frozenset[str]] | None:
        """The key as `find` gives it, whose it is, and whom she sees as `People.sees` says."""
        ...

    def take(self, hashed: str, kind: KeyKind, *, now: datetime) -> Key | None:
        """As `find`, and the key is gone: of two who come at once one gets it."""
        ...

    def watched(self, *, since: datetime, to_come: bool) -> bool:
        """Whether who used a session or token since then may see a run that is open; to_come: or is
        linked to a Unix account, whose jobs become runs."""
        ...

    def touch(self, key_id: int, *, at: datetime, expires_at: datetime | None = None) -> None:
        """Remember when a key was last used, and (for a session) until when it is good."""
        ...

    def of(
        self, *kinds: KeyKind, person_id: int | None = None, run_id: int | None = None
    ) -> list[Key]:
        """The keys of these kinds of a person or to a run, newest first."""
        ...

    def drop(self, *, person_id: int, key_id: int) -> Key:
        """Take back one key of this person. Raises NotFound."""
        ...

    def drop_all(self, person_id: int, *kinds: KeyKind, but: int | None = None) -> int:
        """Take back all keys of these kinds of a person but one; returns how many."""
        ...

    def drop_expired(self, *, before: datetime) -> None:
        """Forget the keys that expired before this."""
        ...


class Deeds(Protocol):
    """The audit log: appended to, never edited."""

    def add(self, deed: Deed) -> None:
        """Append."""
        ...

    def actions(self) -> list[str]:
        """All that was ever done, each once."""
        ...

    def count(self, action: str, *, since: datetime, address: str = "", detail: str = "") -> int:
        """How often this was done since then, from this address or with this detail."""
        ...

    def newest(
        self,
        *,
        handle: str = "",
        run_id: int | None = None,
        action: str = "",
        before: int | None = None,
        most: int = 100,
    ) -> list[tuple[int, Deed]]:
        """The newest deeds with their numbers, only those before a number where one is given."""
        ...


class Outbox(Protocol):
    """What is to be told outside the pages, and where people's own programs are.

    Most of it comes here by what it tells of, in one transaction with it: a run's move (where its
    owner wants to be told), somebody who waits for an administrator, or need not any longer.
    """

    def put(self, kind: ErrandKind, *, at: datetime, detail: str = "") -> None:
        """Let something be told that no row tells of."""
        ...

    def due(self, *, now: datetime, most: int) -> list[Errand]:
        """What is due, oldest first.

        Of what a person's own program is to be told, nothing before its earlier ones.
        """
        ...

    def begin(self, errand: Errand, *, again_at: datetime) -> bool:
        """Count one more try, and when the next is due should this one not get done.

        False where somebody else began it meanwhile.
        """
        ...

    def done(self, errand_id: int) -> None:
        """It was told, or never will be."""
        ...

    def hook(self, person_id: int) -> Hook | None:
        """Where this person's own program is told."""
        ...

    def save_hook(self, hook: Hook) -> None:
        """Keep it, in the place of the one before."""
        ...

    def note_trouble(self, person_id: int, trouble: str) -> None:
        """Remember why her program could not be told, "" once it could."""
        ...

    def drop_hook(self, person_id: int) -> None:
        """Forget it, with all that it was still to be told."""
        ...


class UnclaimedJobs(Protocol):
    """Jobs by plain sbatch whose Unix account is linked to nobody, and since when they count."""

    def since(self) -> datetime:
        """Jobs that were submitted before this are none of the bridge's."""
        ...

    def looked_at(self) -> datetime:
        """When the accounting was last searched for such jobs."""
        ...

    def look(self, at: datetime) -> None:
        """Remember when the accounting was searched."""
        ...

    def all(self) -> list[Unclaimed]:
        """Those that wait for somebody to be linked to their account, in the order they came."""
        ...

    def keep(self, job: Unclaimed) -> None:
        """Remember one, as it is now."""
        ...


class Datasets(Protocol):
    """What people uploaded for their runs to read. What has no version left is not there."""

    def add(
        self,
        owner: str,
        name: str,
        *,
        filename: str,
        upload: str,
        size: int,
        files: int,
        at: datetime,
        admission: Admission | None = None,
    ) -> Dataset:
        """A version that is still to be unpacked, of a dataset that is made where missing.

        An upload that made one already makes no second. Of another `admission` is asked by what the
        owner has then, of several at once one by one.
        """
        ...

    def made_of(self, owner: str, upload: str) -> Dataset | None:
        """The owner's dataset of which this upload has made a version."""
        ...

    def get(self, dataset_id: int) -> Dataset:
        """One dataset, whosever it is. Raises NotFound."""
        ...

    def visible(
        self, person_id: int | None, *, name: str = "", before: int | None = None, most: int = 1000
    ) -> list[Dataset]:
        """Those that are a person's or shared with her (None: all), the newest first; of this name
        alone, or before this one's number, where one is given."""
        ...

    def usable(self, hashes: Collection[str] | None = None) -> list[Dataset]:
        """All, or those that have a version with one of these hashes, as `visible` gives them but
        for their runs."""
        ...

    def waiting(self) -> list[Version]:
        """Versions that are still to be unpacked, oldest first."""
        ...

    def settle(self, version_id: int, *, sha256: str, size: int, files: int) -> None:
        """It is published. One that is the same as the dataset's newest is none of its own; one
        that is published already stays as it is, whoever else was at it."""
        ...

    def fail(self, version_id: int, problem: str) -> None:
        """It can't be published, and why; one that is published already stays as it is."""
        ...

    def delete(self, dataset_id: int, version_id: int | None, *, at: datetime) -> None:
        """Delete one version, or (None) all. Raises NotFound, NotPossible where an open run sees
        one of them."""
        ...

    def share(self, dataset_id: int, handles: Collection[str], names: Collection[str]) -> Dataset:
        """Let these people and groups, and nobody else, see it. Raises NotFound, BadRequest."""
        ...

    def gone(self, version_ids: Collection[int]) -> frozenset[int]:
        """Those of these versions that were deleted."""
        ...

    def contents(self) -> frozenset[str]:
        """The hashes of all versions that are there."""
        ...

    def unused(self) -> list[str]:
        """The hashes of versions that were deleted, whose content no other has."""
        ...

    def clear(self, sha256: str) -> bool:
        """Remember that the content of those that were deleted is seen to: they are unused no
        more. False where another version has it by now."""
        ...
