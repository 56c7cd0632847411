"""A poller that stood still for longer than its lease writes nothing more, in each database."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from test_runs import a_run, nowhere

from nias_bridge.cluster import ClusterView
from nias_bridge.domain import JobState, Run
from nias_bridge.errors import LeaseLost
from nias_bridge.store import SqlStore, engine, open_store
from nias_bridge.store.tables import lease

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=20)


@pytest.fixture
def sweep(store: SqlStore) -> Run:
    new = replace(a_run(), tasks=({"cutoff": 1}, {"cutoff": 2}))
    return store.add_run(new, again=False, place=nowhere)


def the_sweeps_tasks(store: SqlStore, run: Run, state: JobState) -> None:
    store.save_tasks([replace(task, state=state) for task in store.tasks(run.id)])


WRITES: dict[str, Callable[[SqlStore, Run], Any]] = {
    "a move": lambda store, run: store.move(run, JobState.STAGED, at=NOON),
    "a run": lambda store, run: store.update(run, note="old news"),
    "tasks": lambda store, run: the_sweeps_tasks(store, run, JobState.RUNNING),
    "the cluster": lambda store, _: store.save_cluster(ClusterView(at=NOON)),
    "files": lambda store, run: store.weigh(run, 1),
    "limits": lambda store, _: store.leave(now=NOON),
    "jobs of login nodes": lambda store, _: store.unclaimed.look(NOON),
    "keys": lambda store, _: store.keys.drop_expired(before=NOON),
}


@pytest.mark.parametrize("what", WRITES)
def test_who_has_lost_the_lease_writes_nothing(what: str, store: SqlStore, sweep: Run) -> None:
    write = WRITES[what]
    assert store.hold_lease("a", now=NOON, seconds=10)
    assert store.hold_lease("b", now=LATER, seconds=10)
    with pytest.raises(LeaseLost):
        write(store.held_by("a"), sweep)
    write(store.held_by("b"), sweep)


def test_who_resumes_spoils_no_task_that_ended_meanwhile(store: SqlStore, sweep: Run) -> None:
    assert store.hold_lease("a", now=NOON, seconds=10)
    stopped = store.held_by("a")
    old_sight = [replace(task, state=JobState.RUNNING) for task in stopped.tasks(sweep.id)]
    assert store.hold_lease("b", now=LATER, seconds=10)
    the_sweeps_tasks(store.held_by("b"), sweep, JobState.COMPLETED)
    with pytest.raises(LeaseLost):
        stopped.save_tasks(old_sight)
    assert {task.state for task in store.tasks(sweep.id)} == {JobState.COMPLETED}


def test_a_lease_that_ran_out_and_nobody_took_is_still_good(store: SqlStore, sweep: Run) -> None:
    assert store.hold_lease("a", now=NOON - timedelta(days=1), seconds=10)
    assert store.held_by("a").update(sweep, note="nobody was quicker").note


def test_a_gateway_writes_whoever_has_the_lease(store: SqlStore, sweep: Run) -> None:
    assert store.hold_lease("b", now=NOON, seconds=10)
    assert store.ask_cancel(sweep.id, at=NOON).cancel_asked_at


def test_a_poller_stopped_in_mid_transaction_keeps_nobody_out(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "STOPPED_SECONDS", 1)
    store = open_store(postgresql_url)
    assert store.hold_lease("a", now=NOON, seconds=10)
    frozen = engine.held(engine.make_engine(postgresql_url), "a")
    began = time.monotonic()
    with pytest.raises(Exception, match="idle-in-transaction"), engine.writing(frozen) as held:
        assert store.hold_lease("b", now=LATER, seconds=10)
        assert 0.5 < time.monotonic() - began < 10
        held.execute(select(lease))
    frozen.dispose()
    store.close()
