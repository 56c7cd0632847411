"""People and their groups in the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from nias_bridge.errands import ErrandKind
from nias_bridge.errors import BadRequest, NotFound, NotPossible
from nias_bridge.naming import name_key
from nias_bridge.people import (
    Group,
    MailWish,
    NewPerson,
    Person,
    Quotas,
    Role,
    Standing,
    email_key,
)
from nias_bridge.store.datasets import forget_group
from nias_bridge.store.engine import ID_MAX, reading, writing
from nias_bridge.store.outbox import put
from nias_bridge.store.tables import groups, memberships, people, projects

_NO_GROUP = "There is no such group."
CHANGEABLE = frozenset(
    {"email", "name", "role", "standing", "unix_account", "subject", "quotas", "mail"}
)
SHOWN = [column for column in people.c if column.name not in ("email_key", "password")]
_SHOWN = select(*SHOWN)
_BY_ID = _SHOWN.where(people.c.id == bindparam("person"))  # made once

_others, _mine = people.alias(), memberships.alias()


def _seen_by(person: ColumnElement[Any], shown: ColumnElement[str]) -> Select[str]:
    """What is to be shown of those who share a sharing group with a person."""
    ours = (
        select(_mine.c.group_id)
        .join_from(_mine, groups)
        .where(_mine.c.person_id == person, groups.c.shares)
        .correlate(people)
    )
    joined = select(shown).join_from(memberships, _others)
    return joined.where(memberships.c.group_id.in_(ours), _others.c.id != person)


_SEEN_BY = _seen_by(bindparam("person"), _others.c.handle)
# As a column beside a person's own: their handles, separated by spaces, which none has in it.
_SPACE: Any = literal_column("' '")  # as a parameter it would be rendered with each question
SEES = (
    _seen_by(people.c.id, func.aggregate_strings(_others.c.handle, _SPACE))
    .correlate(people)
    .scalar_subquery()
)


class SqlPeople:
    """The people of one engine's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, new: NewPerson, *, at: datetime) -> Person:
        while True:
            try:
                with _unique():
                    return self._add(new, at)
            except IntegrityError as error:
                if "handle" not in _broken(error):
                    raise
                # Somebody else took the handle meanwhile: the next free one, then.

    def _add(self, new: NewPerson, at: datetime) -> Person:
        with writing(self._engine) as connection:
            values = {**asdict(new), "handle": _free_handle(connection, new.handle)}
            added = connection.execute(
                insert(people).values(
                    **values, email_key=email_key(new.email), quotas=Quotas(), created_at=at
                )
            )
            person = _one(connection, added.inserted_primary_key[0])  # type: ignore[index]
            if person.standing is Standing.WAITING:
                put(connection, ErrandKind.REGISTERED, at, person_id=person.id)
            return person

    def change(self, person_id: int, **changes: Any) -> Person:
        if wrong := sorted(changes.keys() - CHANGEABLE):
            raise ValueError(f"Not to be changed in a person: {', '.join(wrong)}.")
        if "email" in changes:
            changes["email_key"] = email_key(changes["email"])
        with _unique(), writing(self._engine) as connection:
            if "role" in changes or "standing" in changes:
                _keep_an_administrator(connection, person_id, changes)
            before = _one(connection, person_id, _BY_ID.with_for_update(key_share=True))
            if changes:
                connection.execute(update(people).where(people.c.id == person_id).values(**changes))
            person = _one(connection, person_id)
            if (before.standing, person.standing) == (Standing.WAITING, Standing.ACTIVE):
                put(connection, ErrandKind.CONFIRMED, datetime.now(UTC), person_id=person.id)
            return person

    def person(self, person_id: int) -> Person:
        with reading(self._engine) as connection:
            return _one(connection, person_id)

    def find(
        self, *, email: str = "", handle: str = "", subject: str = "", unix_account: str = ""
    ) -> Person | None:
        asked = {
            people.c.email_key: email_key(email),
            people.c.handle: handle,
            people.c.subject: subject,
            people.c.unix_account: unix_account,
        }
        wanted = _SHOWN.where(*(column == value for column, value in asked.items() if value))
        if not any(asked.values()):
            return None
        with reading(self._engine) as connection:
            row = connection.execute(wanted).mappings().one_or_none()
        return None if row is None else person_of(row)

    def all(self) -> list[Person]:
        with reading(self._engine) as connection:
            rows = connection.execute(_SHOWN.order_by(func.lower(people.c.name), people.c.id))
            return [person_of(row) for row in rows.mappings()]

    def password(self, person_id: int) -> str | None:
        wanted = select(people.c.password).where(people.c.id == person_id)
        with reading(self._engine) as connection:
            hashed: str | None = connection.scalar(wanted)
        return hashed

    def set_password(self, person_id: int, hashed: str | None) -> None:
        with writing(self._engine) as connection:
            connection.execute(
                update(people).where(people.c.id == person_id).values(password=hashed)
            )

    def groups(self) -> list[Group]:
        with reading(self._engine) as connection:
            return _groups(connection)

    def save_group(self, name: str, *, shares: bool, group_id: int | None = None) -> Group:
        values = {"name": name, "name_key": name_key(name), "shares": shares}
        with _unique(), writing(self._engine) as connection:
            if group_id is None:
                added = connection.execute(insert(groups).values(**values))
                group_id = added.inserted_primary_key[0]  # type: ignore[index]
            else:
                _group(connection, group_id)
                connection.execute(update(groups).where(groups.c.id == group_id).values(**values))
            return _group(connection, group_id)

    def set_members(self, group_id: int, handles: Sequence[str]) -> Group:
        wanted = select(people.c.id).where(people.c.handle.in_(handles))
        with writing(self._engine) as connection:
            _lock_group(connection, group_id)
            connection.execute(delete(memberships).where(memberships.c.group_id == group_id))
            rows = [
                {"group_id": group_id, "person_id": person_id}
                for person_id in connection.scalars(wanted)
            ]
            if rows:
                connection.execute(insert(memberships), rows)
            return _group(connection, group_id)

    def drop_group(self, group_id: int) -> None:
        with writing(self._engine) as connection:
            _lock_group(connection, group_id)
            connection.execute(delete(memberships).where(memberships.c.group_id == group_id))
            forget_group(connection, group_id)
            connection.execute(delete(groups).where(groups.c.id == group_id))

    def sees(self, person_id: int) -> frozenset[str]:
        with reading(self._engine) as connection:
            return frozenset(connection.scalars(_SEEN_BY, {"person": person_id}))

    def orphans(self) -> list[str]:
        known = select(people.c.handle)
        counted = (
            select(projects.c.owner)
            .where(projects.c.owner.not_in(known))
            .group_by(projects.c.owner)
            .order_by(func.count().desc(), projects.c.owner)
        )
        with reading(self._engine) as connection:
            return list(connection.scalars(counted))


