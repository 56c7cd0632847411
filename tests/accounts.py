"""Real Unix accounts: here for as long as a test."""

from __future__ import annotations

import os
import pwd
import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def account(word: str, *options: str) -> Iterator[str]:
    """A person's account, its name ending in `word`; `options` as useradd takes them."""
    name = f"nt{secrets.token_hex(3)}-{word}"
    shell = () if "--shell" in options else ("--shell", "/bin/sh")
    made = ["useradd", "--no-create-home", "--password", "*", *shell, *options, name]
    _once_unlocked(made)
    try:
        yield name
    finally:
        _once_unlocked(["userdel", "--force", name])


def _once_unlocked(argv: Sequence[str]) -> None:
    # Tests in another process make accounts too, and /etc/passwd takes one change at a time.
    deadline = time.monotonic() + 30
    while True:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        assert "cannot lock" in done.stderr and time.monotonic() < deadline, done.stderr
        time.sleep(0.1)


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
