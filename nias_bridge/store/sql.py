"""The Store in a SQL database: each call is one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from nias_bridge.cluster import ClusterView
from nias_bridge.datasets import Mount
from nias_bridge.domain import (
    ENDED_STATES,
    MOVES,
    OPEN_STATES,
    Event,
    Filter,
    JobState,
    NewRun,
    Origin,
    Page,
    Run,
    SubmissionKey,
    Unclaimed,
)
from nias_bridge.errors import NotFound, ProjectExists, Stale
from nias_bridge.naming import name_key
from nias_bridge.people import Admission, Used
from nias_bridge.store import datasets as datasets_of
from nias_bridge.store import filters, keyed, stored, unclaimed
from nias_bridge.store import tasks as tasks_of
from nias_bridge.store.deeds import SqlDeeds
from nias_bridge.store.engine import ID_MAX, asking, held, reading, writing
from nias_bridge.store.keys import SqlKeys
from nias_bridge.store.outbox import SqlOutbox, put_move
from nias_bridge.store.people import SqlPeople
from nias_bridge.store.recurring import Recurring
from nias_bridge.store.tables import cluster_view, events, lease, projects, runs, submissions
from nias_bridge.tasks import Task

# The fields of a run that `move` and `update` may write.
CHANGEABLE = frozenset(
    {
        *("resources", "job_id", "submitted_at", "submissions", "report", "note", "missing_since"),
        *("contents", "program", "native"),
    }
)

_WHOLE_RUN = select(
    projects.c.owner,
    projects.c.name.label("project"),
    projects.c.slug,
    *(column for column in runs.c if column is not runs.c.project_id),
).join_from(runs, projects)

_BY_ID = _WHOLE_RUN.where(runs.c.id == bindparam("run"))

# Both databases have INSERT … ON CONFLICT; SQLAlchemy has it by dialect.
_UPSERT: dict[str, Callable[[Table], Any]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


class SqlStore:
    """The store of one engine, whose database is at this version's schema.

    Every call raises StoreError when the database does not answer.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._upsert = _UPSERT[engine.dialect.name]
        self._by_id = Recurring(engine, _BY_ID, _run)
        self.people = SqlPeople(engine)
        self.keys = SqlKeys(engine)
        self.deeds = SqlDeeds(engine)
        self.outbox = SqlOutbox(engine, self._upsert)
        self.unclaimed = unclaimed.SqlUnclaimedJobs(engine)
        self.datasets = datasets_of.SqlDatasets(engine, self._upsert)

    def close(self) -> None:
        """Let go of all connections; the next call opens new ones."""
        self._engine.dispose()

    def add_run(
        self,
        new: NewRun,
        *,
        again: bool,
        place: Callable[[Run], None],
        key: SubmissionKey | None = None,
        admission: Admission | None = None,
    ) -> Run:
        with writing(self._engine) as connection:
            if admission is not None:
                admission.judge(stored.before_more(connection, new.owner, admission))
            number, run_id = self._insert(connection, new, JobState.RECEIVED)
            if number > 1 and not again:
                raise ProjectExists(_one(connection, run_id).project, number)
            if new.tasks:
                tasks_of.add(connection, run_id, dict(enumerate(new.tasks)))
            datasets_of.use(connection, run_id, new.datasets)
            if key is not None:
                keyed.remember(connection, self._upsert(submissions), key, run_id, new.created_at)
            run = _one(connection, run_id)
            place(run)
            return run

    def made_by(
        self, person_id: int, word: str, *, now: datetime
    ) -> tuple[SubmissionKey, Run] | None:
        with reading(self._engine) as connection:
            found = keyed.find(connection, person_id, word, now)
            return None if found is None else (found[0], _one(connection, found[1]))

    def adopt(self, new: NewRun, job: Unclaimed) -> Run | None:
        with writing(self._engine) as connection:
            unclaimed.drop(connection, job.token)
            if connection.scalar(select(runs.c.id).where(runs.c.token == new.token)):
                return None
            told = {
                "origin": Origin.SBATCH,
                "native": job.native,
                "job_id": job.report.job_id,
                "submitted_at": job.report.submitted_at,
                "report": replace(job.report, array_tasks=()),
                "tasks": len(job.tasks),
            }
            _, run_id = self._insert(connection, new, JobState.PENDING, **told)
            if job.tasks:
                tasks_of.add(connection, run_id, {index: {} for index in job.tasks})
            return _one(connection, run_id)

    def adopted(self, job_ids: Collection[int]) -> list[Run]:
        wanted = _WHOLE_RUN.where(runs.c.job_id.in_(job_ids), runs.c.origin == Origin.SBATCH)
        with reading(self._engine) as connection:
            return [Run(**row) for row in connection.execute(wanted).mappings()]

    def _insert(
        self, connection: Connection, new: NewRun, state: JobState, **told: Any
    ) -> tuple[int, int]:
        """A run's row, and its project's where that is new; returns the run's number and id."""
        key = name_key(new.project)
        ours = (projects.c.owner == new.owner) & (projects.c.name_key == key)
        # No index is named: of two who come at once, PostgreSQL would let the later one fail at the
        # other of the two (owner and slug).
        connection.execute(
            self._upsert(projects)
            .values(owner=new.owner, name=new.project, name_key=key, slug=new.slug, last_number=0)
            .on_conflict_do_nothing()
        )
        # Counting up locks the project: who comes at the same time waits here.
        connection.execute(
            update(projects).where(ours).values(last_number=projects.c.last_number + 1)
        )
        project = connection.execute(select(projects).where(ours)).one()
        row = {
            "project_id": project.id,
            "number": project.last_number,
            "token": new.token,
            "state": state,
            "resources": new.resources,
            "contents": new.contents,
            "program": new.program,
            "tasks": len(new.tasks),
            "max_parallel": new.max_parallel,
            "datasets": new.datasets,
            "created_at": new.created_at,
            "changed_at": new.created_at,
            "submissions": 0,
            "note": "",
            "stored_bytes": new.contents.size + new.contents.unpacked_size,
            "version": 0,
            **told,
        }
        added = connection.execute(insert(runs).values(row))
        run_id: int = added.inserted_primary_key[0]  # type: ignore[index]
        _note_event(connection, run_id, state, new.created_at, "")
        put_move(connection, new.owner, run_id, state, new.created_at)
        return project.last_number, run_id

    def next_number(self, owner: str, project: str) -> int:
        ours = (projects.c.owner == owner) & (projects.c.name_key == name_key(project))
        with reading(self._engine) as connection:
            last = connection.scalar(select(projects.c.last_number).where(ours))
        return (last or 0) + 1

    def run(self, run_id: int) -> Run:
        found = self._by_id.ask(run=run_id) if 0 < run_id <= ID_MAX else None
        if found is None:
            raise _not_there(run_id)
        return found

    def runs(self, wanted: Filter) -> Page:
        asked = filters.conditions(wanted)
        follow = [] if wanted.before is None else [filters.older_than(*wanted.before)]
        newest_first = (runs.c.created_at.desc(), runs.c.id.desc())
        # The ids first, from the indexes alone: rows that are not shown are not read.
        shown = (
            select(runs.c.id)
            .where(*asked, *follow)
            .order_by(*newest_first)
            .limit(wanted.per_page + 1)  # the one too many tells that there are more
            .offset(0 if wanted.before else (wanted.page - 1) * wanted.per_page)
        )
        page = _WHOLE_RUN.where(runs.c.id.in_(shown)).order_by(*newest_first)
        with reading(self._engine) as connection:
            total = connection.scalar(select(func.count()).select_from(runs).where(*asked)) or 0
            found = tuple(Run(**row) for row in connection.execute(page).mappings())
        return Page(
            runs=found[: wanted.per_page],
            total=total,
            page=wanted.page,
            per_page=wanted.per_page,
            more=len(found) > wanted.per_page,
        )

    def run_states(self) -> Counter[JobState]:
        counted = select(runs.c.state, func.count().label("runs")).group_by(runs.c.state)
        with reading(self._engine) as connection:
            return Counter({row.state: row.runs for row in connection.execute(counted)})

    def open_runs(self, states: frozenset[JobState] = OPEN_STATES) -> list[Run]:
        wanted = _WHOLE_RUN.where(runs.c.state.in_(states & OPEN_STATES))
        with reading(self._engine) as connection:
            rows = connection.execute(wanted.order_by(runs.c.created_at, runs.c.id)).mappings()
            return [Run(**row) for row in rows]

    def open_runs_with_datasets(self) -> list[Run]:
        seeing = runs.c.id.in_(datasets_of.seeing())
        wanted = _WHOLE_RUN.where(runs.c.state.in_(OPEN_STATES), seeing)
        with reading(self._engine) as connection:
            return [Run(**row) for row in connection.execute(wanted).mappings()]

    def see(self, run: Run, seen: Sequence[Mount]) -> Run:
        with writing(self._engine) as connection:
            datasets_of.use(connection, run.id, seen)
            return _write(connection, run, {"datasets": tuple(seen)})

    def move(self, run: Run, to: JobState, *, at: datetime, **changes: Any) -> Run:
        if to not in MOVES[run.state]:
            raise ValueError(f"A run does not go from {run.state} to {to}.")
        _check(changes)
        with writing(self._engine) as connection:
            moved = _write(connection, run, {**changes, "state": to, "changed_at": at})
            _note_event(connection, run.id, to, at, changes.get("note", ""))
            put_move(connection, run.owner, run.id, to, at)
            return moved

    def update(self, run: Run, **changes: Any) -> Run:
        _check(changes)
        with writing(self._engine) as connection:
            return _write(connection, run, changes)

    def ask_cancel(self, run_id: int, *, at: datetime) -> Run:
        wish = (
            update(runs)
            .where(runs.c.id == run_id)
            .where(runs.c.state.in_(OPEN_STATES), runs.c.cancel_asked_at.is_(None))
        )
        with writing(self._engine) as connection:
            _one(connection, run_id)
            connection.execute(wish.values(cancel_asked_at=at))
            return _one(connection, run_id)

    def pin(self, run_id: int, pinned: bool) -> Run:
        changed = {"pinned": True, "leaves_at": None} if pinned else {"pinned": False}
        with writing(self._engine) as connection:
            _one(connection, run_id)
            connection.execute(update(runs).where(runs.c.id == run_id).values(**changed))
            return _one(connection, run_id)

    def used(self, *, since: datetime, owner: str | None = None) -> dict[str, Used]:
        with reading(self._engine) as connection:
            return stored.used(connection, since, owner)

    def largest(self, owner: str, most: int) -> list[Run]:
        wanted = _WHOLE_RUN.where(projects.c.owner == owner, *stored.MAY_GO)
        biggest = wanted.order_by(runs.c.stored_bytes.desc(), runs.c.id).limit(most)
        with reading(self._engine) as connection:
            return [Run(**row) for row in connection.execute(biggest).mappings()]

    def unweighed(self, most: int) -> list[Run]:
        wanted = _WHOLE_RUN.where(runs.c.weighed.is_(False), runs.c.state.in_(ENDED_STATES))
        with reading(self._engine) as connection:
            rows = connection.execute(wanted.order_by(runs.c.id).limit(most)).mappings()
            return [Run(**row) for row in rows]

    def weigh(self, run: Run, stored_bytes: int) -> None:
        with writing(self._engine) as connection:
            stored.weigh(connection, run, stored_bytes)

    def announce(self, *, ended_before: datetime | None, leaves_at: datetime) -> None:
        with writing(self._engine) as connection:
            stored.announce(connection, ended_before, leaves_at)

    def leave(self, *, now: datetime) -> list[Run]:
        with writing(self._engine) as connection:
            return [_one(connection, run_id) for run_id in stored.leave(connection, now)]

    def remove(self, run_id: int, *, at: datetime, by: str) -> Run:
        with writing(self._engine) as connection:
            stored.remove(connection, _one(connection, run_id), at, by)
            return _one(connection, run_id)

    def tasks(self, run_id: int, states: frozenset[JobState] = frozenset()) -> list[Task]:
        with reading(self._engine) as connection:
            return tasks_of.read(connection, run_id, states)

    def task(self, run_id: int, index: int) -> Task:
        with reading(self._engine) as connection:
            return tasks_of.one(connection, run_id, index)

    def task_states(self, run_id: int) -> Counter[JobState]:
        with reading(self._engine) as connection:
            return tasks_of.states(connection, run_id)

    def save_tasks(self, tasks: Sequence[Task]) -> None:
        with writing(self._engine) as connection:
            tasks_of.save(connection, tasks)

    def ask_cancel_task(self, run_id: int, index: int, *, at: datetime) -> Task:
        with writing(self._engine) as connection:
            return tasks_of.ask_cancel(connection, run_id, index, at)

    def events(self, run_id: int) -> list[Event]:
        of_run = select(events.c.at, events.c.state, events.c.note).where(events.c.run_id == run_id)
        with reading(self._engine) as connection:
            rows = connection.execute(of_run.order_by(events.c.id)).mappings()
            return [Event(**row) for row in rows]

    def hold_lease(self, holder: str, *, now: datetime, seconds: float) -> bool:
        mine = {"holder": holder, "until": now + timedelta(seconds=seconds)}
        take = (
            self._upsert(lease)
            .values(id=1, **mine)
            .on_conflict_do_update(
                index_elements=["id"],
                set_=mine,
                where=or_(lease.c.holder == holder, lease.c.until <= now),
            )
            .execution_options(preserve_rowcount=True)
        )
        with writing(self._engine) as connection:
            return connection.execute(take).rowcount == 1

    def held_by(self, holder: str) -> SqlStore:
        return SqlStore(held(self._engine, holder))

    def drop_lease(self, holder: str) -> None:
        with writing(self._engine) as connection:
            connection.execute(delete(lease).where(lease.c.holder == holder))

    def cluster(self) -> ClusterView:
        with asking(self._engine) as connection:
            view: ClusterView | None = connection.scalar(select(cluster_view.c.view))
        return view or ClusterView()

    def save_cluster(self, view: ClusterView) -> None:
        save = (
            self._upsert(cluster_view)
            .values(id=1, view=view)
            .on_conflict_do_update(index_elements=["id"], set_={"view": view})
        )
        with writing(self._engine) as connection:
            connection.execute(save)


