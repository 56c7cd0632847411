"""The audit log in the database, whose triggers keep it as it is."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Engine, func, insert, select

from nias_bridge.people import Deed
from nias_bridge.store.engine import ID_MAX, reading, writing
from nias_bridge.store.tables import deeds


class SqlDeeds:
    """The audit log of one engine's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, deed: Deed) -> None:
        with writing(self._engine) as connection:
            connection.execute(insert(deeds).values(**asdict(deed)))

    def actions(self) -> list[str]:
        with reading(self._engine) as connection:
            return list(connection.scalars(select(deeds.c.action).distinct().order_by("action")))

    def count(self, action: str, *, since: datetime, address: str = "", detail: str = "") -> int:
        wanted = select(func.count()).where(deeds.c.action == action, deeds.c.at > since)
        if address:
            wanted = wanted.where(deeds.c.address == address)
        if detail:
            wanted = wanted.where(deeds.c.detail == detail)
        with reading(self._engine) as connection:
            return connection.scalar(wanted) or 0

    def newest(
        self,
        *,
        handle: str = "",
        run_id: int | None = None,
        action: str = "",
        before: int | None = None,
        most: int = 100,
    ) -> list[tuple[int, Deed]]:
        wanted = select(deeds).order_by(deeds.c.id.desc()).limit(most)
        if handle:
            wanted = wanted.where(deeds.c.handle == handle)
        if run_id is not None:
            wanted = wanted.where(deeds.c.run_id == min(run_id, ID_MAX))
        if action:
            wanted = wanted.where(deeds.c.action == action)
        if before is not None:
            wanted = wanted.where(deeds.c.id < min(before, ID_MAX))
        with reading(self._engine) as connection:
            rows = [dict(row) for row in connection.execute(wanted).mappings()]
        return [(row.pop("id"), Deed(**row)) for row in rows]
