"""What the store promises to programs, in each database: lists that go on, one run for one key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from nias_bridge.domain import (
    SUBMISSION_KEY_KEPT,
    Contents,
    Filter,
    JobState,
    NewRun,
    Resources,
    Run,
    SubmissionKey,
)
from nias_bridge.errors import NiasError, Resubmitted
from nias_bridge.people import KeyKind, NewKey, NewPerson, Scope, Standing
from nias_bridge.store import SqlStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = SubmissionKey(person_id=1, word="k1", fingerprint="ab")


def add(
    store: SqlStore, project: str, at: datetime = NOON, key: SubmissionKey | None = None
) -> Run:
    new = NewRun(
        owner="lab",
        project=project,
        slug=project,
        token=f"{project}-{at.timestamp():.0f}",
        resources=Resources(),
        contents=Contents(sha256="ab", size=1, unpacked_size=1, files=1, requirements=()),
        created_at=at,
    )
    return store.add_run(new, again=True, place=lambda _: None, key=key)


def test_a_list_goes_on_after_the_run_it_ended_with(store: SqlStore) -> None:
    for hour in range(3):
        for name in ("a", "b"):  # two at each moment
            add(store, f"{name}{hour}", NOON + timedelta(hours=hour))
    wanted, seen = Filter(per_page=4), []
    page = store.runs(wanted)
    assert page.more
    seen += page.runs
    last = page.runs[-1]
    page = store.runs(replace(wanted, before=(last.created_at, last.id)))
    seen += page.runs
    assert not page.more
    assert [run.project for run in seen] == ["b2", "a2", "b1", "a1", "b0", "a0"]
    assert page.total == 6
    assert store.runs(replace(wanted, before=(NOON, -1))).runs == ()
    assert len(store.runs(replace(wanted, before=(NOON, 2**40))).runs) == 2


def test_runs_are_narrowed_down_to_a_time(store: SqlStore) -> None:
    for hour in range(3):
        add(store, f"p{hour}", NOON + timedelta(hours=hour))
    one = NOON + timedelta(hours=1)
    assert [r.project for r in store.runs(Filter(since=one)).runs] == ["p2", "p1"]
    assert [r.project for r in store.runs(Filter(until=one)).runs] == ["p0"]


def test_runs_are_counted_by_state(store: SqlStore) -> None:
    assert not store.run_states()
    add(store, "a")
    store.move(add(store, "b"), JobState.STAGED, at=NOON)
    assert store.run_states() == {JobState.RECEIVED: 1, JobState.STAGED: 1}


def test_a_key_makes_one_run_until_it_is_forgotten(store: SqlStore) -> None:
    run = add(store, "a", key=KEY)
    assert store.made_by(1, "k1", now=NOON) == (KEY, run)
    assert store.made_by(2, "k1", now=NOON) is None
    with pytest.raises(Resubmitted):
        add(store, "b", key=KEY)
    assert store.runs(Filter()).total == 1, "nothing is left of the second"
    assert add(store, "c", key=replace(KEY, person_id=2)).number == 1
    later = NOON + SUBMISSION_KEY_KEPT
    assert store.made_by(1, "k1", now=later) is None
    assert add(store, "d", later, key=KEY)


def test_of_many_who_come_with_one_key_at_once_one_makes_a_run(store: SqlStore) -> None:
    def submit(number: int) -> str:
        try:
            return add(store, f"p{number}", key=KEY).project
        except NiasError as error:
            return type(error).__name__

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(submit, range(8)))
    assert made.count("Resubmitted") == 7
    assert store.runs(Filter()).total == 1


def test_a_key_names_its_holder_and_whom_she_sees(store: SqlStore) -> None:
    for handle in ("ana", "bento", "clara", "dora", "eva"):
        new = NewPerson(
            handle=handle, email=f"{handle}@lab.org", name=handle, standing=Standing.ACTIVE
        )
        store.people.add(new, at=NOON)
    ana = store.people.find(handle="ana")
    assert ana
    for name, shares, members in (
        ("Sleep", True, ["ana", "bento", "clara"]),
        ("EMG", True, ["ana", "bento"]),
        ("Tea", False, ["ana", "dora"]),
        ("Others", True, ["dora", "eva"]),
    ):
        group = store.people.save_group(name, shares=shares)
        store.people.set_members(group.id, members)
    until = NOON + timedelta(days=1)
    token = NewKey(kind=KeyKind.TOKEN, hash="h", created_at=NOON, expires_at=until)
    key = store.keys.add(replace(token, person_id=ana.id, scope=Scope.READ))
    assert store.keys.holder("h", KeyKind.TOKEN, now=NOON) == (key, ana, {"bento", "clara"})
    alone = store.people.find(handle="eva")
    assert alone
    own = store.keys.add(replace(token, hash="e", person_id=alone.id))
    store.people.drop_group(group.id)
    assert store.keys.holder("e", KeyKind.TOKEN, now=NOON) == (own, alone, frozenset())
    assert store.keys.holder("h", KeyKind.SESSION, now=NOON) is None
    assert store.keys.holder("h", KeyKind.TOKEN, now=until) is None
    store.keys.add(NewKey(kind=KeyKind.INVITATION, hash="i", created_at=NOON, expires_at=until))
    assert store.keys.holder("i", KeyKind.INVITATION, now=NOON) is None
