"""What is to be told, in the database: put there by the transaction that it tells of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Integer,
    Select,
    String,
    Table,
    delete,
    exists,
    insert,
    literal,
    select,
    update,
)

from nias_bridge.domain import FAILED_STATES, JobState
from nias_bridge.errands import Errand, ErrandKind, Hook
from nias_bridge.people import MailWish
from nias_bridge.store.engine import reading, writing
from nias_bridge.store.tables import Instant, Words, hooks, outbox, people

_COLUMNS = ("kind", "at", "person_id", "run_id", "detail", "tries", "due_at")


def put(
    connection: Connection,
    kind: ErrandKind,
    at: datetime,
    *,
    person_id: int | None = None,
    detail: str = "",
) -> None:
    """Let it be told, once this transaction is committed."""
    connection.execute(
        insert(outbox).values(
            kind=kind, at=at, person_id=person_id, detail=detail, tries=0, due_at=at
        )
    )


def put_move(
    connection: Connection, owner: str, run_id: int, state: JobState, at: datetime
) -> None:
    """Let a run's new state be told to whoever wants to be told, as she wants it now."""
    hooked = _told(ErrandKind.RUN_MOVED, run_id, state, at).join_from(people, hooks)
    connection.execute(insert(outbox).from_select(_COLUMNS, hooked.where(people.c.handle == owner)))
    if state.ended:
        wishes = [MailWish.ALL, MailWish.FAILED] if state in FAILED_STATES else [MailWish.ALL]
        mailed = _told(ErrandKind.RUN_ENDED, run_id, state, at)
        wanted = (people.c.handle == owner) & people.c.mail.in_(wishes)
        connection.execute(insert(outbox).from_select(_COLUMNS, mailed.where(wanted)))


def _told(kind: ErrandKind, run_id: int, state: JobState, at: datetime) -> Select[Any]:
    return select(
        literal(kind.value, String),
        literal(at, Instant),
        people.c.id,
        literal(run_id, Integer),
        literal(state.value, Words),
        literal(0, Integer),
        literal(at, Instant),
    )


def _behind_another(now: datetime) -> ColumnElement[bool]:
    """Whether this is for a person's program that has not even taken an earlier one yet."""
    earlier = outbox.alias()
    hooked = ErrandKind.RUN_MOVED
    return exists().where(
        outbox.c.kind == hooked,
        earlier.c.kind == hooked,
        earlier.c.person_id == outbox.c.person_id,
        earlier.c.id < outbox.c.id,
        earlier.c.due_at > now,
    )


class SqlOutbox:
    """The outbox of one engine's database."""

    def __init__(self, engine: Engine, upsert: Callable[[Table], Any]) -> None:
        self._engine = engine
        self._upsert = upsert

    def put(self, kind: ErrandKind, *, at: datetime, detail: str = "") -> None:
        with writing(self._engine) as connection:
            put(connection, kind, at, detail=detail)

    def due(self, *, now: datetime, most: int) -> list[Errand]:
        shown = select(*(c for c in outbox.c if c.name != "due_at"))
        wanted = shown.where(outbox.c.due_at <= now, ~_behind_another(now)).order_by(outbox.c.id)
        with reading(self._engine) as connection:
            rows = [dict(row) for row in connection.execute(wanted.limit(most)).mappings()]
        return [Errand(**{**row, "kind": ErrandKind(row["kind"])}) for row in rows]

    def begin(self, errand: Errand, *, again_at: datetime) -> bool:
        mine = update(outbox).where(outbox.c.id == errand.id, outbox.c.tries == errand.tries)
        with writing(self._engine) as connection:
            begun = connection.execute(mine.values(tries=errand.tries + 1, due_at=again_at))
            return begun.rowcount == 1

    def done(self, errand_id: int) -> None:
        with writing(self._engine) as connection:
            connection.execute(delete(outbox).where(outbox.c.id == errand_id))

    def hook(self, person_id: int) -> Hook | None:
        wanted = select(hooks).where(hooks.c.person_id == person_id)
        with reading(self._engine) as connection:
            row = connection.execute(wanted).mappings().one_or_none()
        return None if row is None else Hook(**row)

    def save_hook(self, hook: Hook) -> None:
        told = asdict(hook)
        save = (
            self._upsert(hooks)
            .values(**told)
            .on_conflict_do_update(index_elements=["person_id"], set_=told)
        )
        with writing(self._engine) as connection:
            connection.execute(save)

    def note_trouble(self, person_id: int, trouble: str) -> None:
        changed = (hooks.c.person_id == person_id) & (hooks.c.trouble != trouble)
        with writing(self._engine) as connection:
            connection.execute(update(hooks).where(changed).values(trouble=trouble))

    def drop_hook(self, person_id: int) -> None:
        told = (outbox.c.person_id == person_id) & (outbox.c.kind == ErrandKind.RUN_MOVED)
        with writing(self._engine) as connection:
            connection.execute(delete(hooks).where(hooks.c.person_id == person_id))
            connection.execute(delete(outbox).where(told))
