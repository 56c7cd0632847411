"""Settings become a bridge: the one place that names concrete classes."""

from __future__ import annotations

from pathlib import PurePosixPath

from nias_bridge.paths import SharedPaths
from nias_bridge.ports import Scheduler
from nias_bridge.services import shared
from nias_bridge.services.bridge import Bridge
from nias_bridge.settings import Settings
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.slurm.local import LocalRunner
from nias_bridge.store import open_store


def open_bridge(settings: Settings) -> Bridge:
    """A bridge whose database is at this version's schema. Raises OldSchema, SettingsError."""
    on_cluster = settings.shared_root_on_cluster or PurePosixPath(settings.shared_root)
    bridge = Bridge(
        settings=settings,
        paths=SharedPaths(settings.shared_root.resolve(), on_cluster),
        store=open_store(settings.database_url),
    )
    shared.install(bridge)
    return bridge


def open_scheduler(settings: Settings) -> Scheduler:
    """The way to Slurm that the settings name."""
    return CliScheduler(
        LocalRunner(settings.slurm_bin, settings.slurm_conf, settings.slurm_timeout)
    )
