"""Keep a program that is not trusted to the folders that it needs, by bubblewrap."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import layout


@functools.lru_cache(maxsize=None)
def works() -> bool:
    """Whether bubblewrap is here and the system lets it do its work."""
    if shutil.which("bwrap") is None:
        return False
    trial = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-pid"]
    return subprocess.run([*trial, "true"], capture_output=True, check=False).returncode == 0


def confined(
    command: Sequence[str],
    shared: Path,
    writable: Sequence[Path],
    readable: Sequence[Path] = (),
) -> list[str]:
    """The command, seeing the system read-only, of shared storage only its programs and what is
    `readable`, and writing to nothing but `writable`. Where the sandbox does not work, the command
    as it is."""
    if not works():
        return list(command)
    programs = str(shared / layout.BIN)
    return [
        *("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"),
        *("--tmpfs", "/tmp", "--tmpfs", str(shared), "--ro-bind", programs, programs),  # noqa: S108
        *(word for folder in readable for word in ("--ro-bind", str(folder), str(folder))),
        *(word for folder in writable for word in ("--bind", str(folder), str(folder))),
        *("--unshare-pid", "--unshare-ipc", "--die-with-parent"),
        *command,
    ]
