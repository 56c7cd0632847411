"""What runs take on shared storage and of the cluster, within a transaction of the store."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    false,
    func,
    select,
    type_coerce,
    update,
)

from nias_bridge.domain import ENDED_STATES, OPEN_STATES, Run, SlurmReport
from nias_bridge.errors import NotPossible
from nias_bridge.people import Admission, Used
from nias_bridge.store.tables import dataset_versions, datasets, people, projects, runs, tasks

_ENDED = runs.c.state.in_(ENDED_STATES)
# Whose files are there, and may go.
MAY_GO = (_ENDED, runs.c.pinned.is_(False), runs.c.removed_at.is_(None))


def used(connection: Connection, since: datetime, owner: str | None) -> dict[str, Used]:
    """What each owner has, or this one alone."""
    is_open = case((runs.c.state.in_(OPEN_STATES), 1), else_=0)
    totals = select(
        projects.c.owner,
        func.sum(runs.c.stored_bytes).label("stored_bytes"),
        func.count().label("runs"),
        func.sum(is_open).label("open_runs"),
    ).join_from(runs, projects)
    found = {
        row.owner: Used(
            stored_bytes=int(row.stored_bytes), runs=row.runs, open_runs=int(row.open_runs)
        )
        for row in connection.execute(_of(totals, owner).group_by(projects.c.owner))
    }
    for whose, size in _of_datasets(connection, owner).items():
        there = found.get(whose, Used())
        total = there.stored_bytes + size
        found[whose] = replace(there, stored_bytes=total, dataset_bytes=size)
    for whose, seconds in _cpu_seconds(connection, since, owner):
        there = found[whose]
        found[whose] = replace(there, cpu_seconds=there.cpu_seconds + seconds)
    return found


def before_more(connection: Connection, owner: str, admission: Admission) -> Used:
    """What an owner has before more comes. Who sends more at the same time waits until this
    transaction has ended, and has that then."""
    connection.execute(
        select(people.c.id).where(people.c.handle == owner).with_for_update(key_share=True)
    )
    return used(connection, admission.since, owner).get(owner, Used())


def weigh(connection: Connection, run: Run, stored_bytes: int) -> None:
    """What the files of an ended run take, unless it was marked while they were weighed."""
    as_it_was = runs.c.removed_at.is_not_distinct_from(run.removed_at)
    weighed = update(runs).where(runs.c.id == run.id, as_it_was)
    connection.execute(weighed.values(stored_bytes=stored_bytes, weighed=True))


def announce(connection: Connection, ended_before: datetime | None, leaves_at: datetime) -> None:
    """Give those their day who have none yet, and take it from those who are to stay."""
    due = and_(*MAY_GO, runs.c.changed_at < ended_before) if ended_before else false()
    named = runs.c.leaves_at.is_not(None)
    connection.execute(update(runs).where(named, ~due).values(leaves_at=None))
    connection.execute(update(runs).where(due, ~named).values(leaves_at=leaves_at))


def leave(connection: Connection, now: datetime) -> list[int]:
    """Mark those whose day has come; returns their ids."""
    due = select(runs.c.id).where(*MAY_GO, runs.c.leaves_at <= now).order_by(runs.c.id)
    ids = list(connection.scalars(due.with_for_update()))
    for run_id in ids:
        _mark(connection, run_id, now, "")
    return ids


def remove(connection: Connection, run: Run, at: datetime, by: str) -> None:
    """Mark one. Raises NotPossible for one that is open or pinned; one that is marked stays so."""
    if run.removed_at:
        return
    if not run.state.ended:
        raise NotPossible("This run has not ended: cancel it first.")
    if _mark(connection, run.id, at, by):
        return
    # Somebody else may have been first.
    if connection.scalar(select(runs.c.removed_at).where(runs.c.id == run.id)) is None:
        raise NotPossible("This run is pinned, so its files stay: unpin it first.")


def _mark(connection: Connection, run_id: int, at: datetime, by: str) -> bool:
    """It is weighed anew, and its files are removed before that."""
    marked = update(runs).where(runs.c.id == run_id, *MAY_GO)
    values = {"removed_at": at, "removed_by": by, "leaves_at": None, "weighed": False}
    return connection.execute(marked.values(**values)).rowcount == 1


def _of_datasets(connection: Connection, owner: str | None) -> dict[str, int]:
    """Bytes of each owner's datasets, or of this one's alone; one content counts once."""
    own = dataset_versions.c.sha256
    wanted = (
        select(datasets.c.owner, own, dataset_versions.c.id, dataset_versions.c.size)
        .join_from(dataset_versions, datasets)
        .where(dataset_versions.c.deleted_at.is_(None), dataset_versions.c.problem == "")
    )
    if owner is not None:
        wanted = wanted.where(datasets.c.owner == owner)
    sizes: dict[tuple[str, str | int], int] = {}
    for row in connection.execute(wanted):
        sizes[row.owner, row.sha256 or row.id] = row.size
    found: dict[str, int] = defaultdict(int)
    for (whose, _), size in sizes.items():
        found[whose] += size
    return dict(found)


def _cpu_seconds(
    connection: Connection, since: datetime, owner: str | None
) -> list[tuple[str, float]]:
    """By owner, the seconds of CPUs that jobs (of a sweep its tasks) were given."""
    ended = and_(_ENDED, runs.c.changed_at >= since)
    told: list[tuple[str, float]] = []
    for table, joined, single in (
        (runs, select(projects.c.owner).join_from(runs, projects), runs.c.tasks == 0),
        (
            tasks,
            select(projects.c.owner).join_from(tasks, runs).join(projects),
            runs.c.tasks > 0,
        ),
    ):
        given = func.sum(_of_report(table.c.report, "elapsed") * _of_report(table.c.report, "cpus"))
        over = joined.add_columns(given).where(single, ended).group_by(projects.c.owner)
        told += [(whose, float(sum_ or 0)) for whose, sum_ in connection.execute(_of(over, owner))]
        live = joined.add_columns(table.c.report, table.c.state).where(
            single, runs.c.state.in_(OPEN_STATES), table.c.report.is_not(None)
        )
        told += [
            (whose, _so_far(report, state.ended))
            for whose, report, state in connection.execute(_of(live, owner))
        ]
    return told


def _so_far(report: SlurmReport, ended: bool) -> float:
    """Of a job that runs, or of a task that has ended in a sweep that goes on."""
    if ended:
        return float((report.elapsed or 0) * (report.cpus or 0))
    if report.started_at is None:
        return 0.0
    return max(0.0, (datetime.now(UTC) - report.started_at).total_seconds()) * (report.cpus or 0)


def _of_report(report: ColumnElement[Any], field: str) -> ColumnElement[int]:
    number: ColumnElement[int] = type_coerce(report, JSON)[field].as_integer()
    return number


def _of(wanted: Select[Any], owner: str | None) -> Select[Any]:
    return wanted if owner is None else wanted.where(projects.c.owner == owner)
