"""What is told of a database is told without a write, and SQLite's file is never begun."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nias_bridge.errors import OldSchema
from nias_bridge.store import outlook


def test_the_clock_of_postgresql_is_its_own(postgresql_url: str) -> None:
    told = outlook.clock(postgresql_url)
    assert told is not None
    assert abs(told - datetime.now(UTC)) < timedelta(seconds=10)
    assert outlook.file_of(postgresql_url) is None
    outlook.must_be_there(postgresql_url)


def test_sqlite_has_no_clock_and_its_file_must_have_something_in_it(tmp_path: Path) -> None:
    file = tmp_path / "nias.db"
    url = f"sqlite:///{file}"
    assert outlook.clock(url) is None and outlook.file_of(url) == file
    with pytest.raises(OldSchema, match=r"There is no .*nias\.db yet"):
        outlook.must_be_there(url)
    file.touch()
    with pytest.raises(OldSchema, match="still empty"):
        outlook.must_be_there(url)
    assert file.read_bytes() == b""
