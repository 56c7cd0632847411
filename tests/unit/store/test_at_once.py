"""Several writers at the same moment: processes, each with a store of its own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

import pytest

from nias_bridge.domain import Contents, Filter, JobState, NewRun, Resources, Run
from nias_bridge.errors import ProjectExists, Stale
from nias_bridge.store import SqlStore, open_store
from nias_bridge.store.schema import upgrade

Answer = TypeVar("Answer")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
WRITERS = 4
RUNS_EACH = 5
NEW_PROJECTS = 100

_gate: Barrier


def _open_gate(gate: Barrier) -> None:
    global _gate  # noqa: PLW0603  # what a pool's initializer is for
    _gate = gate


def _at_the_gate(act: Callable[[int], Answer], writer: int) -> Answer:
    _gate.wait(timeout=120)
    return act(writer)


@pytest.fixture(scope="module")
def everybody() -> Iterator[Callable[[Callable[[int], Answer]], list[Answer]]]:
    """Calls a function in WRITERS processes at the same moment; returns their answers."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nias_bridge.store", "psycopg"])
    gate = context.Barrier(WRITERS)
    with ProcessPoolExecutor(
        WRITERS, mp_context=context, initializer=_open_gate, initargs=(gate,)
    ) as pool:
        yield lambda act: list(pool.map(partial(_at_the_gate, act), range(WRITERS)))


def _new(token: str, project: str = "EMG") -> NewRun:
    return NewRun(
        owner="lab",
        project=project,
        slug=project,
        token=token,
        resources=Resources(),
        contents=Contents(sha256="", size=1, unpacked_size=1, files=1),
        created_at=NOW,
    )


def _nowhere(_: Run) -> None:
    pass


def _add_again(url: str, writer: int) -> list[int]:
    store = open_store(url)
    return [
        store.add_run(_new(f"{writer}-{turn}"), again=True, place=_nowhere).number
        for turn in range(RUNS_EACH)
    ]


def _add_first(url: str, writer: int) -> str:
    store = open_store(url)
    try:
        store.add_run(_new(str(writer)), again=False, place=lambda _: time.sleep(0.05))
    except ProjectExists as error:
        return f"run {error.next_number} next"
    return "added"


def _add_new_projects(url: str, writer: int) -> list[int]:
    store = open_store(url)
    numbers = []
    for turn in range(NEW_PROJECTS):
        _gate.wait(timeout=120)
        new = _new(f"{writer}-new-{turn}", f"New{turn}")
        numbers.append(store.add_run(new, again=True, place=_nowhere).number)
    return numbers


def _stage(url: str, run: Run, _writer: int) -> str:
    try:
        open_store(url).move(run, JobState.STAGED, at=NOW)
    except Stale:
        return "stale"
    return "moved"


def _lease(url: str, writer: int) -> bool:
    return open_store(url).hold_lease(str(writer), now=NOW, seconds=10)


def _upgrade(url: str, _writer: int) -> None:
    upgrade(url)


Everybody = Callable[[Callable[[int], Answer]], list[Answer]]


def test_writers_at_once_get_their_turns(url: str, everybody: Everybody[Any]) -> None:
    """Numbers without gap or double; one move, one lease and one new project win."""
    assert sorted(everybody(partial(_add_first, url))) == ["added"] + ["run 2 next"] * (WRITERS - 1)

    numbers = [n for each in everybody(partial(_add_again, url)) for n in each]
    assert sorted(numbers) == list(range(2, 2 + WRITERS * RUNS_EACH))

    store = open_store(url)
    run = store.runs(Filter(per_page=1)).runs[0]
    assert sorted(everybody(partial(_stage, url, run))) == ["moved"] + ["stale"] * (WRITERS - 1)
    assert len(store.events(run.id)) == 2

    assert sorted(everybody(partial(_lease, url))) == [False] * (WRITERS - 1) + [True]
    store.close()


def test_a_new_project_of_several_at_the_same_instant_is_one(
    url: str, everybody: Everybody[list[int]]
) -> None:
    numbers = everybody(partial(_add_new_projects, url))
    assert [sorted(each) for each in zip(*numbers, strict=True)] == [
        list(range(1, WRITERS + 1))
    ] * NEW_PROJECTS


def test_an_upgrade_by_several_at_once_happens_once(
    empty_url: str, everybody: Everybody[None]
) -> None:
    everybody(partial(_upgrade, empty_url))
    store: SqlStore = open_store(empty_url)
    assert store.runs(Filter()).total == 0
    store.close()
