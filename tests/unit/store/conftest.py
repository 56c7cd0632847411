"""A real SQLite and a real PostgreSQL; each test gets a database of its own in each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import create_database, sqlite_database
from sqlalchemy import create_engine, text

from nias_bridge.store import SqlStore, open_store
from nias_bridge.store.schema import upgrade
from nias_bridge.store.tables import metadata


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql: str) -> str:
    url = create_database(postgresql)
    upgrade(url)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def empty_url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with nothing in it, not even a schema."""
    if database == "sqlite":
        return f"sqlite:///{tmp_path / 'nias.db'}"
    return create_database(request.getfixturevalue("postgresql"))


@pytest.fixture
def url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database at this version's schema, without a row."""
    if database == "sqlite":
        return sqlite_database(tmp_path / "nias.db")
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture
def postgresql_url(migrated_postgresql: str) -> str:
    """As `url`, in PostgreSQL."""
    engine = create_engine(migrated_postgresql)
    with engine.begin() as connection:
        tables = ", ".join(metadata.tables)
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
    engine.dispose()
    return migrated_postgresql


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    opened = open_store(url)
    yield opened
    opened.close()
