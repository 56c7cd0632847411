"""How each database is opened, and what its transactions promise."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError

from nias_bridge.errors import LeaseLost, SettingsError, StoreError
from nias_bridge.store.tables import lease

BUSY_SECONDS = 30
ID_MAX = 2**31 - 1  # a larger number is no row's, and neither database can be asked for it
_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}
_HOLDER = "nias_holder"  # the execution option: whose the lease must be for anything to be written
# What a poller that stands still in mid-transaction has locked, the lease too, is let go then.
STOPPED_SECONDS = 5
_IDLE = "idle_in_transaction_session_timeout"


def make_engine(url: str) -> Engine:
    """An engine for sqlite:////path or postgresql+psycopg://…; raises SettingsError.

    Nothing is connected yet.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
        file = Path(parsed.database or "")
        event.listen(engine, "do_connect", lambda *_: _begin_closed(file))
        event.listen(engine, "connect", _prepare_sqlite)
        return engine
    return create_engine(parsed, pool_pre_ping=True)


@contextmanager
def asking(engine: Engine) -> Iterator[Connection]:
    """For one question, which sees one state of the database without a transaction around it.

    Raises StoreError like `reading`.
    """
    with _told(), engine.connect() as connection:
        if engine.dialect.name != "sqlite":  # which begins none by itself
            connection.execution_options(isolation_level="AUTOCOMMIT")
        yield connection


def first_row(engine: Engine, text: str, parameters: Any) -> Any:
    """The first row of one question's answer, as the driver gives it, or None; `asking` in short.

    SQLAlchemy takes several times as long to ask as SQLite to answer. Raises StoreError like
    `reading`.
    """
    driver = engine.dialect.loaded_dbapi
    with asking(engine) as connection:
        try:
            with closing(connection.connection.cursor()) as cursor:
                cursor.execute(text, parameters)
                return cursor.fetchone()
        except (driver.OperationalError, driver.InterfaceError) as error:
            connection.invalidate(error)  # it may be the connection that is gone
            raise _undone(error) from error


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that only reads, and sees one state of the database however much it asks.

    Raises StoreError when the database does not answer.
    """
    with _told(), engine.connect() as connection:
        if engine.dialect.name != "sqlite":  # whose transactions are so by themselves
            connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            _begin(connection, "BEGIN")
            yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes, undone by any error. Raises StoreError like `reading`.

    SQLite's takes the write lock at once: two that had begun by reading could both wait for it
    for ever. Of a `held` engine: raises LeaseLost where the lease is another's.
    """
    with _told(), engine.begin() as connection:
        _begin(connection, "BEGIN IMMEDIATE")
        holder = connection.get_execution_options().get(_HOLDER)
        if holder is not None:
            _hold(connection, holder)
        yield connection


def held(engine: Engine, holder: str) -> Engine:
    """The same engine, but what it writes is written only while nobody else holds the lease."""
    return engine.execution_options(**{_HOLDER: holder})


def _hold(connection: Connection, holder: str) -> None:
    """Keep the lease from being taken until the transaction ends."""
    mine = select(lease.c.holder).where(lease.c.holder == holder).with_for_update(read=True)
    if connection.dialect.name == "postgresql":
        of_this_transaction = func.set_config(_IDLE, f"{STOPPED_SECONDS}s", True)
        mine = mine.add_columns(of_this_transaction)
    if connection.execute(mine).first() is None:
        raise LeaseLost("Another poller has taken over from this one, which writes no more.")


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise _undone(error.orig) from error


def _undone(error: BaseException | None) -> StoreError:
    return StoreError(f"The database did not do its part: {error}")


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in _DRIVERS:
        raise SettingsError(
            "database_url must be sqlite:////path/nias.db "
            "or postgresql+psycopg://user:password@host/name."
        )
    return parsed.set(drivername=_DRIVERS[parsed.get_backend_name()])


def _begin_closed(file: Path) -> None:
    """SQLite would make the file, and what it puts beside it, for everybody to read."""
    with suppress(OSError):  # it is there; or it can't be, of which SQLite itself tells
        file.touch(0o600, exist_ok=False)


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where _begin says
    # The mode belongs to the file. Locked here means that another is just switching it.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL")
    # Each commit reaches the disk: an upload that was accepted survives a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection, word: str) -> None:
    # Told here, not by an event of the engine: each statement would be looked at for events.
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(word)
