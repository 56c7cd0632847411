"""A real SQLite and a real PostgreSQL; each test gets a database of its own in each."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from nias_bridge.store import SqlStore, open_store
from nias_bridge.store.schema import upgrade
from nias_bridge.store.tables import metadata

SERVER_OPTIONS = "-c listen_addresses='' -c fsync=off -c timezone=Asia/Kolkata"


def _programs() -> Path | None:
    """Debian's folder of the newest PostgreSQL's server programs; it is not on PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server's database `postgres`, up for this session, on a socket."""
    programs = _programs()
    if programs is None:
        message = "PostgreSQL is not installed (Debian's package: postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    folder = Path(tempfile.mkdtemp(prefix="nias-pg-", dir="/tmp"))
    # It refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    shutil.chown(folder, user)
    data = str(folder / "data")

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, *arguments],
            user=user if os.geteuid() == 0 else None,
            cwd=folder,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    try:
        run("initdb", "-D", data, "-U", "nias", "-A", "trust", "-E", "UTF8", "--no-sync")
        log = str(folder / "log")
        run("pg_ctl", "start", "-w", "-D", data, "-l", log, "-o", f"-k {folder} {SERVER_OPTIONS}")
        try:
            yield f"postgresql+psycopg://nias@/postgres?host={folder}"
        finally:
            run("pg_ctl", "stop", "-m", "immediate", "-D", data)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _create_database(server: str) -> str:
    name = f"t{uuid.uuid4().hex}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql: str) -> str:
    url = _create_database(postgresql)
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
    return _create_database(request.getfixturevalue("postgresql"))


@pytest.fixture
def url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database at this version's schema, without a row."""
    if database == "sqlite":
        fresh = f"sqlite:///{tmp_path / 'nias.db'}"
        upgrade(fresh)
        return fresh
    url: str = request.getfixturevalue("migrated_postgresql")
    engine = create_engine(url)
    with engine.begin() as connection:
        tables = ", ".join(metadata.tables)
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
    engine.dispose()
    return url


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    opened = open_store(url)
    yield opened
    opened.close()
