"""What each request asks is read anew each time, in each database, whoever changed it meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, text

from nias_bridge.domain import Contents, JobState, NewRun, Resources, Run
from nias_bridge.errors import NotFound, StoreError
from nias_bridge.people import KeyKind, NewKey, NewPerson, Person, Role, Standing
from nias_bridge.store import SqlStore, open_store, recurring

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOKEN = NewKey(kind=KeyKind.TOKEN, hash="h", created_at=NOON, expires_at=NOON + timedelta(days=1))


@pytest.fixture
def other(url: str) -> Iterator[SqlStore]:
    """The same database, as another process has it."""
    opened = open_store(url)
    yield opened
    opened.close()


def add(store: SqlStore, project: str) -> Run:
    new = NewRun(
        owner="ana",
        project=project,
        slug=project,
        token=project,
        resources=Resources(memory="8G"),
        contents=Contents(size=1, unpacked_size=1, files=1, requirements=("numpy",)),
        created_at=NOON,
    )
    return store.add_run(new, again=False, place=lambda _: None)


def person(store: SqlStore, handle: str) -> Person:
    new = NewPerson(handle=handle, email=f"{handle}@lab.org", name=handle, standing=Standing.ACTIVE)
    return store.people.add(new, at=NOON)


def test_a_run_that_did_not_change_is_made_of_its_row_once(store: SqlStore) -> None:
    run = add(store, "emg")
    assert store.run(run.id) == run
    assert store.run(run.id) is store.run(run.id)


def test_what_another_process_does_to_a_run_is_seen_at_once(
    store: SqlStore, other: SqlStore
) -> None:
    run = add(store, "emg")
    assert store.run(run.id) == run
    staged = other.move(run, JobState.STAGED, at=NOON, note="soon")
    assert store.run(run.id) == staged
    # Neither of these is counted by the run's version.
    assert store.run(other.pin(run.id, True).id).pinned
    other.ask_cancel(run.id, at=NOON)
    assert store.run(run.id).cancel_asked_at == NOON


def test_what_another_process_does_to_a_key_or_its_holder_is_seen_at_once(
    store: SqlStore, other: SqlStore
) -> None:
    ana, bento = person(store, "ana"), person(store, "bento")
    key = store.keys.add(replace(TOKEN, person_id=ana.id))

    def holder() -> tuple[Person, frozenset[str]] | None:
        held = store.keys.holder("h", KeyKind.TOKEN, now=NOON)
        return held and held[1:]

    assert holder() == (ana, frozenset())
    group = other.people.save_group("EMG", shares=True)
    other.people.set_members(group.id, [ana.handle, bento.handle])
    assert holder() == (ana, {"bento"})
    other.people.save_group("EMG", shares=False, group_id=group.id)
    assert holder() == (ana, frozenset())
    above = other.people.change(ana.id, role=Role.ADMINISTRATOR)
    assert holder() == (above, frozenset())
    other.people.change(bento.id, role=Role.ADMINISTRATOR)
    shut_out = other.people.change(ana.id, standing=Standing.DISABLED)
    assert holder() == (shut_out, frozenset())
    other.keys.drop(person_id=ana.id, key_id=key.id)
    assert holder() is None


def test_more_than_are_kept_are_answered_all_the_same(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurring, "KEPT", 2)
    runs = [add(store, f"p{number}") for number in range(5)]
    for _ in range(2):
        assert [store.run(run.id) for run in runs] == runs


def test_a_number_that_is_no_runs_is_not_found(store: SqlStore) -> None:
    for number in (-1, 0, 1, 2**31, 2**80):
        with pytest.raises(NotFound):
            store.run(number)


def test_a_connection_that_is_lost_is_told_or_replaced_and_the_next_question_answered(
    store: SqlStore, url: str, database: str
) -> None:
    run = add(store, "emg")
    assert store.run(run.id) == run
    engine = create_engine(url)
    with engine.begin() as connection:
        if database == "sqlite":
            connection.execute(text("ALTER TABLE runs RENAME TO gone"))
        else:
            others = "pid <> pg_backend_pid() AND datname = current_database()"
            connection.execute(
                text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
            )
    if database == "sqlite":
        with pytest.raises(StoreError, match="The database did not do its part: no such table"):
            store.run(run.id)
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE gone RENAME TO runs"))
    engine.dispose()
    assert store.run(run.id) == run
