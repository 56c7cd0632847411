"""Which Unix accounts people may be linked to, from the pages and by the command."""

from __future__ import annotations

import re
import time
from pathlib import PurePosixPath

from nias_bridge.errors import BadRequest
from nias_bridge.people import UnixAccount
from nias_bridge.ports import Accounts

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
_SHADOW_FIELDS = 9
_DAY = 86400


def check(accounts: Accounts, name: str) -> None:
    """Nothing, where a person's jobs may run as this account of the cluster. Raises BadRequest with
    the reason, Unreachable.

    Whether its password is locked or its time has run out is known to root alone; asked by
    another, that part is left to whoever asks as root.
    """
    if not _NAME.match(name):
        raise BadRequest(
            "An account's name has a-z, 0-9, _ and -, begins with a letter and has at most 32 of "
            "them.",
            FIELD,
        )
    account = accounts.find(name)
    if account is None:
        raise BadRequest(f"There is no Unix account “{name}” on the cluster.", FIELD)
    if account.name != name or account.uid < UID_LEAST:
        raise BadRequest(
            f"“{name}” is an account of the system (number {account.uid}); jobs run as people's "
            f"own accounts, whose numbers are {UID_LEAST} and above.",
            FIELD,
        )
    if account.own:
        raise BadRequest(f"“{name}” is the bridge's own account.", FIELD)
    if found := sorted(account.groups & PRIVILEGED):
        raise BadRequest(
            f"“{name}” is in the group {', '.join(found)}, by which it reaches more than a person "
            "should. Take it out of there, or link another account.",
            FIELD,
        )
    if PurePosixPath(account.shell).name in NO_SHELLS:
        raise BadRequest(
            f"“{name}” can't be used: its shell is {account.shell}, so nobody is to sign in by it.",
            FIELD,
        )
    if why := _closed(account):
        raise BadRequest(f"“{name}” can't be used: {why}.", FIELD)


def _closed(account: UnixAccount) -> str:
    """Why the account is closed, "" where it is open or that can't be told."""
    if len(account.shadow) != _SHADOW_FIELDS:
        return ""
    password, expires = account.shadow[1], account.shadow[7]
    # `usermod --lock` puts a ! before the password. One that is a ! alone never had a password:
    # so are accounts made by useradd, which are used by keys.
    if password.startswith("!") and password.strip("!*"):
        return "its password is locked"
    if expires.isdigit() and int(expires) * _DAY <= time.time():
        return "it has expired"
    return ""
