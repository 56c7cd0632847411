"""The schema's revision: bring a database up to it, or tell that it is not there."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event, text

from nias_bridge.assets import asset
from nias_bridge.errors import OldSchema
from nias_bridge.store.engine import make_engine, reading, writing

_UPGRADE_LOCK = 0x6E696173  # any number, the same in every version


def upgrade(url: str) -> None:
    """Bring the database to this version's schema; an up-to-date one is left as it is.

    All or nothing, and one at a time. Raises SettingsError for a wrong URL, StoreError when the
    database does not answer, OldSchema when it belongs to a newer version.
    """
    engine = make_engine(url)
    if engine.dialect.name == "sqlite":
        # SQLite alters a table by making a new one and dropping the old: with foreign keys on,
        # that would take the rows that refer to it along.
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = OFF"))
    config = _config()
    try:
        with writing(engine) as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})"))
            at = MigrationContext.configure(connection).get_current_revision()
            if not _known(config, at):
                raise OldSchema(_newer(at))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def check(engine: Engine) -> None:
    """Nothing, when the database is at this version's schema. Raises OldSchema, StoreError."""
    config = _config()
    needed = ScriptDirectory.from_config(config).get_current_head()
    with reading(engine) as connection:
        at = MigrationContext.configure(connection).get_current_revision()
    if at == needed:
        return
    if not _known(config, at):
        raise OldSchema(_newer(at))
    where = f"at revision {at}" if at else "still empty"
    raise OldSchema(
        f"The database is {where}, this version needs {needed}: run `nias-bridge db upgrade`."
    )


def _config() -> Config:
    config = Config()
    # ConfigParser reads a % as the start of a name.
    config.set_main_option("script_location", str(asset("migrations")).replace("%", "%%"))
    return config


def _known(config: Config, revision: str | None) -> bool:
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    return revision is None or revision in {script.revision for script in scripts}


def _newer(revision: str | None) -> str:
    return (
        f"The database is at revision {revision}, which this version does not know: "
        "it was upgraded by a newer one. Install that one."
    )
