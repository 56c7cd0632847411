"""Points of the gateway's own machine: who asks, who may read secrets, and jobs as others."""

from __future__ import annotations

import json
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from nias_bridge.checks.points import Finding, Point, fault, skipped, unknown, warning, well
from nias_bridge.checks.subject import Subject
from nias_bridge.identity import install, run_as


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
    settings, name = subject.settings, _name(os.geteuid())
    if settings.identity != "unix":
        return skipped("all jobs are the bridge's own account's")
    if settings.ssh_host:
        return skipped(f"what makes jobs others' is on {settings.ssh_host}")
    if wrong := next(_wrong_with(subject, settings.run_as, name), ""):
        return fault(wrong, f"as root: nias-bridge install-run-as --gateway {name}")
    return well(f"sudo lets {name} call {settings.run_as}, which is this version's")


def _wrong_with(subject: Subject, program: Path, name: str) -> Iterator[str]:
    """What keeps the account from calling the program, or others from not changing it."""
    told = program.with_name(f"{program.name}.json")
    if not program.is_file() or not told.is_file():
        yield f"there is no {program} with its {told.name}"
    for file in (program, told, program.parent):
        status = file.stat()
        if status.st_uid != 0 or status.st_mode & 0o022:
            yield f"others than root may change {file}"
    if program.read_bytes() != Path(run_as.__file__).read_bytes():
        yield f"{program} is not the one of this version"
    is_told = json.loads(told.read_text(encoding="utf-8"))
    meant = json.loads(install.config(subject.settings, name, is_told.get("only_group", "")))
    if wrong := [key for key in meant if is_told.get(key) != meant[key]]:
        yield f"{told} says otherwise than the settings, as this account: {', '.join(wrong)}"
    allowed = subject.run(["sudo", "--non-interactive", "--list"])
    if allowed.status or str(program) not in allowed.stdout:
        yield f"sudo does not let {name} call {program}"


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
    Point("sandbox", sandbox),
)
