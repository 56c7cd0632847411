"""What is examined: a site's settings, and what its Slurm was asked once for all points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nias_bridge.errors import Unreachable
from nias_bridge.paths import SharedPaths
from nias_bridge.ports import Scheduler
from nias_bridge.reach import Mounted
from nias_bridge.settings import Settings
from nias_bridge.slurm.answers import Output
from nias_bridge.slurm.configuration import config_argv, parse_config
from nias_bridge.storage import Storage


@dataclass(frozen=True)
class Wanted:
    """What of an examination was asked for.

    job: whether a probe job may be submitted; partitions: a job for each of these, none: one where
    runs go by themselves; wait: seconds that it may take; mail_to: who gets a mail, "": nobody.
    """

    job: bool = True
    partitions: tuple[str, ...] = ()
    wait: float = 60.0
    mail_to: str = ""


@dataclass(frozen=True)
class Subject:
    """`run` starts one of Slurm's commands, `system` another program on the same machine; file:
    that of the settings, where there is one.

    open_scheduler: makes the way by which runs get to Slurm. Raises SettingsError.
    """

    settings: Settings
    paths: SharedPaths
    storage: Storage
    file: Path | None
    run: Callable[[Sequence[str]], Output]
    system: Callable[[Sequence[str]], Output]
    open_scheduler: Callable[[], Scheduler]
    wanted: Wanted = Wanted()

    @property
    def mounted(self) -> bool:
        """Whether shared storage is mounted on this machine."""
        return isinstance(self.storage.reach, Mounted)

    @property
    def scheduler(self) -> Scheduler:
        """Raises SettingsError, and Unreachable at once where slurmctld did not answer before."""
        if isinstance(self._config, Unreachable):
            raise self._config
        return self._scheduler

    @cached_property
    def _scheduler(self) -> Scheduler:
        return self.open_scheduler()

    @property
    def config(self) -> dict[str, str]:
        """slurmctld's settings (configuration.parse_config). Raises Unreachable."""
        if isinstance(self._config, Unreachable):
            raise self._config
        return self._config

    @cached_property
    def _config(self) -> dict[str, str] | Unreachable:
        # What fails is kept too: each point would wait for it anew.
        try:
            return parse_config(self.run(config_argv()))
        except Unreachable as error:
            return error
