#!/usr/bin/python3 -I
"""Put in place, as root, what lets the gateway run jobs as other accounts: the program, its
settings beside it, one rule of sudo's. Standard library only, Python 3.9 or newer: it runs on a
login node too, where nothing of the bridge is installed."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_SBIN = "/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


class Unable(Exception):
    """It can't be put in place; the words say why, and what to do."""


def put(plan: dict[str, str]) -> None:
    """What `plan` says; the rule comes last, where visudo finds nothing wrong with it. Raises
    Unable.

    program, text: where it is to be, and what is in it; gateway: the account that may call it;
    shared: shared storage, as this machine sees it; path: where sbatch is looked for; slurm_conf:
    "" for Slurm's default; sudoers, rule: sudo's file, and what is in it.
    """
    if os.geteuid() != 0:
        raise Unable("Only root can install it: run this command as root.")
    try:
        pwd.getpwnam(plan["gateway"])
    except KeyError:
        raise Unable(f"There is no account {plan['gateway']} here: make it first.") from None
    program = Path(plan["program"])
    told = program.with_name(f"{program.name}.json")
    settings = config(plan, _only_group(told))
    program.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _write(program, plan["text"], 0o755)
    _write(told, settings, 0o644)
    _write(Path(plan["sudoers"]), checked(plan["rule"]), 0o440)


def config(plan: dict[str, str], only_group: str) -> str:
    """What the program may not be told by its caller. Raises Unable without sbatch."""
    sbatch = shutil.which("sbatch", path=plan["path"])
    if sbatch is None:
        raise Unable(f"There is no sbatch in {plan['path']}; set slurm_bin to the folder it is in.")
    told = {
        "gateway": plan["gateway"],
        "shared": plan["shared"],
        "slurm_bin": str(Path(sbatch).parent),
        "slurm_conf": plan["slurm_conf"],
        "only_group": only_group,
    }
    return json.dumps(told, indent=1) + "\n"


def checked(text: str) -> str:
    """The text of a sudoers file in which visudo finds nothing wrong. Raises Unable."""
    visudo = shutil.which("visudo", path=_SBIN)
    if visudo is None:
        raise Unable("There is no visudo here: install the package sudo (1.9.10 or newer).")
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        done = subprocess.run(
            [visudo, "-c", "-f", file.name], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise Unable(f"visudo refuses the rule: {(done.stderr or done.stdout).strip()}")
    return text


def main(plan: dict[str, str]) -> int:
    """As a script of its own: say what was done, or why not."""
    try:
        put(plan)
    except Unable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(
        f"{plan['program']} is in place; {plan['sudoers']} lets {plan['gateway']} call it.\n"
    )
    return 0


def _only_group(file: Path) -> str:
    """What the administrator wrote there, which a new version leaves as it is."""
    if not file.exists():
        return ""
    return str(json.loads(file.read_text(encoding="utf-8")).get("only_group", ""))


def _write(file: Path, text: str, mode: int) -> None:
    beside = file.with_name(f".{file.name}.new")  # sudo passes over names with a dot
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        os.fchmod(descriptor, mode)
        opened.write(text)
    beside.replace(file)
