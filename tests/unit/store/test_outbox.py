"""What waits to be told, in both databases: put there by what it tells of, or not at all."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from nias_bridge.domain import Contents, JobState, NewRun, Resources, Run
from nias_bridge.errands import Errand, ErrandKind, Hook
from nias_bridge.errors import Stale
from nias_bridge.people import MailWish, NewPerson, Person, Standing
from nias_bridge.store import SqlStore

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def add(store: SqlStore, handle: str, standing: Standing = Standing.ACTIVE) -> Person:
    new = NewPerson(handle=handle, email=f"{handle}@lab.org", name=handle, standing=standing)
    return store.people.add(new, at=NOON)


def a_run(store: SqlStore, owner: str = "ana") -> Run:
    new = NewRun(
        owner=owner,
        project="EMG",
        slug="EMG",
        token=f"t-{owner}",
        resources=Resources(),
        contents=Contents(size=1, unpacked_size=1, files=1),
        created_at=NOON,
    )
    return store.add_run(new, again=True, place=lambda _: None)


def waiting(store: SqlStore) -> list[tuple[ErrandKind, str]]:
    found = store.outbox.due(now=datetime.now(UTC) + timedelta(days=900), most=100)
    return [(errand.kind, errand.detail) for errand in found]


def hook(person: Person) -> Hook:
    return Hook(person_id=person.id, url="https://a.org/", secret="s", created_at=NOON)


def test_a_move_and_what_is_to_be_told_of_it_are_one(store: SqlStore) -> None:
    ana, bento = add(store, "ana"), add(store, "bento")
    store.outbox.save_hook(hook(ana))
    store.people.change(ana.id, mail=MailWish.FAILED)
    store.people.change(bento.id, mail=MailWish.ALL)
    run = a_run(store)
    moved = store.move(run, JobState.STAGED, at=NOON)
    with pytest.raises(Stale):
        store.move(run, JobState.STAGED, at=NOON)
    moved = store.move(moved, JobState.SUBMITTING, at=NOON)
    store.move(moved, JobState.TIMEOUT, at=NOON)
    assert waiting(store) == [
        (ErrandKind.RUN_MOVED, "RECEIVED"),
        (ErrandKind.RUN_MOVED, "STAGED"),
        (ErrandKind.RUN_MOVED, "SUBMITTING"),
        (ErrandKind.RUN_MOVED, "TIMEOUT"),
        (ErrandKind.RUN_ENDED, "TIMEOUT"),
    ]
    (first, *_) = store.outbox.due(now=NOON, most=1)
    assert first == Errand(
        id=first.id,
        kind=ErrandKind.RUN_MOVED,
        at=NOON,
        tries=0,
        person_id=ana.id,
        run_id=run.id,
        detail="RECEIVED",
    )


def test_an_account_that_waits_and_one_that_need_not_are_told(store: SqlStore) -> None:
    add(store, "ana")
    bento = add(store, "bento", Standing.WAITING)
    assert waiting(store) == [(ErrandKind.REGISTERED, "")]
    store.people.change(bento.id, name="Bento")
    store.people.change(bento.id, standing=Standing.ACTIVE)
    store.people.change(bento.id, standing=Standing.DISABLED)
    store.people.change(bento.id, standing=Standing.ACTIVE)
    assert [kind for kind, _ in waiting(store)] == [ErrandKind.REGISTERED, ErrandKind.CONFIRMED]


def test_an_errand_comes_due_again_until_it_is_done(store: SqlStore) -> None:
    store.outbox.put(ErrandKind.PASSWORD_ASKED, at=NOON, detail="a@b.org")
    (errand,) = store.outbox.due(now=NOON, most=9)
    later = NOON + timedelta(minutes=1)
    assert store.outbox.begin(errand, again_at=later)
    assert not store.outbox.begin(errand, again_at=later)
    assert store.outbox.due(now=NOON, most=9) == []
    (again,) = store.outbox.due(now=later, most=9)
    assert (again.id, again.tries) == (errand.id, 1)
    store.outbox.done(errand.id)
    assert waiting(store) == []


def test_a_program_is_told_nothing_before_what_came_earlier(store: SqlStore) -> None:
    ana, bento = add(store, "ana"), add(store, "bento")
    for person in (ana, bento):
        store.outbox.save_hook(hook(person))
        store.move(a_run(store, person.handle), JobState.STAGED, at=NOON)
    first, second, *hers = store.outbox.due(now=NOON, most=9)
    later = NOON + timedelta(minutes=1)
    assert store.outbox.begin(first, again_at=later)
    assert store.outbox.due(now=NOON, most=9) == hers
    assert [errand.id for errand in store.outbox.due(now=later, most=2)] == [first.id, second.id]
    store.outbox.done(first.id)
    assert store.outbox.due(now=NOON, most=1) == [second]


def test_of_many_who_begin_at_once_one_does(store: SqlStore) -> None:
    store.outbox.put(ErrandKind.PASSWORD_ASKED, at=NOON)
    (errand,) = store.outbox.due(now=NOON, most=9)
    begun: list[bool] = []

    def begin() -> None:
        begun.append(store.outbox.begin(errand, again_at=NOON))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(begun) == [False, False, False, True]


def test_a_persons_hook_is_one_and_goes_with_what_it_was_to_be_told(store: SqlStore) -> None:
    ana = add(store, "ana")
    assert store.outbox.hook(ana.id) is None
    store.outbox.save_hook(hook(ana))
    store.outbox.save_hook(hook(ana))
    store.outbox.note_trouble(ana.id, "It hangs.")
    kept = store.outbox.hook(ana.id)
    assert kept is not None
    assert (kept.url, kept.secret, kept.trouble) == ("https://a.org/", "s", "It hangs.")
    a_run(store)
    store.outbox.put(ErrandKind.PASSWORD_ASKED, at=NOON)
    store.outbox.drop_hook(ana.id)
    assert store.outbox.hook(ana.id) is None
    assert [kind for kind, _ in waiting(store)] == [ErrandKind.PASSWORD_ASKED]
