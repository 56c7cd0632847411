"""Which runs a list has, as conditions on their rows."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, exists, or_, select

from nias_bridge.domain import Filter
from nias_bridge.naming import name_key
from nias_bridge.store.engine import ID_MAX
from nias_bridge.store.tables import projects, runs


def conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    """What holds of the runs that are asked for."""
    asked: list[ColumnElement[bool]] = []
    # Most runs fit the owner, few fit a text. In SQLite, which takes the query at its word, EXISTS
    # is looked at run by run, newest first, and IN begins with the projects.
    if wanted.owners is not None:
        owned = (projects.c.id == runs.c.project_id) & projects.c.owner.in_(wanted.owners)
        asked.append(exists().where(owned).correlate(runs))
    if wanted.project is not None:
        same = projects.c.name_key == name_key(wanted.project)
        asked.append(runs.c.project_id.in_(select(projects.c.id).where(same)))
    if wanted.text:
        named = projects.c.name_key.contains(name_key(wanted.text), autoescape=True)
        asked.append(runs.c.project_id.in_(select(projects.c.id).where(named)))
    if wanted.states:
        asked.append(runs.c.state.in_(wanted.states))
    if wanted.pinned:
        asked.append(runs.c.pinned)
    if wanted.since:
        asked.append(runs.c.created_at >= wanted.since)
    if wanted.until:
        asked.append(runs.c.created_at < wanted.until)
    return asked


def older_than(at: datetime, run_id: int) -> ColumnElement[bool]:
    """What comes after a run in the order of a list."""
    same_moment = (runs.c.created_at == at) & (runs.c.id < min(run_id, ID_MAX))
    return (runs.c.created_at <= at) & or_(runs.c.created_at < at, same_moment)
