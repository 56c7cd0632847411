"""What the store promises about room, notice and administrators, in each database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from test_runs import a_run, nowhere

from nias_bridge.domain import JobState, Run, SlurmReport
from nias_bridge.errors import NotPossible
from nias_bridge.people import NewPerson, Person, Role, Standing
from nias_bridge.store import SqlStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ROAD = (JobState.STAGED, JobState.SUBMITTING, JobState.PENDING, JobState.RUNNING)


def ended(
    store: SqlStore, owner: str = "lab", at: datetime = NOON, elapsed: int = 10, cpus: int = 2
) -> Run:
    run = store.add_run(a_run(owner=owner), again=True, place=nowhere)
    for state in ROAD:
        run = store.move(run, state, at=at)
    report = SlurmReport(
        job_id=run.id, name=run.job_name, state=JobState.COMPLETED, elapsed=elapsed, cpus=cpus
    )
    return store.move(run, JobState.COMPLETED, at=at, report=report)


def test_what_each_owner_has_is_summed_in_one_question(store: SqlStore) -> None:
    first, second = ended(store), ended(store, elapsed=5)
    ended(store, owner="berta", cpus=1)
    store.add_run(a_run("open"), again=True, place=nowhere)
    store.weigh(first, 5_000_000_000)
    store.weigh(second, 7)
    told = store.used(since=NOON)
    assert told.keys() == {"lab", "berta"}
    lab = told["lab"]
    assert (lab.runs, lab.open_runs, lab.stored_bytes) == (3, 1, 5_000_000_007 + 30)
    assert (lab.cpu_seconds, told["berta"].cpu_seconds) == (30, 10)
    assert store.used(since=NOON, owner="lab") == {"lab": lab}
    assert store.used(since=NOON + DAY)["lab"].cpu_seconds == 0, "it ended before"
    assert store.used(since=NOON, owner="nobody") == {}


def test_the_tasks_of_a_sweep_count_and_its_own_report_does_not(store: SqlStore) -> None:
    new = replace(a_run(), tasks=({"a": 1}, {"a": 2}))
    run = store.add_run(new, again=True, place=nowhere)
    for state in ROAD:
        run = store.move(run, state, at=NOON)
    report = SlurmReport(job_id=1, name="x", state=JobState.COMPLETED, elapsed=10, cpus=3)
    for task in store.tasks(run.id):
        store.save_tasks([replace(task, state=JobState.COMPLETED, report=report)])
    assert store.used(since=NOON)["lab"].cpu_seconds == 60, "while others of it run"
    store.move(run, JobState.COMPLETED, at=NOON, report=replace(report, elapsed=999))
    assert store.used(since=NOON)["lab"].cpu_seconds == 60


def test_a_job_that_runs_counts_up_to_now(store: SqlStore) -> None:
    run = store.add_run(a_run(), again=True, place=nowhere)
    for state in ROAD:
        run = store.move(run, state, at=NOON)
    started = datetime.now(UTC) - timedelta(minutes=10)
    told = SlurmReport(
        job_id=1, name="x", state=JobState.RUNNING, cpus=4, started_at=started, elapsed=None
    )
    store.update(run, report=told)
    assert 2400 <= store.used(since=NOON)["lab"].cpu_seconds < 2460


def test_ended_runs_are_to_be_weighed_open_ones_not_and_each_once(store: SqlStore) -> None:
    open_run, run = store.add_run(a_run("a"), again=True, place=nowhere), ended(store)
    assert (open_run.stored_bytes, open_run.weighed) == (30, False), "what is expected of it"
    assert store.unweighed(10) == [run]
    store.weigh(run, 12)
    assert store.unweighed(10) == []
    assert store.run(run.id).stored_bytes == 12


def test_one_that_is_marked_while_it_is_weighed_is_weighed_anew(store: SqlStore) -> None:
    run = ended(store)
    marked = store.remove(run.id, at=NOON, by="lab")
    store.weigh(run, 12)
    assert store.unweighed(10) == [marked]
    store.weigh(marked, 3)
    assert (store.unweighed(10), store.run(run.id).stored_bytes) == ([], 3)


def test_the_largest_are_those_that_can_be_removed(store: SqlStore) -> None:
    small, large, pinned, gone = (ended(store) for _ in range(4))
    for run, size in ((small, 1), (large, 9), (pinned, 99), (gone, 999)):
        store.weigh(run, size)
    store.pin(pinned.id, True)
    store.remove(gone.id, at=NOON, by="lab")
    assert [run.id for run in store.largest("lab", 5)] == [large.id, small.id]
    assert store.largest("berta", 5) == []


def test_announced_runs_leave_on_their_day_and_others_do_not(store: SqlStore) -> None:
    old, new, pinned = ended(store), ended(store, at=NOON + DAY), ended(store)
    store.pin(pinned.id, True)
    leaves_at = NOON + 7 * DAY
    store.announce(ended_before=NOON + DAY, leaves_at=leaves_at)
    store.announce(ended_before=NOON + DAY, leaves_at=leaves_at + DAY)
    assert [store.run(run.id).leaves_at for run in (old, new, pinned)] == [leaves_at, None, None]
    assert store.leave(now=leaves_at - timedelta(seconds=1)) == []
    (left,) = store.leave(now=leaves_at)
    assert (left.id, left.removed_at, left.removed_by) == (old.id, leaves_at, "")
    assert (left.leaves_at, left.weighed) == (None, False)
    assert store.leave(now=leaves_at) == []


def test_who_is_pinned_at_the_last_moment_stays(store: SqlStore) -> None:
    run = ended(store)
    store.announce(ended_before=NOON + DAY, leaves_at=NOON)
    assert store.pin(run.id, True).leaves_at is None
    assert store.leave(now=NOON + DAY) == []
    with pytest.raises(NotPossible, match="pinned"):
        store.remove(run.id, at=NOON, by="lab")


def test_an_announcement_is_taken_back_where_the_limit_is(store: SqlStore) -> None:
    run = ended(store)
    store.announce(ended_before=NOON + DAY, leaves_at=NOON + DAY)
    store.announce(ended_before=NOON - DAY, leaves_at=NOON + DAY)
    assert store.run(run.id).leaves_at is None
    store.announce(ended_before=NOON + DAY, leaves_at=NOON + DAY)
    store.announce(ended_before=None, leaves_at=NOON + DAY)
    assert store.run(run.id).leaves_at is None


def test_an_open_run_is_not_removed(store: SqlStore) -> None:
    run = store.add_run(a_run(), again=True, place=nowhere)
    with pytest.raises(NotPossible, match="not ended"):
        store.remove(run.id, at=NOON, by="lab")


def administrator(store: SqlStore, name: str) -> Person:
    new = NewPerson(handle=name, email=f"{name}@lab.org", name=name, role=Role.ADMINISTRATOR)
    return store.people.change(store.people.add(new, at=NOON).id, standing=Standing.ACTIVE)


def test_two_administrators_who_leave_at_once_leave_one(store: SqlStore) -> None:
    both = [administrator(store, name) for name in ("ana", "berta")]

    def leaves(person: Person) -> bool:
        try:
            store.people.change(person.id, role=Role.RESEARCHER)
        except NotPossible:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(leaves, both)) == [False, True]
    assert sum(person.administers for person in store.people.all()) == 1


def test_one_who_waits_is_no_administrator_yet(store: SqlStore) -> None:
    only = administrator(store, "ana")
    waits = store.people.add(
        NewPerson(handle="b", email="b@lab.org", name="B", role=Role.ADMINISTRATOR), at=NOON
    )
    assert waits.standing is Standing.WAITING
    with pytest.raises(NotPossible):
        store.people.change(only.id, standing=Standing.DISABLED)
    store.people.change(only.id, role=Role.ADMINISTRATOR, name="Ana")
