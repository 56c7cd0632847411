"""Settings become a bridge: the one place that names concrete classes."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

from nias_bridge.node import layout
from nias_bridge.paths import SharedPaths
from nias_bridge.ports import Scheduler
from nias_bridge.services import shared
from nias_bridge.services.bridge import Bridge
from nias_bridge.settings import Settings
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.slurm.local import LocalRunner
from nias_bridge.slurm.sudo import SudoAs
from nias_bridge.store import open_store


def open_bridge(settings: Settings) -> Bridge:
    """A bridge whose database is at this version's schema. Raises OldSchema, SettingsError."""
    if settings.identity == "unix":
        os.umask(0o077)  # what is written for a run is nobody else's, until it is handed over
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
    local = LocalRunner(settings.slurm_bin, settings.slurm_conf, settings.slurm_timeout)
    if settings.identity == "service":
        return CliScheduler(local)
    runs = PurePosixPath(settings.shared_root, layout.RUNS)
    sudo = LocalRunner(timeout=settings.slurm_timeout)
    return CliScheduler(local, SudoAs(sudo, settings.run_as, runs))
