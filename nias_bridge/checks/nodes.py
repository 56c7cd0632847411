"""Points of a node, by what a probe job told of it."""

from __future__ import annotations

import os

from nias_bridge.checks.points import (
    Facts,
    Finding,
    NodePoint,
    fault,
    skipped,
    unknown,
    warning,
    well,
)
from nias_bridge.checks.storage import NO_LINKS, graded_mount, graded_space
from nias_bridge.checks.subject import Subject
from nias_bridge.slurm import values

GIB = 1 << 30
OLDEST = (3, 9)
TEMPORARY_LOW = GIB
# The kernel's switches, the value of each that forbids namespaces, and how to turn it.
SWITCHES = {
    "user.max_user_namespaces": ("0", "sysctl user.max_user_namespaces=15000"),
    "kernel.unprivileged_userns_clone": ("0", "sysctl kernel.unprivileged_userns_clone=1"),
    "kernel.apparmor_restrict_unprivileged_userns": (
        "1",
        "an AppArmor profile for bwrap, or sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
}
SLOW_INDEX = 10.0


def number(_subject: Subject, told: Facts) -> Finding:
    """The account has the same number here and there."""
    if told["uid"] != os.geteuid():
        return warning(
            f"jobs are the account {told['uid']}, and this is {os.geteuid()}",
            "give the bridge's account the same number on all machines, and ask as that account",
        )
    return well(f"jobs are the account {told['uid']}, as here")


def python(subject: Subject, told: Facts) -> Finding:
    """What `python` and `pythons` name there."""
    settings, found = subject.settings, told["pythons"]
    asked = {"python": settings.python, **{f"pythons.{v}": p for v, p in settings.pythons.items()}}
    for setting, name in asked.items():
        if problem := found[name].get("problem"):
            return fault(
                f"{setting} names “{name}”, which does not run there: {problem}",
                f"set {setting} to a Python of that node (“{told['here']}” runs), or install it",
            )
        if values.release(found[name]["version"]) < OLDEST:
            return fault(
                f"{setting} names “{name}”, a Python {found[name]['version']}",
                f"set {setting} to one of 3.9 or newer",
            )
        if setting != "python":
            version = setting.removeprefix("pythons.")
            if not f"{found[name]['version']}.".startswith(f"{version}."):
                return fault(
                    f"{setting} names “{name}”, which is Python {found[name]['version']}",
                    f"set {setting} to a Python {version}",
                )
    return well(
        ", ".join(f"“{name}” is Python {found[name]['version']}" for name in asked.values())
    )


def walls(_subject: Subject, told: Facts) -> Finding:
    """bubblewrap really confines a program there, for this account."""
    if told["walls"] is None:
        return skipped("sandbox is off")
    if not told["walls"]:
        return well("bubblewrap works")
    if "not installed" in told["walls"]:
        return fault(told["walls"], "install the package bubblewrap on all nodes")
    for name, (forbids, mend) in SWITCHES.items():
        if told["switches"].get(name) == forbids:
            return fault(f"{told['walls']} ({name} is {forbids})", mend)
    return fault(
        told["walls"],
        "as this account on that node: bwrap --unshare-user --unshare-pid --ro-bind / / "
        "--proc /proc --dev /dev true; in containers see their seccomp profile",
    )


def uv(_subject: Subject, told: Facts) -> Finding:
    """The one on shared storage runs there."""
    if "missing" in told["uv"]:
        return warning(f"there is no {told['uv']['missing']} yet", "nias-bridge install-shared")
    if problem := told["uv"].get("problem"):
        return fault(
            f"uv does not run there: {problem}",
            "is the storage mounted noexec, or the node another kind of machine? Else remove "
            "bin/uv there and call nias-bridge install-shared",
        )
    return well(f"uv {told['uv']['version']} runs")


def index(_subject: Subject, told: Facts) -> Finding:
    """Packages come from there."""
    if "version" not in told["uv"]:
        return unknown("without uv nothing can be asked of it")
    if problem := told["index"]["problem"]:
        return fault(
            f"the package index does not answer: {problem}",
            "let the nodes reach it, or name a mirror, proxy and certificates in build_variables "
            "(UV_DEFAULT_INDEX, HTTPS_PROXY, SSL_CERT_FILE)",
        )
    seconds = told["index"]["seconds"]
    if seconds > SLOW_INDEX:
        return warning(
            f"the package index takes {seconds:.0f} s", "name a nearer one in build_variables"
        )
    return well(f"the package index answers in {seconds:.1f} s")


def linking(_subject: Subject, told: Facts) -> Finding:
    """Environments are links to the cache."""
    if not told["shipped"]:
        return unknown("cache/ and envs/ are not there yet", "nias-bridge install-shared")
    if told["link"]:
        return warning(
            f"a file of cache/ can't be linked into envs/ ({told['link']}): environments are "
            "copied, slower and much larger",
            NO_LINKS,
        )
    return well("a file of cache/ can be linked into envs/")


def locks(_subject: Subject, told: Facts) -> Finding:
    """What the gateway has locked is locked there."""
    if told["lock"] is None:
        return skipped("storage is not mounted here: all locks are the nodes'")
    if told["lock"]:
        return fault(
            f"locks do not hold between that node and the gateway: {told['lock']}",
            "mount with locks that all machines share: NFS 4, Lustre with flock",
        )
    return well("what the gateway locks is locked there")


def mount(_subject: Subject, told: Facts) -> Finding:
    """How shared storage is mounted there."""
    return graded_mount(told["mount"])


def space(_subject: Subject, told: Facts) -> Finding:
    """Of shared storage, and of the node's own disk, where code.py has its home."""
    if told["free_temporary"] < TEMPORARY_LOW:
        return warning(
            f"the node's own disk has {told['free_temporary'] / GIB:.1f} GiB free",
            "make room in /tmp there: code.py has its home in it",
        )
    return graded_space(told["free"], "shared storage")


def memory(subject: Subject, told: Facts) -> Finding:
    """A job that takes more than it asked for ends, and not the node."""
    if "memory" not in subject.config.get("SelectTypeParameters", "").casefold():
        return warning(
            "SelectTypeParameters does not give memory out: jobs on a node take each other's",
            "SelectType=select/cons_tres and SelectTypeParameters=CR_Core_Memory in slurm.conf",
        )
    limit = told["memory_limit"]
    if limit is not None and limit < told["memory"]:
        return well(f"the kernel holds a job to its memory ({limit / GIB:.1f} GiB)")
    if "OverMemoryKill" in subject.config.get("JobAcctGatherParams", ""):
        return well("Slurm looks how much memory a job has, and ends it")
    return warning(
        "nothing holds a job to the memory that it asked for",
        "TaskPlugin=task/cgroup in slurm.conf and ConstrainRAMSpace=yes in cgroup.conf",
    )


POINTS = (
    NodePoint("account", number),
    NodePoint("mount", mount),
    NodePoint("locks", locks),
    NodePoint("hard links", linking),
    NodePoint("space", space),
    NodePoint("python", python),
    NodePoint("bubblewrap", walls),
    NodePoint("uv", uv),
    NodePoint("package index", index),
    NodePoint("memory", memory),
)
