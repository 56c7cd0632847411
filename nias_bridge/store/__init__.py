"""What is remembered, in SQLite or PostgreSQL."""

from __future__ import annotations

from nias_bridge.store.engine import make_engine
from nias_bridge.store.schema import check
from nias_bridge.store.sql import SqlStore

__all__ = ["SqlStore", "open_store"]


def open_store(url: str) -> SqlStore:
    """The store at this URL. Raises OldSchema, StoreError, and SettingsError for a wrong URL."""
    engine = make_engine(url)
    try:
        check(engine)
    except BaseException:
        engine.dispose()
        raise
    return SqlStore(engine)
