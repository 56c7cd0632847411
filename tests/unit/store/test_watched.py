"""Who looks at an open run, in each database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from test_runs import a_run, nowhere

from nias_bridge.people import KeyKind, NewKey, NewPerson, Person, Role, Standing
from nias_bridge.store import SqlStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def somebody(store: SqlStore, handle: str, role: Role = Role.RESEARCHER) -> Person:
    new = NewPerson(
        handle=handle, email=f"{handle}@lab.org", name=handle, role=role, standing=Standing.ACTIVE
    )
    return store.people.add(new, at=NOON)


def looks(store: SqlStore, person: Person, at: datetime, kind: KeyKind = KeyKind.SESSION) -> None:
    new = NewKey(
        kind=kind,
        hash=f"{kind}{person.id}{at}",
        person_id=person.id,
        created_at=NOON - timedelta(days=1),
        expires_at=NOON + timedelta(days=1),
    )
    store.keys.touch(store.keys.add(new).id, at=at)


@pytest.fixture
def anna(store: SqlStore) -> Person:
    """She has a run that is open."""
    store.add_run(a_run(owner="anna"), again=False, place=nowhere)
    return somebody(store, "anna")


def watched(store: SqlStore, *, to_come: bool = False) -> bool:
    return store.keys.watched(since=NOON - 2 * MINUTE, to_come=to_come)


def test_a_key_that_was_used_lately_says_that_its_owner_looks(
    store: SqlStore, anna: Person
) -> None:
    assert not watched(store)
    looks(store, anna, NOON - 3 * MINUTE)
    assert not watched(store)
    looks(store, anna, NOON - MINUTE, KeyKind.TOKEN)
    assert watched(store)
    store.people.change(anna.id, standing=Standing.DISABLED)
    assert not watched(store)


def test_another_counts_who_shares_a_group_that_shares(store: SqlStore, anna: Person) -> None:
    eva = somebody(store, "eva")
    looks(store, eva, NOON)
    group = store.people.save_group("emg", shares=False)
    store.people.set_members(group.id, ["anna", "eva"])
    assert not watched(store)
    store.people.save_group("emg", shares=True, group_id=group.id)
    assert watched(store)


def test_an_administrators_browser_sees_all_runs(store: SqlStore, anna: Person) -> None:
    root = somebody(store, "root", Role.ADMINISTRATOR)
    looks(store, root, NOON, KeyKind.TOKEN)
    assert not watched(store)
    looks(store, root, NOON)
    assert watched(store)


def test_of_who_has_a_unix_account_a_run_may_come(store: SqlStore) -> None:
    eva = somebody(store, "eva")
    looks(store, eva, NOON)
    assert not watched(store, to_come=True)
    store.people.change(eva.id, unix_account="eva")
    assert watched(store, to_come=True)
    assert not watched(store), "no run is open"
