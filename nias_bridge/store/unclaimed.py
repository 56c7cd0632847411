"""Jobs by plain sbatch that are nobody's run yet, and since when they are looked for."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, Insert, delete, select, update

from nias_bridge.domain import Unclaimed
from nias_bridge.store.engine import reading, writing
from nias_bridge.store.tables import unclaimed, watch


class SqlUnclaimedJobs:
    """A ports.UnclaimedJobs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def since(self) -> datetime:
        return self._watched("since")

    def looked_at(self) -> datetime:
        return self._watched("looked_at")

    def look(self, at: datetime) -> None:
        with writing(self._engine) as connection:
            connection.execute(update(watch).values(looked_at=at))

    def all(self) -> list[Unclaimed]:
        with reading(self._engine) as connection:
            found: list[Unclaimed] = list(connection.scalars(select(unclaimed.c.job)))
        never = datetime.min.replace(tzinfo=UTC)
        return sorted(found, key=lambda job: (job.report.submitted_at or never, job.report.job_id))

    def keep(self, job: Unclaimed) -> None:
        with writing(self._engine) as connection:
            drop(connection, job.token)
            connection.execute(_row(job))

    def _watched(self, column: str) -> datetime:
        with reading(self._engine) as connection:
            moment: datetime = connection.execute(select(watch.c[column])).scalar_one()
        return moment


def drop(connection: Connection, token: str) -> None:
    """It is unclaimed no longer, where it was."""
    connection.execute(delete(unclaimed).where(unclaimed.c.token == token))


def _row(job: Unclaimed) -> Insert:
    return unclaimed.insert().values(token=job.token, user=job.native.user, job=job)
