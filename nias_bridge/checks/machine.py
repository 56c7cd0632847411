"""Points of the gateway's own machine: who asks, who may read secrets, and jobs as others."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from nias_bridge.checks.points import Finding, Point, fault, skipped, unknown, warning, well
from nias_bridge.checks.subject import Subject
from nias_bridge.identity import install, run_as
from nias_bridge.store import open_store, outlook

# No owner's name has capital letters: whatever asks for this run finds none.
NOBODYS_RUN = "Nobody/none/1"
AS_ROOT = (
    "let root of that machine be root on the storage too: NFS of version 3, exported to it (and to "
    "no node) with no_root_squash (docs/identity.md)"
)


def account(subject: Subject) -> Finding:
    """As whom this is asked: files of root's on shared storage would be in the bridge's way."""
    name = _name(os.geteuid())
    if not subject.mounted:
        return well(f"this is {name}")
    root = subject.storage.info(subject.paths.root)
    if root is None:
        return unknown(f"this is {name}; whose {subject.paths.root} is can't be seen")
    holder = root.uid
    if holder not in (os.geteuid(), 0):
        return warning(
            f"this is {name}, but {subject.paths.root} belongs to {_name(holder)}",
            f"ask as the bridge's own account: sudo -u {_name(holder)} nias-bridge doctor",
        )
    if os.geteuid() == 0:
        return warning("this is root", "let the bridge have an account of its own (README)")
    return well(f"this is {name}")


def settings_file(subject: Subject) -> Finding:
    """It has the key that signs cookies, and passwords."""
    if subject.file is None:
        return skipped("all settings are in the environment")
    status = subject.file.stat()
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o007:
        return fault(
            f"{subject.file} has secrets in it, and everybody may read it ({mode:04o})"
            if mode & 0o004
            else f"{subject.file} is open to everybody ({mode:04o})",
            f"chmod o= {subject.file}, and set a new secret_key",
        )
    if mode & 0o020 or status.st_uid not in (0, os.geteuid()):
        return fault(
            f"others than the bridge may write {subject.file} ({mode:04o}, {_name(status.st_uid)})",
            f"chown root {subject.file}; chmod g-w {subject.file}",
        )
    return well(f"{subject.file} is nobody else's to read ({mode:04o})")


def ssh_key(subject: Subject) -> Finding:
    """Who reads it is the bridge on the login node."""
    if not subject.settings.ssh_host:
        return skipped("Slurm is asked on this machine")
    key = subject.settings.ssh_key
    if not key.is_file():
        return fault(f"there is no {key}", "set ssh_key to the key that lets the bridge in")
    mode = stat.S_IMODE(key.stat().st_mode)
    if mode & 0o077:
        return fault(f"others may read {key} ({mode:04o})", f"chmod 600 {key}, and make a new one")
    return well(f"{key} is nobody else's to read")


def identity(subject: Subject) -> Finding:
    """With “unix”: the program that sudo lets the bridge call is there, and as it was shipped."""
    settings = subject.settings
    if settings.identity != "unix":
        return skipped("all jobs are the bridge's own account's")
    name = settings.ssh_user if settings.ssh_host else _name(os.geteuid())
    if wrong := next(_wrong_with(subject, settings.run_as, name), ""):
        mend = f"as root: nias-bridge install-run-as --gateway {name} (docs/identity.md)"
        if settings.ssh_host:
            mend = f"as root on {settings.ssh_host}: what `nias-bridge print-run-as` prints"
        return fault(wrong, mend)
    return well(f"sudo lets {name} call {settings.run_as}, which is this version's")


def _wrong_with(subject: Subject, program: Path, name: str) -> Iterator[str]:
    """What keeps the account from calling the program, or others from not changing it."""
    told = f"{program}.json"
    there = subject.system(["stat", "--format=%u %a %n", str(program), told, str(program.parent)])
    if there.status:
        yield f"there is no {program} with {told}"
    for line in there.stdout.splitlines():
        holder, mode, file = line.split(" ", 2)
        if holder != "0" or int(mode, 8) & 0o022:
            yield f"others than root may change {file}"
    ours = hashlib.sha256(Path(run_as.__file__).read_bytes()).hexdigest()
    if subject.system(["sha256sum", str(program)]).stdout.split()[:1] != [ours]:
        yield f"{program} is not the one of this version"
    meant = install.plan(subject.settings, name, install.SUDOERS)
    is_told = json.loads(subject.system(["cat", told]).stdout)
    keys = ("gateway", "shared", "slurm_conf")
    if wrong := [key for key in keys if is_told.get(key) != meant[key]]:
        yield f"{told} says otherwise than the settings: {', '.join(wrong)}"
    allowed = subject.system(["sudo", "--non-interactive", "--list"])
    if allowed.status or str(program) not in allowed.stdout:
        yield f"sudo does not let {name} call {program}"


def roots_way(subject: Subject) -> Finding:
    """With “unix”: root, who gives runs to their owners' accounts, may do so on shared storage."""
    if subject.settings.identity != "unix":
        return skipped("all jobs are the bridge's own account's")
    account = _linked_account(subject.settings.database_url)
    if not account:
        return skipped("nobody is linked to an account yet, for whom it could be tried")
    argv = ["sudo", "--non-interactive", str(subject.settings.run_as), "hand-over", account]
    words = subject.system([*argv, NOBODYS_RUN]).stderr.strip()
    if _says(words, errno.ENOENT):
        return well("root comes to where runs are given away, and finds none to give")
    if _says(words, errno.EACCES) or _says(words, errno.EPERM):
        return fault(f"root may not give runs to their owners' accounts there ({words})", AS_ROOT)
    return unknown(f"whether root may give runs away there can't be tried: {words}")


def _linked_account(url: str) -> str:
    """Some person's Unix account, "" where there is none yet."""
    outlook.must_be_there(url)
    store = open_store(url)
    try:
        return next((p.unix_account for p in store.people.all() if p.unix_account), "")
    finally:
        store.close()


def _says(words: str, number: int) -> bool:
    return f"[Errno {number}]" in words


def sandbox(subject: Subject) -> Finding:
    """Whether one person's code can come to another's files."""
    settings = subject.settings
    if settings.sandbox == "required":
        return well("every code.py is confined, or refused")
    if settings.identity == "unix":
        return warning("code.py is not confined", 'sandbox = "required"')
    return fault(
        "code.py is not confined: every person's jobs can read and change everybody's runs",
        'sandbox = "required", or identity = "unix"',
    )


def _name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


POINTS = (
    Point("account", account),
    Point("settings file", settings_file),
    Point("ssh key", ssh_key),
    Point("jobs as others", identity),
    Point("root's way", roots_way),
    Point("sandbox", sandbox),
)
