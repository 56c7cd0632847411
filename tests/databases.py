"""Databases of their own for tests: of a real PostgreSQL of this session, and of SQLite."""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from promised import missing
from sqlalchemy import create_engine, text

from nias_bridge.store.schema import upgrade

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
        missing("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="nias-pg-", dir="/tmp"))
    # It refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder.chmod(0o755)  # gateways as another account come to its socket
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


def create_database(server: str) -> str:
    """The URL of a new database of the server, with nothing in it."""
    name = f"t{uuid.uuid4().hex}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.replace("/postgres?", f"/{name}?")


def sqlite_database(file: Path) -> str:
    """The URL of a new SQLite database in this file, at this version's schema, without a row."""
    file.write_bytes(_migrated())
    return f"sqlite:///{file}"


@cache
def _migrated() -> bytes:
    """Such a database, made once: hundreds of tests begin with one."""
    with tempfile.TemporaryDirectory(prefix="nias-db-") as folder:
        upgrade(f"sqlite:///{folder}/nias.db")
        made = sqlite3.connect(f"{folder}/nias.db")
        whole = made.serialize()
        made.close()
    return whole
