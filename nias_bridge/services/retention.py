"""The files of ended runs are weighed, and removed when their time is over or their owner says so.

What the run was stays: its row, its log, and the small files that its record is made of.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from nias_bridge.domain import Run
from nias_bridge.node import layout
from nias_bridge.services import desk
from nias_bridge.services.bridge import Bridge

log = logging.getLogger(__name__)

AT_ONCE = 50  # runs seen to in one turn
# What stays in a run's folder (and in those of a sweep's tasks) when its files are removed.
STAYS = frozenset(
    {
        *(layout.SCRIPT, layout.LOG, layout.PROGRESS, layout.EXIT, layout.MANIFEST, layout.LOCK),
        *(layout.MENDED_REQUIREMENTS, layout.EXACT_LOCK, layout.SWEEP, layout.CLAIMS),
        *(layout.SUBMISSION, layout.SEEN),
    }
)
_TASK_LOGS = layout.TASK_LOG.replace("%a", "*")
_TASKS = PurePosixPath(layout.TASK_FOLDER).parts[0]


def sweep(bridge: Bridge) -> None:
    """Announce the runs whose time is nearly over, and mark those whose day has come.

    Each is announced for the whole of `announce_days`, also where the setting is new.
    """
    now, keep = datetime.now(UTC), bridge.settings.keep_days
    notice = timedelta(days=bridge.settings.announce_days)
    before = None if keep is None else now - max(timedelta(0), timedelta(days=keep) - notice)
    bridge.store.announce(ended_before=before, leaves_at=now + notice)
    for run in bridge.store.leave(now=now):
        bridge.note("run files removed", run_id=run.id, detail="by the site's limit")
        log.info("The files of run %d go: it ended %s.", run.id, run.changed_at.date())


def tidy(bridge: Bridge) -> None:
    """Remove the files of runs that are marked, and weigh what there is of those that ended.

    Marked first and removed then: whoever is stopped in between finds the rest to do.
    """
    for run in bridge.store.unweighed(AT_ONCE):
        folder = bridge.paths.run(run).folder
        if run.removed_at:
            clear(bridge, folder)
        bridge.store.weigh(run, bridge.storage.size_of(folder))


def remove(bridge: Bridge, run_id: int) -> Run:
    """The files of a run are to go: the poller sees to it. Raises NotFound, NotAllowed,
    NotPossible."""
    run = desk.find_own(bridge, run_id)
    run = bridge.store.remove(run.id, at=datetime.now(UTC), by=bridge.person.handle)
    bridge.note("run files removed", run_id=run.id)
    return run


def clear(bridge: Bridge, folder: PurePosixPath) -> None:
    """Remove what does not stay of a run's folder; no link is followed.

    What can't be removed is told in the log and left, and goes on being weighed.
    """
    root = bridge.paths.root
    inside = str(folder.relative_to(root))
    left = bridge.storage.clear(root, inside, stays=sorted(STAYS), logs=_TASK_LOGS, tasks=_TASKS)
    for told in left:
        log.warning("%s: not removed: %s", inside, told)
