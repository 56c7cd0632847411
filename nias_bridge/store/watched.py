"""Whether anybody looks at what may change: by keys that were used, and runs that are open."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Select, exists, func, or_, select

from nias_bridge.domain import OPEN_STATES
from nias_bridge.people import KeyKind, Role, Standing
from nias_bridge.store.tables import groups, keys, memberships, people, projects, runs


def watched(connection: Connection, since: datetime, to_come: bool) -> bool:
    """Whether who used a key since then may see an open run: her own, one of a group that shares,
    and in an administrator's browser anybody's. to_come: a Unix account of hers is enough."""
    looking = (
        select(people.c.id, people.c.handle, people.c.unix_account, people.c.role, keys.c.kind)
        .join_from(keys, people)
        .where(func.coalesce(keys.c.used_at, keys.c.created_at) >= since)
        .where(keys.c.kind.in_((KeyKind.SESSION, KeyKind.TOKEN)))
        .where(people.c.standing == Standing.ACTIVE)
    )
    lookers = connection.execute(looking).all()
    if not lookers:
        return False
    if to_come and any(person.unix_account for person in lookers):
        return True
    wanted = exists().where(runs.c.state.in_(OPEN_STATES))
    # Not a token of hers: a monitoring may read figures by one for ever.
    if not any((p.role, p.kind) == (Role.ADMINISTRATOR, KeyKind.SESSION) for p in lookers):
        own = projects.c.owner.in_({person.handle for person in lookers})
        shared = projects.c.owner.in_(_seen_by({person.id for person in lookers}))
        wanted = wanted.where(runs.c.project_id == projects.c.id, or_(own, shared))
    return bool(connection.scalar(select(wanted)))


def _seen_by(person_ids: set[int]) -> Select[tuple[str]]:
    """The handles of all who are in a sharing group with one of these."""
    hers, others = memberships.alias(), memberships.alias()
    return (
        select(people.c.handle)
        .join_from(people, others, others.c.person_id == people.c.id)
        .join(groups, (groups.c.id == others.c.group_id) & groups.c.shares)
        .join(hers, hers.c.group_id == groups.c.id)
        .where(hers.c.person_id.in_(person_ids))
    )
