"""Points of shared storage as the gateway sees it."""

from __future__ import annotations

import errno
from importlib.metadata import version
from pathlib import Path

from nias_bridge.checks import folder
from nias_bridge.checks.points import (
    Facts,
    Finding,
    Grade,
    Point,
    fault,
    skipped,
    unknown,
    warning,
    well,
)
from nias_bridge.checks.subject import Subject
from nias_bridge.node import mounts

GIB = 1 << 30
FULL, LOW = 1 * GIB, 10 * GIB
NO_LINKS = (
    "let all of shared_root be one file system that knows hard links: no folder in it a mount, a "
    "dataset or a subvolume of its own (docs/production.md)"
)
WITH_ACLS = (
    "mount it with the option acl, or as a file system that has them (of NFS version 3, not 4: "
    'docs/identity.md); else set identity = "service"'
)
MAKE_ROOM = (
    "set keep_days and a smaller environments_max_bytes, call nias-bridge env prune, or enlarge it"
)
_WHY = {
    errno.EROFS: "mount it for writing",
    errno.ENOSPC: MAKE_ROOM,
    errno.EDQUOT: "raise the quota of the bridge's account there",
    errno.EACCES: "let it belong to the bridge's account: chown it, and chmod 750",
    errno.EPERM: "let it belong to the bridge's account: chown it, and chmod 750",
}
# Options of a mount that break what the bridge relies on.
_HARMFUL = {
    "soft": "a server that is slow becomes a file that is cut short: mount with hard",
    "softreval": "a server that is slow becomes a file that is old: mount with hard",
    "nolock": "locks hold on one machine alone: mount with locks, or NFS 4",
    "local_lock=flock": "locks hold on one machine alone: mount without local_lock",
    "local_lock=all": "locks hold on one machine alone: mount without local_lock",
    "localflock": "locks hold on one machine alone: mount with flock",
    "noflock": "there are no locks: mount with flock",
}


def writing(subject: Subject) -> Finding:
    """A file is written, renamed from folder to folder, and removed."""
    root = subject.paths.root
    info = subject.storage.info(root)
    if info is None or not info.folder:
        return fault(f"{root} is not there", "mount the shared storage, or set shared_root to it")
    try:
        folder.try_writing(subject)
    except OSError as error:
        mend = _WHY.get(error.errno or 0, "see the mount, and who may write there")
        return fault(f"{root} can't be written to: {error.strerror}", mend)
    return well(f"{root} takes files and renames them")


def linking(subject: Subject) -> Finding:
    """Environments are links to the cache."""
    try:
        folder.try_linking(subject)
    except FileNotFoundError:
        return unknown("cache/ and envs/ are not there yet", "nias-bridge install-shared")
    except OSError as error:
        why = f"a file of cache/ can't be linked into envs/: {error.strerror}"
        if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            return warning(f"{why}: environments are copied, slower and much larger", NO_LINKS)
        return fault(why, _WHY.get(error.errno or 0, "see who may write there"))
    return well("a file of cache/ can be linked into envs/")


def acls(subject: Subject) -> Finding:
    """By them jobs that are people's own accounts come to their folders and datasets."""
    try:
        why = folder.try_acls(subject)
    except OSError as error:
        return unknown(f"whether it keeps POSIX ACLs can't be tried: {error.strerror}")
    if not why:
        return well("it keeps POSIX ACLs")
    seen = f"it keeps no POSIX ACLs ({why})"
    if subject.settings.identity == "unix":
        return fault(f"{seen}, by which each job comes to its run", WITH_ACLS)
    return skipped(f"{seen}: jobs by plain sbatch see no datasets")


def space(subject: Subject) -> Finding:
    """For uploads, runs and environments."""
    return graded_space(subject.storage.space(subject.paths.root).free, "it")


def graded_space(free: int, where: str) -> Finding:
    """What that much room comes to."""
    seen = f"{where} has {free / GIB:,.1f} GiB free"
    if free < FULL:
        return fault(f"{seen}: uploads and runs will fail", MAKE_ROOM)
    return warning(seen, MAKE_ROOM) if free < LOW else well(seen)


def mount(subject: Subject) -> Finding:
    """How it is mounted here."""
    if not subject.mounted:
        return skipped("it is not mounted here")
    found = graded_mount(mounts.mount_of(Path(subject.paths.root))._asdict())
    if subject.settings.identity == "unix" and found.grade is Grade.WARNING:
        return well("it is NFS of version 3, which alone has POSIX ACLs")
    return found


def graded_mount(told: Facts) -> Finding:
    """What a mount, by its type and options, comes to."""
    options = set(told["options"])
    for option, harm in _HARMFUL.items():
        if option in options:
            return fault(f"it is {told['type']}, mounted with {option}", harm)
    if told["type"] == "lustre" and "flock" not in options:
        return fault(
            "it is lustre, mounted without flock", "mount with flock here and on all nodes"
        )
    if told["type"].startswith("nfs") and options & {"vers=3", "vers=2"}:
        return warning("it is NFS of version 3", "mount version 4, whose locks need no lockd")
    return well(f"it is {told['type']}")


def shipped(subject: Subject) -> Finding:
    """What serve and poll put there for the nodes."""
    found, ours = folder.shipped_version(subject), version("nias-bridge")
    if not found:
        return warning("the node program is not there yet", "nias-bridge install-shared")
    if found != ours:
        return warning(
            f"the node program is that of {found}, and this is {ours}",
            "restart serve and poll, or call nias-bridge install-shared",
        )
    return well(f"the node program is that of {ours}")


POINTS = (
    Point("writing", writing),
    Point("hard links", linking),
    Point("ACLs", acls),
    Point("space", space),
    Point("mount", mount),
    Point("node program", shipped),
)
