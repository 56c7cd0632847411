"""The tasks of sweeps in the database, within a transaction of the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, insert, select, update

from nias_bridge.domain import OPEN_STATES, JobState, Scalar
from nias_bridge.errors import NotFound
from nias_bridge.store.engine import ID_MAX
from nias_bridge.store.tables import tasks
from nias_bridge.tasks import Task


def add(connection: Connection, run_id: int, told: Mapping[int, Mapping[str, Scalar]]) -> None:
    """The tasks of a new run by their indexes, with these parameters."""
    rows = [
        {
            "run_id": run_id,
            "index": index,
            "parameters": dict(parameters),
            "state": JobState.PENDING,
            "metrics": {},
            "note": "",
        }
        for index, parameters in told.items()
    ]
    connection.execute(insert(tasks), rows)


def read(connection: Connection, run_id: int, states_: frozenset[JobState]) -> list[Task]:
    """A run's tasks in order, those in these states where any are named."""
    wanted = select(tasks).where(tasks.c.run_id == run_id).order_by(tasks.c.index)
    if states_:
        wanted = wanted.where(tasks.c.state.in_(states_))
    return [Task(**row) for row in connection.execute(wanted).mappings()]


def one(connection: Connection, run_id: int, index: int) -> Task:
    """One task. Raises NotFound."""
    missing = NotFound(f"This run has no task {index}.")
    if not 0 <= index <= ID_MAX:
        raise missing
    wanted = select(tasks).where(tasks.c.run_id == run_id, tasks.c.index == index)
    row = connection.execute(wanted).mappings().one_or_none()
    if row is None:
        raise missing
    return Task(**row)


def states(connection: Connection, run_id: int) -> Counter[JobState]:
    """How many of a run's tasks are in each state."""
    counted = select(tasks.c.state, func.count()).where(tasks.c.run_id == run_id)
    rows = connection.execute(counted.group_by(tasks.c.state))
    return Counter({row[0]: row[1] for row in rows})


def save(connection: Connection, changed: Sequence[Task]) -> None:
    """What Slurm and the node tell of these tasks."""
    if not changed:
        return
    write = (
        update(tasks)
        .where(tasks.c.run_id == bindparam("of_run"), tasks.c.index == bindparam("at"))
        .values(
            state=bindparam("new_state"),
            report=bindparam("new_report"),
            metrics=bindparam("new_metrics"),
            note=bindparam("new_note"),
        )
    )
    connection.execute(
        write,
        [
            {
                "of_run": task.run_id,
                "at": task.index,
                "new_state": task.state,
                "new_report": task.report,
                "new_metrics": dict(task.metrics),
                "new_note": task.note,
            }
            for task in changed
        ],
    )


def ask_cancel(connection: Connection, run_id: int, index: int, at: datetime) -> Task:
    """Remember the wish; an ended task takes none. Raises NotFound."""
    one(connection, run_id, index)
    wish = (
        update(tasks)
        .where(tasks.c.run_id == run_id, tasks.c.index == index)
        .where(tasks.c.state.in_(OPEN_STATES), tasks.c.cancel_asked_at.is_(None))
    )
    connection.execute(wish.values(cancel_asked_at=at))
    return one(connection, run_id, index)
