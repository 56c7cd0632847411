"""What every use case is handed: the settings, the places on shared storage, the store."""

from __future__ import annotations

from dataclasses import dataclass

from nias_bridge.paths import SharedPaths
from nias_bridge.ports import Store
from nias_bridge.settings import Settings


@dataclass(frozen=True)
class Bridge:
    """One site's bridge. Slurm is not among these: the poller alone speaks with it."""

    settings: Settings
    paths: SharedPaths
    store: Store
