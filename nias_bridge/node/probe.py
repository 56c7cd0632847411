"""What a node tells of itself when the site is examined: written as JSON on shared storage."""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from . import files, installer, layout, mounts, sandbox

ASKED = "asked.json"  # what the gateway wants to know
REPORT = "report.json"
HELD = "held"  # a file that the gateway has locked
_SECONDS = 30  # for each program
_SWITCHES = (
    "user/max_user_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)
_VERSION = "import platform; print(platform.python_version())"


def main(arguments: Sequence[str]) -> int:
    """probe --folder FOLDER --shared SHARED; returns the job's exit status."""
    folder, shared = Path(arguments[1]), Path(arguments[3])
    asked: dict[str, Any] = files.read_json(folder / ASKED)
    files.write_json(folder / REPORT, facts(folder, shared, asked))
    return 0


def facts(folder: Path, shared: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """All that is asked. A text under `problem` and its like says what failed, "": nothing did."""
    return {
        "token": asked["token"],
        "host": platform.node(),
        "system": platform.platform(),
        "clock": time.time(),
        "uid": os.getuid(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_limit": memory_limit(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "free": _free(folder),
        "free_temporary": _free(Path(tempfile.gettempdir())),
        "mount": mounts.mount_of(shared)._asdict(),
        "lock": _problem(lambda: _locked(folder / HELD)) if asked["locked"] else None,
        "shipped": (shared / layout.CACHE).is_dir() and (shared / layout.ENVIRONMENTS).is_dir(),
        "link": _problem(lambda: link(shared / layout.CACHE, shared / layout.ENVIRONMENTS)),
        "pythons": {name: _python(name) for name in asked["pythons"]},
        "here": platform.python_version(),
        "walls": _walls() if asked["sandbox"] else None,
        "switches": _switches(),
        "uv": _uv(shared),
        "index": _index(shared, asked["build_variables"]),
    }


def link(source: Path, target: Path) -> None:
    """Make a file in one folder and link it into the other. Raises OSError."""
    name = f".nias-probe-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        (source / name).touch(mode=0o600)
        os.link(source / name, target / name)
    finally:
        for made in (target / name, source / name):
            with suppress(OSError):
                made.unlink()


def memory_limit() -> Optional[int]:
    """The least bytes that a control group above us may have, None where none is limited."""
    limits = []
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "memory"):
            root, file = (
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
                if controllers
                else ("/sys/fs/cgroup", "memory.max")
            )
            inner = Path(root + group)
            for place in (inner, *inner.parents):
                with suppress(OSError, ValueError):  # “max” is none
                    limits.append(int((place / file).read_text(encoding="ascii")))
    least = min(limits, default=None)
    # Version 1 writes “none” as the largest number of whole pages.
    return None if least is None or least > 1 << 60 else least


def _free(folder: Path) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def _locked(file: Path) -> None:
    with file.open("rb") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return
    raise OSError("what the gateway had locked was free here")


def _python(name: str) -> dict[str, str]:
    status, said = _ran([name, "-I", "-S", "-c", _VERSION])
    return {"problem": said} if status else {"version": said}


def _walls() -> str:
    try:
        sandbox.confined(["true"], sandbox.Walls())
    except sandbox.Refused as refused:
        return ": ".join(filter(None, (str(refused), refused.details)))
    return ""


def _switches() -> dict[str, str]:
    found = {}
    for name in _SWITCHES:
        with suppress(OSError):
            text = Path("/proc/sys", name).read_text(encoding="ascii")
            found[name.replace("/", ".")] = text.strip()
    return found


def _uv(shared: Path) -> dict[str, str]:
    program = shared / layout.BIN / layout.UV
    if not program.exists():
        return {"missing": str(program)}
    status, said = _ran([str(program), "--version"])
    if status or not said.startswith("uv "):
        return {"problem": said or "it says nothing"}
    return {"version": said.split()[1]}


def _index(shared: Path, variables: dict[str, str]) -> dict[str, Any]:
    """A package's newest version, asked as the installing step asks, of no cache."""
    began = time.monotonic()
    argv = [str(shared / layout.BIN / layout.UV), "pip", "compile", "--quiet", "--no-cache"]
    more = ["--no-deps", "--no-config", "--python", sys.executable, "-"]
    own = {**installer.as_uv_names_them(variables), **variables, "UV_HTTP_TIMEOUT": "10"}
    status, said = _ran([*argv, *more], own, "pip\n")
    return {"problem": said if status else "", "seconds": time.monotonic() - began}


def _ran(
    argv: Sequence[str], variables: Optional[dict[str, str]] = None, given: str = ""
) -> tuple[int, str]:
    """How a program ended, and its last words; 127 where it could not be started."""
    try:
        done = subprocess.run(
            argv,
            input=given,
            env={**os.environ, **(variables or {})},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, f"no end within {_SECONDS} s"
    except OSError as error:
        return 127, error.strerror or str(error)
    said = (done.stderr if done.returncode else done.stdout).strip()
    return done.returncode, said or (
        f"it ended with status {done.returncode}" * bool(done.returncode)
    )


def _problem(try_it: Callable[[], None]) -> str:
    try:
        try_it()
    except OSError as error:
        return error.strerror or str(error)
    return ""
