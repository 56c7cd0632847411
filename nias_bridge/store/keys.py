"""The keys by which callers are known, in the database: their hashes alone."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, bindparam, delete, insert, select, update

from nias_bridge.errors import NotFound
from nias_bridge.people import Key, KeyKind, NewKey, Person, Scope
from nias_bridge.store.engine import ID_MAX, reading, writing
from nias_bridge.store.people import SEES, person_of
from nias_bridge.store.people import SHOWN as OF_PERSON
from nias_bridge.store.recurring import Recurring
from nias_bridge.store.tables import keys, people
from nias_bridge.store.watched import watched

_OF_KEY = [column for column in keys.c if column.name != "hash"]
_SHOWN = select(*_OF_KEY)
_IS_IT = (keys.c.hash == bindparam("hashed"), keys.c.kind == bindparam("kind"))
_GOOD = _SHOWN.where(*_IS_IT, keys.c.expires_at > bindparam("now"))
_HELD = select(*_OF_KEY, *OF_PERSON, SEES).join_from(keys, people).where(*_IS_IT)


class SqlKeys:
    """The keys of one engine's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held = Recurring(engine, _HELD, _holder)

    def add(self, new: NewKey) -> Key:
        with writing(self._engine) as connection:
            added = connection.execute(insert(keys).values(**asdict(new)))
            wanted = _SHOWN.where(keys.c.id == added.inserted_primary_key[0])  # type: ignore[index]
            return _key(connection.execute(wanted).mappings().one())

    def find(self, hashed: str, kind: KeyKind, *, now: datetime) -> Key | None:
        with reading(self._engine) as connection:
            asked = {"hashed": hashed, "kind": kind.value, "now": now}
            row = connection.execute(_GOOD, asked).mappings().one_or_none()
        return None if row is None else _key(row)

    def holder(
        self, hashed: str, kind: KeyKind, *, now: datetime
    ) -> tuple[Key, Person, frozenset[str]] | None:
        held = self._held.ask(hashed=hashed, kind=kind.value)
        return held if held and held[0].expires_at > now else None

    def take(self, hashed: str, kind: KeyKind, *, now: datetime) -> Key | None:
        with writing(self._engine) as connection:
            asked = {"hashed": hashed, "kind": kind.value, "now": now}
            row = connection.execute(_GOOD, asked).mappings().one_or_none()
            if row is None:
                return None
            gone = connection.execute(delete(keys).where(keys.c.id == row["id"]))
            return _key(row) if gone.rowcount == 1 else None

    def touch(self, key_id: int, *, at: datetime, expires_at: datetime | None = None) -> None:
        changes: dict[str, Any] = {"used_at": at}
        if expires_at is not None:
            changes["expires_at"] = expires_at
        with writing(self._engine) as connection:
            connection.execute(update(keys).where(keys.c.id == key_id).values(**changes))

    def watched(self, *, since: datetime, to_come: bool) -> bool:
        with reading(self._engine) as connection:
            return watched(connection, since, to_come)

    def of(
        self, *kinds: KeyKind, person_id: int | None = None, run_id: int | None = None
    ) -> list[Key]:
        wanted = _SHOWN.where(keys.c.kind.in_(kinds)).order_by(keys.c.id.desc())
        if person_id is not None:
            wanted = wanted.where(keys.c.person_id == person_id)
        if run_id is not None:
            wanted = wanted.where(keys.c.run_id == run_id)
        with reading(self._engine) as connection:
            return [_key(row) for row in connection.execute(wanted).mappings()]

    def drop(self, *, person_id: int, key_id: int) -> Key:
        own = (keys.c.person_id == person_id) & (keys.c.id == min(key_id, ID_MAX))
        with writing(self._engine) as connection:
            row = connection.execute(_SHOWN.where(own)).mappings().one_or_none()
            if row is None:
                raise NotFound("There is no such key of yours.")
            connection.execute(delete(keys).where(own))
            return _key(row)

    def drop_all(self, person_id: int, *kinds: KeyKind, but: int | None = None) -> int:
        gone = delete(keys).where(keys.c.person_id == person_id, keys.c.kind.in_(kinds))
        if but is not None:
            gone = gone.where(keys.c.id != but)
        with writing(self._engine) as connection:
            return connection.execute(gone).rowcount

    def drop_expired(self, *, before: datetime) -> None:
        with writing(self._engine) as connection:
            connection.execute(delete(keys).where(keys.c.expires_at < before))


def _holder(values: tuple[Any, ...]) -> tuple[Key, Person, frozenset[str]]:
    # By place: a key and a person have fields of the same names.
    *told, sees = values
    of_key, of_person = told[: len(_OF_KEY)], told[len(_OF_KEY) :]
    return (
        _key(dict(zip((c.name for c in _OF_KEY), of_key, strict=True))),
        person_of(dict(zip((c.name for c in OF_PERSON), of_person, strict=True))),
        frozenset((sees or "").split()),
    )


def _key(row: Any) -> Key:
    told = dict(row)
    return Key(**{**told, "kind": KeyKind(told["kind"]), "scope": Scope(told["scope"])})