def _run(values: tuple[Any, ...]) -> Run:
    return Run(**dict(zip(_BY_ID.selected_columns.keys(), values, strict=True)))


def _one(connection: Connection, run_id: int) -> Run:
    if not 0 < run_id <= ID_MAX:
        raise _not_there(run_id)
    row = connection.execute(_BY_ID, {"run": run_id}).mappings().one_or_none()
    if row is None:
        raise _not_there(run_id)
    return Run(**row)


def _write(connection: Connection, run: Run, changes: dict[str, Any]) -> Run:
    """Change the run if nobody has since it was read. Raises Stale."""
    written = connection.execute(
        update(runs)
        .where(runs.c.id == run.id, runs.c.version == run.version)
        .values(**changes, version=run.version + 1)
    )
    if written.rowcount != 1:
        raise Stale(f"Run {run.id} was changed meanwhile; read it again.")
    return _one(connection, run.id)


def _note_event(
    connection: Connection, run_id: int, state: JobState, at: datetime, note: str
) -> None:
    connection.execute(insert(events).values(run_id=run_id, at=at, state=state, note=note))


def _check(changes: dict[str, Any]) -> None:
    wrong = sorted(changes.keys() - CHANGEABLE)
    if wrong:
        raise ValueError(f"Not to be changed in a run: {', '.join(wrong)}.")


def _not_there(run_id: int) -> NotFound:
    return NotFound(f"There is no run {run_id}.")
