"""Real Unix accounts, and what lets the gateway run jobs as them: here for as long as a test."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from promised import missing

from nias_bridge.identity import install
from nias_bridge.settings import Settings
from nias_bridge.site import Site, command


@contextmanager
def account(word: str, *options: str) -> Iterator[str]:
    """A person's account, its name ending in `word`; `options` as useradd takes them."""
    name = f"nt{secrets.token_hex(3)}-{word}"
    shell = () if "--shell" in options else ("--shell", "/bin/sh")
    made = ["useradd", "--no-create-home", "--password", "*", *shell, *options, name]
    once_unlocked(made)
    try:
        yield name
    finally:
        once_unlocked(["userdel", "--force", name])


def once_unlocked(argv: Sequence[str]) -> None:
    """Change the accounts of this machine by useradd, usermod or userdel.

    Tests in another process do so too, and /etc/passwd takes one change at a time.
    """
    deadline = time.monotonic() + 30
    while True:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        assert "cannot lock" in done.stderr and time.monotonic() < deadline, done.stderr
        time.sleep(0.1)


@contextmanager
def run_as_installed(settings: Settings, gateway: str) -> Iterator[Path]:
    """The program under the settings' own name for it, and a rule of sudo's for it."""
    for needed, package in (("sudo", "sudo"), ("getfacl", "acl"), ("useradd", "passwd")):
        if shutil.which(needed, path=f"{os.defpath}:/usr/sbin:/sbin") is None:
            missing(f"no {needed} here: apt-get install {package}")
    sudoers = Path("/etc/sudoers.d", f"nias-test-{secrets.token_hex(3)}")
    try:
        install.install(settings, gateway, sudoers)
        yield settings.run_as
    finally:
        sudoers.unlink(missing_ok=True)
        for file in (settings.run_as, settings.run_as.with_name(f"{settings.run_as.name}.json")):
            file.unlink(missing_ok=True)
        settings.run_as.parent.rmdir()


def a_place_for_it() -> Path:
    """A program's name that no other test has, in a folder that root alone can write to."""
    return Path("/usr/lib", f"nias-test-{secrets.token_hex(3)}", "run-as")


def do(user: str, argv: Sequence[str | Path], **how: Any) -> subprocess.CompletedProcess[str]:
    """Run a program as this account, with what groups it has."""
    known = pwd.getpwnam(user)
    return subprocess.run(
        argv,
        user=known.pw_uid,
        group=known.pw_gid,
        extra_groups=os.getgrouplist(user, known.pw_gid),
        **{"cwd": "/", "timeout": 60, **how},
        capture_output=True,
        text=True,
        check=False,
    )


def link(site: Site, handle: str, account: str | None) -> None:
    """What the administrator's page does: this person's jobs run as that account from now on."""
    code = (
        "import sys\n"
        "from nias_bridge.settings import read_settings\n"
        "from nias_bridge.store import open_store\n"
        "people = open_store(read_settings().database_url).people\n"
        "people.change(people.find(handle=sys.argv[1]).id, unix_account=sys.argv[2] or None)\n"
    )
    called = {**command(site), "args": [sys.executable, "-c", code, handle, account or ""]}
    subprocess.run(**called, check=True, timeout=30)