@contextmanager
def _unique() -> Iterator[None]:
    """What may be one person's (or group's) alone is told as such."""
    try:
        yield
    except IntegrityError as error:
        told = _broken(error)
        for column, field, sentence in _TAKEN:
            if column in told:
                raise BadRequest(sentence, field) from None
        raise


def _broken(error: IntegrityError) -> str:
    """Which constraint it is. PostgreSQL's second line has the values, which are anybody's."""
    return str(error.orig).partition("\n")[0]


_TAKEN = (
    ("email_key", "email", "Somebody with this e-mail address has an account already."),
    ("unix_account", "unix_account", "This Unix account is linked to somebody else."),
    ("subject", "subject", "This sign-in belongs to somebody else's account."),
    ("name_key", "name", "There is a group of this name already."),
)


def _free_handle(connection: Connection, wanted: str) -> str:
    """The handle, or with a number behind it: neither a person's nor a stranger's projects'."""
    like = f"{wanted}%"
    taken = set(connection.scalars(select(people.c.handle).where(people.c.handle.like(like))))
    handle, number = wanted, 1
    while handle in taken:
        number += 1
        handle = f"{wanted}-{number}"
    return handle


def _keep_an_administrator(
    connection: Connection, person_id: int, changes: Mapping[str, Any]
) -> None:
    """Raises NotPossible where this change would leave nobody to administer the site."""
    # Locked, so that two who go at the same time can't both be told that the other stays.
    there = set(
        connection.scalars(
            select(people.c.id)
            .where(people.c.role == Role.ADMINISTRATOR, people.c.standing == Standing.ACTIVE)
            .order_by(people.c.id)
            .with_for_update(key_share=True)
        )
    )
    stays = (
        changes.get("role", Role.ADMINISTRATOR) is Role.ADMINISTRATOR
        and changes.get("standing", Standing.ACTIVE) is Standing.ACTIVE
    )
    if there == {person_id} and not stays:
        raise NotPossible("This is the only administrator who can sign in: make another one first.")


def _one(connection: Connection, person_id: int, by_id: Select[Any] = _BY_ID) -> Person:
    asked = {"person": min(person_id, ID_MAX)}
    row = connection.execute(by_id, asked).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such person.")
    return person_of(row)


def person_of(row: Any) -> Person:
    """A person, of a row of SHOWN."""
    told = dict(row)
    words = {
        "role": Role(told["role"]),
        "standing": Standing(told["standing"]),
        "mail": MailWish(told["mail"]),
    }
    return Person(**{**told, **words})


def _groups(connection: Connection) -> list[Group]:
    members: dict[int, list[str]] = {}
    joined = select(memberships.c.group_id, people.c.handle).join_from(memberships, people)
    for group_id, handle in connection.execute(joined.order_by(people.c.handle)):
        members.setdefault(group_id, []).append(handle)
    rows = connection.execute(select(groups).order_by(groups.c.name_key))
    return [
        Group(id=row.id, name=row.name, shares=row.shares, members=tuple(members.get(row.id, ())))
        for row in rows
    ]


def _group(connection: Connection, group_id: int) -> Group:
    found = next((group for group in _groups(connection) if group.id == group_id), None)
    if found is None:
        raise NotFound(_NO_GROUP)
    return found


def _lock_group(connection: Connection, group_id: int) -> None:
    """Nobody else changes who is in it, or drops it, until this transaction has ended."""
    wanted = select(groups.c.id).where(groups.c.id == min(group_id, ID_MAX))
    if connection.scalar(wanted.with_for_update()) is None:
        raise NotFound(_NO_GROUP)
