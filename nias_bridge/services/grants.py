"""Who may read which contents of datasets where jobs are people's own accounts: ACLs say it.

A content lets in the accounts of who may use it by any dataset that has it, and those of open runs
that see it. The database decides; what is set there is brought after it.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import NamedTuple

from nias_bridge.datasets import Dataset
from nias_bridge.domain import Run
from nias_bridge.errors import NotAllowed, NotPossible, StorageUnreachable, Unreachable
from nias_bridge.node import acls, catalogue
from nias_bridge.people import Standing
from nias_bridge.services import identity
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.datasets import listed
from nias_bridge.settings import Settings

log = logging.getLogger(__name__)

ALL_SECONDS = 60.0  # after which all is set anew, in case it was changed by others
NO_ACLS = (
    "the shared storage keeps no POSIX ACLs, by which a job’s account would be let in: the "
    "administrator can mount it with ACLs"
)
TOO_MANY = (
    "the shared storage has no room for an ACL that names so many accounts: it can be shared with "
    "fewer people"
)


@dataclass(frozen=True)
class Granted:
    """What was set, and when all of it (by the monotonic clock, in seconds).

    readers: accounts by content; catalogues: texts by account; without: why there are no ACLs.
    """

    at: float = 0.0
    without: str = ""
    readers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    catalogues: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Doors:
    """The doors of all contents, which one thread at a time sets.

    What is read of the database is set before the next one reads there: of two threads the one that
    came later would else be undone by the other. opened: contents that were opened for runs since
    all were put right; granted: what was set then.
    """

    turn: Lock = field(default_factory=Lock)
    opened: set[str] = field(default_factory=set)
    granted: Granted | None = None


class _Used(NamedTuple):
    """The accounts of those who may come in, by handle, and which of them may use each dataset."""

    accounts: Mapping[str, str]
    by: list[tuple[Dataset, set[str]]]


def are_needed(settings: Settings) -> bool:
    """Whether any jobs are people's own accounts."""
    return settings.identity == "unix" or settings.login_nodes


def open_to(bridge: Bridge, doors: Doors, run: Run, account: str) -> None:
    """Let this account, whose job the run is to be, read what the run sees, beside all who may.

    Raises NotPossible with the reason, StorageUnreachable.
    """
    hashes = {mount.sha256 for mount in run.datasets}
    with doors.turn:
        readers = _readers(bridge, _used(bridge, bridge.store.datasets.usable(hashes)))
        wanted = {sha256: readers.get(sha256, frozenset()) | {account} for sha256 in hashes}
        doors.opened.update(hashes)
        try:
            failed = _open(bridge, wanted)
        except Unreachable as error:
            raise StorageUnreachable(str(error)) from None
    for mount in run.datasets:
        if mount.sha256 in failed:
            why = _why(*failed[mount.sha256])
            raise NotPossible(f"The dataset {mount.word} can't be opened to {account}: {why}.")


def put_right(bridge: Bridge, doors: Doors) -> None:
    """Let in who may read, and nobody else, and write the catalogues.

    Only what has changed since the last time is touched. Raises OSError, StorageUnreachable, and
    Unreachable where the accounts' numbers can't be told.
    """
    last = before = doors.granted
    due = before is None or time.monotonic() > before.at + ALL_SECONDS
    if before is None or due:
        before = Granted(
            time.monotonic(), bridge.storage.why_no_acls(bridge.paths.dataset_contents)
        )
        if before.without and not (last and last.without):  # once, not each time it is looked at
            level = logging.WARNING if bridge.settings.identity == "unix" else logging.INFO
            log.log(level, "Jobs of people's own accounts see no datasets: %s.", NO_ACLS)
    if before.without:
        doors.granted = before
        return
    with doors.turn:
        known = {s: who for s, who in before.readers.items() if s not in doors.opened}
        before = replace(before, readers=known)
        wanted = _wanted(bridge, before)
        # Until nothing is left to do: what was read may be old by the time that it was set.
        while due or wanted != before:
            _set(bridge, before, wanted)
            before, due = wanted, False
            wanted = _wanted(bridge, before)
        doors.opened.clear()
        doors.granted = before


def _wanted(bridge: Bridge, before: Granted) -> Granted:
    used = _used(bridge, bridge.store.datasets.usable())
    texts = _catalogues(used) if bridge.settings.login_nodes else {}
    return Granted(before.at, "", _readers(bridge, used), texts)


def _set(bridge: Bridge, before: Granted, wanted: Granted) -> None:
    readers = {
        sha256: accounts
        for sha256, accounts in wanted.readers.items()
        if before.readers.get(sha256) != accounts
    }
    for sha256, told in (_open(bridge, readers) if readers else {}).items():
        log.warning("The content %s is not opened to who may read it: %s.", sha256, _why(*told))
    changed = {
        account: text
        for account, text in wanted.catalogues.items()
        if before.catalogues.get(account) != text
    }
    uids = bridge.accounts.uids(changed) if changed else {}
    texts = {account: (uid, changed[account]) for account, uid in uids.items()}
    kept = wanted.catalogues.keys()
    for account, told in bridge.storage.tell_datasets(bridge.paths.catalogues, texts, kept).items():
        log.warning("The catalogue of %s could not be written: %s.", account, _why(*told))


def _open(bridge: Bridge, readers: Mapping[str, frozenset[str]]) -> dict[str, tuple[int, str]]:
    """Let these accounts read each content; one that the cluster does not know is nobody's."""
    names = frozenset[str]().union(*readers.values())
    uids = bridge.accounts.uids(names) if names else {}
    numbered = {
        sha256: {uids[name] for name in accounts if name in uids}
        for sha256, accounts in readers.items()
    }
    return bridge.storage.open_datasets(bridge.paths.dataset_contents, numbered)


def _readers(bridge: Bridge, used: _Used) -> dict[str, frozenset[str]]:
    """The accounts that may read each content."""
    readers: dict[str, set[str]] = defaultdict(set)
    for each, handles in used.by:
        for version in each.versions:
            readers[version.sha256].update(used.accounts[handle] for handle in handles)
    for run in bridge.store.open_runs_with_datasets():
        with suppress(NotAllowed):  # unlinked since, and its job is not told of yet
            account = run.native.user if run.native else identity.user_of_job(bridge, run)
            if account:
                for mount in run.datasets:
                    readers[mount.sha256].add(account)
    return {sha256: frozenset(those) for sha256, those in readers.items()}


def _catalogues(used: _Used) -> dict[str, str]:
    """What the words of each linked account may mean."""
    theirs: dict[str, list[catalogue.Listed]] = defaultdict(list)
    for each, handles in used.by:
        for handle in handles:
            theirs[handle].append(listed(each))
    return {
        account: catalogue.written(handle, theirs[handle])
        for handle, account in used.accounts.items()
    }


def _used(bridge: Bridge, found: Collection[Dataset]) -> _Used:
    accounts = {
        person.handle: person.unix_account
        for person in bridge.store.people.all()
        if person.unix_account and person.standing is Standing.ACTIVE
    }
    members = {group.name: group.members for group in bridge.store.people.groups()}
    by = []
    for each in found:
        of_groups = {one for name in each.groups for one in members.get(name, ())}
        by.append((each, {each.owner, *each.people, *of_groups} & accounts.keys()))
    return _Used(accounts, by)


def _why(number: int, words: str) -> str:
    if number in acls.NONE_HERE:
        return NO_ACLS
    return TOO_MANY if number in acls.TOO_MANY else words
