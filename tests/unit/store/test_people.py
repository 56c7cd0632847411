"""People, keys and the audit log, as both databases keep them."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from alembic import command
from sqlalchemy import text

from nias_bridge.errors import BadRequest, NotFound, StoreError
from nias_bridge.people import (
    Deed,
    KeyKind,
    NewKey,
    NewPerson,
    Person,
    Quotas,
    Role,
    Scope,
    Standing,
)
from nias_bridge.store import SqlStore, open_store, schema
from nias_bridge.store.engine import make_engine, reading, writing

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=1)


def add(store: SqlStore, handle: str, **more: object) -> Person:
    new = NewPerson(handle=handle, email=f"{handle}@lab.org", name=handle.title(), **more)  # type: ignore[arg-type]
    return store.people.add(new, at=NOON)


def a_key(store: SqlStore, person: Person, hashed: str, kind: KeyKind = KeyKind.TOKEN) -> int:
    return store.keys.add(
        NewKey(kind=kind, hash=hashed, created_at=NOON, expires_at=LATER, person_id=person.id)
    ).id


def test_a_person_comes_back_as_she_was_kept(store: SqlStore) -> None:
    ana = add(store, "ana", role=Role.ADMINISTRATOR, standing=Standing.ACTIVE)
    assert ana.created_at == NOON
    assert ana.quotas == Quotas()
    assert store.people.person(ana.id) == ana
    assert store.people.find(email="ANA@Lab.org") == ana
    assert store.people.find(handle="ana") == ana
    assert store.people.find(handle="nobody") is None
    assert store.people.find() is None
    changed = store.people.change(ana.id, quotas=Quotas(open_runs=3), unix_account="ana1")
    assert store.people.find(unix_account="ana1") == changed
    assert changed.quotas.open_runs == 3
    with pytest.raises(NotFound):
        store.people.person(99)
    with pytest.raises(ValueError, match="handle"):
        store.people.change(ana.id, handle="root")


@pytest.mark.parametrize("field", ["email", "unix_account", "subject"])
def test_what_is_one_persons_is_no_others(store: SqlStore, field: str) -> None:
    ana, bento = add(store, "ana"), add(store, "bento")
    store.people.change(ana.id, **{field: "one@lab.org"})
    with pytest.raises(BadRequest) as caught:
        store.people.change(bento.id, **{field: "one@lab.org"})
    assert caught.value.field == field


def test_what_is_asked_in_one_transaction_is_of_one_moment(store: SqlStore, url: str) -> None:
    engine = make_engine(url)
    with reading(engine) as connection:
        asked = text("SELECT count(*) FROM people")
        assert connection.scalar(asked) == 0
        add(store, "ana")
        assert connection.scalar(asked) == 0
    with reading(engine) as connection:
        assert connection.scalar(asked) == 1
    engine.dispose()


def test_a_groups_name_is_one_groups_whatever_it_is(store: SqlStore) -> None:
    store.people.save_group("Subjects", shares=True)  # which is a word for something else, too
    with pytest.raises(BadRequest, match="a group of this name") as caught:
        store.people.save_group("subjects", shares=False)
    assert caught.value.field == "name"


def test_of_two_who_register_one_address_at_once_one_gets_it(store: SqlStore) -> None:
    refused: list[BadRequest] = []

    def register() -> None:
        try:
            add(store, "ana")
        except BadRequest as error:
            refused.append(error)

    threads = [threading.Thread(target=register) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert [person.handle for person in store.people.all()] == ["ana"]


def test_groups_have_members_who_see_each_other_where_it_shares(store: SqlStore) -> None:
    ana, bento, clara = (add(store, name) for name in ("ana", "bento", "clara"))
    group = store.people.save_group("EMG", shares=True)
    assert store.people.set_members(group.id, ["bento", "ana", "nobody"]).members == (
        "ana",
        "bento",
    )
    assert store.people.sees(ana.id) == {"bento"}
    assert store.people.sees(clara.id) == frozenset()
    with pytest.raises(BadRequest, match="group of this name"):
        store.people.save_group("emg", shares=False)
    store.people.save_group("EMG", shares=False, group_id=group.id)
    assert store.people.sees(bento.id) == frozenset()
    store.people.drop_group(group.id)
    assert store.people.groups() == []
    with pytest.raises(NotFound):
        store.people.drop_group(group.id)


def test_a_key_is_found_by_its_hash_and_kind_until_it_expires(store: SqlStore) -> None:
    ana = add(store, "ana")
    key_id = a_key(store, ana, "h1")
    found = store.keys.find("h1", KeyKind.TOKEN, now=NOON)
    assert found is not None
    assert (found.id, found.scope, found.used_at) == (key_id, Scope.ADMIN, None)
    assert store.keys.find("h1", KeyKind.SESSION, now=NOON) is None
    assert store.keys.find("h1", KeyKind.TOKEN, now=LATER) is None
    store.keys.touch(key_id, at=NOON, expires_at=LATER + timedelta(days=1))
    touched = store.keys.find("h1", KeyKind.TOKEN, now=LATER)
    assert touched is not None
    assert touched.used_at == NOON
    store.keys.drop_expired(before=LATER + timedelta(days=2))
    assert store.keys.of(KeyKind.TOKEN) == []


def test_of_two_who_use_a_link_at_once_one_gets_in(store: SqlStore) -> None:
    ana = add(store, "ana")
    a_key(store, ana, "h1", KeyKind.SIGN_IN)
    taken = []

    def take() -> None:
        taken.append(store.keys.take("h1", KeyKind.SIGN_IN, now=NOON))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([key for key in taken if key]) == 1


def test_keys_are_taken_back_by_their_owner_alone(store: SqlStore) -> None:
    ana, bento = add(store, "ana"), add(store, "bento")
    mine = [a_key(store, ana, f"h{n}") for n in range(3)]
    with pytest.raises(NotFound):
        store.keys.drop(person_id=bento.id, key_id=mine[0])
    with pytest.raises(NotFound):
        store.keys.drop(person_id=ana.id, key_id=10**30)
    store.keys.drop(person_id=ana.id, key_id=mine[0])
    assert store.keys.drop_all(ana.id, KeyKind.TOKEN, but=mine[2]) == 1
    assert [key.id for key in store.keys.of(KeyKind.TOKEN, person_id=ana.id)] == [mine[2]]


@pytest.mark.parametrize("edit", ["UPDATE deeds SET handle = 'x'", "DELETE FROM deeds"])
def test_the_database_itself_keeps_the_audit_log_as_it_is(
    store: SqlStore, url: str, edit: str
) -> None:
    store.deeds.add(Deed(at=NOON, action="signed in", handle="ana"))
    engine = make_engine(url)
    with pytest.raises(Exception, match="never edited"), writing(engine) as connection:
        connection.execute(text(edit))
    engine.dispose()
    assert [deed.handle for _, deed in store.deeds.newest()] == ["ana"]


def test_the_audit_log_is_read_newest_first_by_whom_what_and_which_run(store: SqlStore) -> None:
    for n in range(5):
        deed = Deed(at=NOON + timedelta(seconds=n), action="run shared", handle="ana", run_id=n % 2)
        store.deeds.add(deed)
    store.deeds.add(Deed(at=NOON, action="sign-in refused", address="192.0.2.1", detail="a@b.c"))
    assert [number for number, _ in store.deeds.newest(most=2)] == [6, 5]
    assert [number for number, _ in store.deeds.newest(before=5, most=2)] == [4, 3]
    assert len(store.deeds.newest(handle="ana", run_id=1)) == 2
    count = store.deeds.count
    before = NOON - timedelta(minutes=1)
    assert count("sign-in refused", since=before, address="192.0.2.1") == 1
    assert count("sign-in refused", since=before, detail="a@b.c") == 1
    assert count("sign-in refused", since=before, detail="x@b.c") == 0
    assert count("sign-in refused", since=NOON, address="192.0.2.1") == 0


def test_a_database_from_before_there_were_people_keeps_its_runs(empty_url: str) -> None:
    engine = make_engine(empty_url)
    with writing(engine) as connection:
        config = schema._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        connection.execute(
            text(
                "INSERT INTO projects (owner, name, name_key, slug, last_number) "
                "VALUES ('lab', 'PSD', 'psd', 'PSD', 1), ('lab', 'EMG', 'emg', 'EMG', 1), "
                "('old', 'ECG', 'ecg', 'ECG', 1)"
            )
        )
    engine.dispose()
    schema.upgrade(empty_url)
    store = open_store(empty_url)
    assert store.people.orphans() == ["lab", "old"]
    add(store, "lab", role=Role.ADMINISTRATOR)
    assert store.people.orphans() == ["old"]
    engine = make_engine(empty_url)
    with reading(engine) as connection:
        assert connection.scalar(text("SELECT count(*) FROM projects")) == 3
    engine.dispose()
    store.close()


def test_a_database_that_is_away_is_told(tmp_path: object) -> None:
    store = SqlStore(make_engine("sqlite:////nowhere/at/all/nias.db"))
    with pytest.raises(StoreError):
        store.people.all()
