"""The schema's revision, and that migrations make what the tables say."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from nias_bridge.errors import OldSchema, SettingsError, StoreError
from nias_bridge.store import open_store
from nias_bridge.store.engine import make_engine, reading, writing
from nias_bridge.store.schema import check, upgrade
from nias_bridge.store.tables import metadata


def test_the_migrated_schema_is_the_one_of_the_tables(url: str) -> None:
    engine = make_engine(url)
    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
        checks = {
            table: [c["name"] for c in inspect(connection).get_check_constraints(table)]
            for table in ("lease", "cluster_view")
        }
    engine.dispose()
    assert differences == []
    assert checks == {"lease": ["ck_lease_single"], "cluster_view": ["ck_cluster_view_single"]}


def test_an_empty_database_is_not_opened_and_the_command_is_named(empty_url: str) -> None:
    with pytest.raises(OldSchema, match=r"still empty.*run `nias-bridge db upgrade`"):
        open_store(empty_url)


def test_sqlites_files_are_nobody_elses_to_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nias.db"
    with pytest.raises(OldSchema):
        open_store(url)  # which begins the file already
    upgrade(url)
    store = open_store(url)
    store.cluster()
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    store.close()
    assert modes == dict.fromkeys(("nias.db", "nias.db-shm", "nias.db-wal"), 0o600)


def test_a_database_of_a_newer_version_is_left_alone(empty_url: str) -> None:
    upgrade(empty_url)
    engine = make_engine(empty_url)
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(OldSchema, match=r"9999.*newer"):
        check(engine)
    with pytest.raises(OldSchema, match=r"9999.*newer"):
        upgrade(empty_url)
    engine.dispose()


def test_an_upgrade_of_an_up_to_date_database_changes_nothing(url: str) -> None:
    upgrade(url)
    open_store(url).close()


def test_a_failed_upgrade_leaves_nothing_behind(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("half way")

    with monkeypatch.context() as broken, pytest.raises(RuntimeError, match="half way"):
        broken.setattr("alembic.op.create_index", fail)
        upgrade(empty_url)
    engine = make_engine(empty_url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    upgrade(empty_url)


@pytest.mark.parametrize("wrong", ["", "nonsense", "mysql://root@localhost/nias"])
def test_a_url_of_no_known_database_is_a_setting_to_mend(wrong: str) -> None:
    with pytest.raises(SettingsError, match="database_url must be sqlite"):
        open_store(wrong)


@pytest.mark.parametrize(
    "away", ["sqlite:////nowhere/at/all/nias.db", "postgresql://nias@/nias?host=/nowhere"]
)
def test_a_database_that_is_away_is_told_in_a_sentence(away: str) -> None:
    with pytest.raises(StoreError, match="The database did not do its part: "):
        open_store(away)


def test_a_path_with_a_percent_sign_is_understood(tmp_path: Path) -> None:
    folder = tmp_path / "100% lab"
    folder.mkdir()
    url = f"sqlite:///{folder / 'nias.db'}"
    upgrade(url)
    open_store(url).close()


def test_sqlite_is_durable_and_strict(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'nias.db'}")
    with reading(engine) as connection:
        told = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    engine.dispose()
    assert told == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
    }
