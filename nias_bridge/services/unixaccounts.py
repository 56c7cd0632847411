"""Which Unix accounts people may be linked to, from the pages and by the command."""

from __future__ import annotations

import grp
import os
import pwd
import re
import subprocess
import time
from pathlib import PurePosixPath

from nias_bridge.errors import BadRequest

UID_LEAST = 1000  # below it are the system's own accounts
FIELD = "unix_account"
# Who is in one of these is root, can become root, or can read what root alone should.
PRIVILEGED = frozenset(
    {
        *("root", "sudo", "wheel", "admin", "adm", "sys", "daemon", "bin", "staff", "operator"),
        *("docker", "podman", "lxd", "lxc", "incus", "incus-admin", "libvirt", "libvirt-qemu"),
        *("disk", "kmem", "mem", "shadow", "utmp", "systemd-journal"),
        *("slurm", "slurmadmin", "munge", "mysql", "postgres"),
    }
)
NO_SHELLS = frozenset({"nologin", "false", "true", "sync", "halt", "shutdown"})
_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z", re.ASCII)
_GETENT_SECONDS = 10
_SHADOW_FIELDS = 9
_DAY = 86400


def check(name: str) -> None:
    """Nothing, where a person's jobs may run as this account. Raises BadRequest with the reason.

    Whether its password is locked or its time has run out is known to root alone; asked by
    another, that part is left to whoever asks as root.
    """
    if not _NAME.match(name):
        raise BadRequest(
            "An account's name has a-z, 0-9, _ and -, begins with a letter and has at most 32 of "
            "them.",
            FIELD,
        )
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise BadRequest(f"There is no Unix account “{name}” on this machine.", FIELD) from None
    if account.pw_name != name or account.pw_uid < UID_LEAST:
        raise BadRequest(
            f"“{name}” is an account of the system (number {account.pw_uid}); jobs run as people's "
            f"own accounts, whose numbers are {UID_LEAST} and above.",
            FIELD,
        )
    if account.pw_uid == os.geteuid():
        raise BadRequest(f"“{name}” is the bridge's own account.", FIELD)
    if found := sorted(_groups(name, account.pw_gid)):
        raise BadRequest(
            f"“{name}” is in the group {', '.join(found)}, by which it reaches more than a person "
            "should. Take it out of there, or link another account.",
            FIELD,
        )
    if PurePosixPath(account.pw_shell).name in NO_SHELLS:
        raise BadRequest(
            f"“{name}” can't be used: its shell is {account.pw_shell}, so nobody is to sign in "
            "by it.",
            FIELD,
        )
    if why := _closed(name):
        raise BadRequest(f"“{name}” can't be used: {why}.", FIELD)


def _groups(name: str, gid: int) -> set[str]:
    """The privileged ones among an account's groups."""
    found = set()
    for number in os.getgrouplist(name, gid):
        if number == 0:
            found.add("root")
            continue
        try:
            found.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue  # a number without a name gives nothing that has one
    return found & PRIVILEGED


def _closed(name: str) -> str:
    """Why the account is closed, "" where it is open or that can't be told."""
    fields = _shadow(name)
    if len(fields) != _SHADOW_FIELDS:
        return ""
    password, expires = fields[1], fields[7]
    # `usermod --lock` puts a ! before the password. One that is a ! alone never had a password:
    # so are accounts made by useradd, which are used by keys.
    if password.startswith("!") and password.strip("!*"):
        return "its password is locked"
    if expires.isdigit() and int(expires) * _DAY <= time.time():
        return "it has expired"
    return ""


def _shadow(name: str) -> list[str]:
    """The account's line in the shadow database, of whichever service; [] to whom may not read."""
    try:
        done = subprocess.run(
            ["getent", "shadow", name],
            capture_output=True,
            text=True,
            timeout=_GETENT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().split(":")
