"""How soon Slurm is asked again: often while somebody looks at what may change, else ever less."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from nias_bridge.domain import JobState, Run
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.keys import TOUCHED
from nias_bridge.settings import Settings

# Of each key the last use is known to the minute: who uses one all the time is never missed so.
LOOKING = 2 * TOUCHED
_PASSING = frozenset({JobState.SUBMITTING, JobState.COMPLETING})


def is_watched(bridge: Bridge, now: datetime) -> bool:
    """Whether somebody has a page or a program open that shows a run that is open.

    Where people may use plain sbatch, one of theirs may come at any moment.
    """
    since = now - LOOKING
    return bridge.store.keys.watched(since=since, to_come=bridge.settings.login_nodes)


def is_restless(runs: Iterable[Run]) -> bool:
    """Whether one of these is passing on to another state, or waits for Slurm's word of it."""
    return any(
        run.state in _PASSING or run.missing_since is not None or run.cancel_asked_at is not None
        for run in runs
    )


def slower(settings: Settings, interval: float) -> float:
    """Seconds until the next look after one that changed nothing for anybody."""
    return min(2 * interval, max(settings.poll_interval, settings.poll_interval_idle))
