"""Points of the database, which is read and never written, and of the poller that it tells of."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nias_bridge.checks.clocks import graded_clock
from nias_bridge.checks.points import Finding, Point, fault, skipped, warning, well
from nias_bridge.checks.subject import Subject
from nias_bridge.errors import OldSchema, SettingsError, StoreError
from nias_bridge.node import mounts
from nias_bridge.store import open_store, outlook

SILENT = timedelta(minutes=2)
UPGRADE = "nias-bridge db upgrade"


def schema(subject: Subject) -> Finding:
    """It answers, and is of this version."""
    url = subject.settings.database_url
    try:
        outlook.must_be_there(url)
        open_store(url).close()
    except OldSchema as error:
        newer = "newer" in str(error)
        return fault(str(error), "install that release, or restore the dump" if newer else UPGRADE)
    except SettingsError as error:
        return fault(str(error), "see database_url")
    except StoreError as error:
        return fault(str(error), "see database_url, and whether its server runs")
    return well("the schema is this version's")


def kind(subject: Subject) -> Finding:
    """What it is; where SQLite's file lies, and who may read it."""
    file = outlook.file_of(subject.settings.database_url)
    if file is None:
        return well("it is PostgreSQL")
    mount = mounts.mount_of(file)
    if mount.network:
        return fault(
            f"SQLite's file {file} is on {mount.type}, where its locks don't hold",
            "move it to a disk of this machine, or take PostgreSQL (docs/production.md)",
        )
    if _is_open(file):
        return fault(f"everybody on this machine may read {file}", f"chmod o= {file}*")
    if subject.settings.workers > 1:
        return warning(
            f"it is SQLite, and {subject.settings.workers} workers wait for each other",
            "take PostgreSQL (docs/production.md)",
        )
    return well("it is SQLite: good for one machine; several, or 1,000 runs a day, want PostgreSQL")


def _is_open(file: Path) -> bool:
    """Whether other accounts may read it, and are let into all folders above it."""
    if not file.exists() or not file.stat().st_mode & 0o004:
        return False
    return all(folder.stat().st_mode & 0o001 for folder in file.resolve().parents)


def clock(subject: Subject) -> Finding:
    """The database server's against the gateway's."""
    before = time.time()
    told = outlook.clock(subject.settings.database_url)
    if told is None:
        return skipped("it has no clock of its own")
    return graded_clock("the database", told.timestamp(), before, time.time())


def poller(subject: Subject) -> Finding:
    """It takes runs to Slurm and back."""
    url = subject.settings.database_url
    outlook.must_be_there(url)
    store = open_store(url)
    try:
        view = store.cluster()
    finally:
        store.close()
    if view.at is None:
        return warning("no poller has run yet", "start nias-bridge poll")
    if datetime.now(UTC) - view.at > SILENT:
        return fault(
            f"the poller has been silent since {view.at:%Y-%m-%d %H:%M} UTC",
            "start nias-bridge poll, and look into its log",
        )
    if view.problem:
        return fault(f"the poller lacks Slurm: {view.problem}", "see the points of Slurm above")
    return well("the poller is at work")


POINTS = (
    Point("schema", schema),
    Point("kind", kind),
    Point("clock", clock),
    Point("poller", poller),
)
