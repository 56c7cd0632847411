"""The rows of a sweep's table: in the order of one of its columns, a page at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from nias_bridge.domain import Scalar
from nias_bridge.tasks import Task

ROWS_A_PAGE = 100


@dataclass(frozen=True, kw_only=True)
class Look:
    """How somebody looks at the table: column is task, state, took, memory, p.<parameter> or
    m.<metric>; page counts from 1, and is None for all rows at once."""

    column: str = "task"
    down: bool = False
    page: int | None = 1


def rows(tasks: Sequence[Task], look: Look) -> list[Task]:
    """Numbers by their size, before texts by their letters; what is missing last, either way.

    A column that there is not leaves the order as it is, a page that there is not is empty.
    """
    known = [task for task in tasks if _key(task, look.column) is not None]
    missing = [task for task in tasks if _key(task, look.column) is None]
    known.sort(key=lambda task: _key(task, look.column) or (), reverse=look.down)
    ordered = known + missing
    if look.page is None:
        return ordered
    return ordered[(look.page - 1) * ROWS_A_PAGE : look.page * ROWS_A_PAGE]


def pages(tasks: Sequence[Task]) -> int:
    """How many pages the table has."""
    return max(1, -(-len(tasks) // ROWS_A_PAGE))


def value(task: Task, column: str) -> Scalar | None:
    """What a task has in a column, None where it has nothing (yet)."""
    kind, _, name = column.partition(".")
    if name:
        own = {"p": task.parameters, "m": task.metrics}.get(kind, {})
        return own.get(name)
    return {
        "task": task.index,
        "state": task.state.value,
        "took": task.seconds if task.state.ended else None,
        "memory": task.report.max_rss if task.report else None,
    }.get(column)


def _key(task: Task, column: str) -> tuple[object, ...] | None:
    found = value(task, column)
    if found is None:
        return None
    try:
        number = float(found)
    except ValueError:
        number = math.nan
    if not math.isnan(number):
        return (0, number)
    if not isinstance(found, str):
        return None
    # Of “w2” and “w10” people expect the 2 first; texts and numbers take turns in the split.
    parts = re.split(r"(\d+)", found.casefold())
    return (1, [int(part) if at % 2 else part for at, part in enumerate(parts)])
