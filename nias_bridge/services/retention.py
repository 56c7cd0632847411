"""The files of ended runs are weighed, and removed when their time is over or their owner says so.

What the run was stays: its row, its log, and the small files that its record is made of.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import shutil
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from nias_bridge.domain import Run
from nias_bridge.node import layout
from nias_bridge.services import desk
from nias_bridge.services.bridge import Bridge

log = logging.getLogger(__name__)

AT_ONCE = 50  # runs seen to in one turn
BLOCK = 512  # bytes, whatever the file system's own blocks
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
_INTO = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
            clear(bridge.paths.root, folder.relative_to(bridge.paths.root))
        bridge.store.weigh(run.id, size_of(folder))


def remove(bridge: Bridge, run_id: int) -> Run:
    """The files of a run are to go: the poller sees to it. Raises NotFound, NotAllowed,
    NotPossible."""
    run = desk.find_own(bridge, run_id)
    run = bridge.store.remove(run.id, at=datetime.now(UTC), by=bridge.person.handle)
    bridge.note("run files removed", run_id=run.id)
    return run


def clear(root: Path, inside: Path) -> None:
    """Remove what does not stay of the run's folder `inside` of `root`; no link is followed.

    What can't be removed is told in the log and left, and goes on being weighed.
    """
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in inside.parts:
            deeper = os.open(part, _INTO, dir_fd=folder)
            os.close(folder)
            folder = deeper
    except OSError as error:
        log.warning("%s: not removed: %s", inside, error)
        return
    try:
        _clear_folder(folder)
        with suppress(OSError):  # a run that is no sweep has no tasks
            tasks = os.open(_TASKS, _INTO, dir_fd=folder)
            try:
                for name in os.listdir(tasks):  # noqa: PTH208  # an open folder has no path
                    _clear_task(tasks, name)
            finally:
                os.close(tasks)
    finally:
        os.close(folder)


def size_of(folder: Path) -> int:
    """Bytes that a folder and all in it take on the disk; a file of several names counts once."""
    total, seen, ahead = 0, set(), [os.fspath(folder)]
    while ahead:
        try:
            with os.scandir(ahead.pop()) as entries:
                for entry in entries:
                    info = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        ahead.append(entry.path)
                    elif info.st_nlink > 1:
                        if (info.st_dev, info.st_ino) in seen:
                            continue
                        seen.add((info.st_dev, info.st_ino))
                    total += info.st_blocks * BLOCK
        except OSError:
            continue  # it is gone, or closed to us: what can't be seen is not counted
    return total


def _clear_task(tasks: int, name: str) -> None:
    with suppress(OSError):
        folder = os.open(name, _INTO, dir_fd=tasks)
        try:
            _clear_folder(folder)
        finally:
            os.close(folder)


def _clear_folder(folder: int) -> None:
    for name in os.listdir(folder):
        if name in STAYS or name == _TASKS or fnmatch.fnmatch(name, _TASK_LOGS):
            continue
        try:
            _drop(folder, name)
        except (OSError, RecursionError) as error:  # a job can nest folders as deep as it likes
            log.warning("%s: not removed: %s", name, error)


def _drop(folder: int, name: str) -> None:
    """A file, a link itself, or a folder with all in it, also where it was made read-only."""
    try:
        os.unlink(name, dir_fd=folder)
        return
    except IsADirectoryError:
        pass
    for _, _, _, inner in os.fwalk(name, dir_fd=folder, follow_symlinks=False):
        with suppress(OSError):
            os.fchmod(inner, 0o700)
    shutil.rmtree(name, dir_fd=folder)
