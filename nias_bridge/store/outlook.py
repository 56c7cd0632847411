"""What can be told of a database without writing to it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from sqlalchemy import text

from nias_bridge.errors import OldSchema
from nias_bridge.store.engine import make_engine, reading


def file_of(url: str) -> Path | None:
    """SQLite's file; None for PostgreSQL. Raises SettingsError."""
    engine = make_engine(url)
    name = engine.url.database or ""
    return Path(name) if engine.dialect.name == "sqlite" else None


def must_be_there(url: str) -> None:
    """Nothing, where something is in the file: SQLite would begin one. Raises OldSchema."""
    file = file_of(url)
    if file is not None and not file.is_file():
        raise OldSchema(f"There is no {file} yet: run `nias-bridge db upgrade`.")
    if file is not None and not file.stat().st_size:
        raise OldSchema(f"The database {file} is still empty: run `nias-bridge db upgrade`.")


def clock(url: str) -> datetime | None:
    """The time of the database server; None where it is this machine's. Raises StoreError."""
    engine = make_engine(url)
    if engine.dialect.name == "sqlite":
        return None
    try:
        with reading(engine) as connection:
            told: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
            return told
    finally:
        engine.dispose()
