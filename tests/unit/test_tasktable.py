"""The table of a sweep's tasks: sorted by any column, a page at a time."""

from __future__ import annotations

import pytest

from nias_bridge.domain import JobState, Scalar, SlurmReport
from nias_bridge.services.tasktable import Look, pages, rows
from nias_bridge.tasks import Task


def task(index: int, metrics: dict[str, float] | None = None, **parameters: Scalar) -> Task:
    return Task(run_id=1, index=index, parameters=parameters, metrics=metrics or {})


def order(tasks: list[Task], column: str, *, down: bool = False) -> list[int]:
    return [each.index for each in rows(tasks, Look(column=column, down=down))]


@pytest.mark.parametrize(
    ("values", "up", "down"),
    [
        ([10, 9, 100], [1, 0, 2], [2, 0, 1]),
        ([0.25, "0.5", 0.1], [2, 0, 1], [1, 0, 2]),
        (["w10", "w2", "W1"], [2, 1, 0], [0, 1, 2]),
        (["hann", 3, "boxcar"], [1, 2, 0], [0, 2, 1]),
        (["10a", "a10", "2a"], [2, 0, 1], [1, 0, 2]),
        ([True, False, True], [1, 0, 2], [0, 2, 1]),
    ],
)
def test_numbers_go_by_size_and_texts_by_their_letters(
    values: list[Scalar], up: list[int], down: list[int]
) -> None:
    tasks = [task(index, x=value) for index, value in enumerate(values)]
    assert order(tasks, "p.x") == up
    assert order(tasks, "p.x", down=True) == down


def test_what_is_missing_or_no_number_comes_last_whichever_way() -> None:
    nan = float("nan")
    tasks = [task(0), task(1, {"rms": 2.0}), task(2, {"rms": nan}), task(3, {"rms": 5.0})]
    assert order(tasks, "m.rms") == [1, 3, 0, 2]
    assert order(tasks, "m.rms", down=True) == [3, 1, 0, 2]


def test_tasks_are_sorted_by_state_time_and_memory_too() -> None:
    def ended(index: int, state: JobState, seconds: int, peak: int) -> Task:
        report = SlurmReport(job_id=1, name="n", state=state, elapsed=seconds, max_rss=peak)
        return Task(run_id=1, index=index, parameters={}, state=state, report=report)

    tasks = [ended(0, JobState.FAILED, 9, 5), ended(1, JobState.COMPLETED, 30, 1), task(2)]
    assert order(tasks, "state") == [1, 0, 2]
    assert order(tasks, "took", down=True) == [1, 0, 2]
    assert order(tasks, "memory", down=True) == [0, 1, 2]


def test_a_column_that_is_not_there_changes_nothing() -> None:
    tasks = [task(0, x=2), task(1, x=1)]
    for column in ("", "p.y", "q.x", "index", "p."):
        assert order(tasks, column, down=True) == [0, 1]


def test_a_thousand_tasks_are_ten_pages_and_a_page_beyond_is_empty() -> None:
    tasks = [task(index) for index in range(1000)]
    assert pages(tasks) == 10
    assert [each.index for each in rows(tasks, Look(page=3))] == list(range(200, 300))
    assert rows(tasks, Look(page=11)) == []
    assert len(rows(tasks, Look(page=None))) == 1000
    assert pages([]) == 1
