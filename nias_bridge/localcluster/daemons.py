"""Starting, finding and stopping one daemon, and never somebody else's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nias_bridge.errors import ClusterError
from nias_bridge.localcluster.machine import PROGRAM_PATH, program

MARK = "NIAS_BRIDGE_CLUSTER"
START_SECONDS = 20.0
STOP_SECONDS = 15.0
PROC = Path("/proc")


@dataclass(frozen=True)
class Daemon:
    """A daemon of the cluster that lies in `state`: how it starts and how it shows that it lives.

    argv: a command that returns once the daemon has gone to the background by itself.
    answers: "" when it serves, else what is wrong, in a few seconds at most.
    """

    name: str
    program: str
    argv: tuple[str, ...]
    state: Path
    pid_file: Path
    log: Path
    answers: Callable[[], str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DaemonStatus:
    """What is known of a daemon: pid is None when it does not run; problem is "" when it serves."""

    name: str
    pid: int | None
    answering: bool
    problem: str


def status_of(daemon: Daemon) -> DaemonStatus:
    problem = problem_of(daemon)
    return DaemonStatus(daemon.name, pid_of(daemon), not problem, problem)


def clean_environment(state: Path) -> dict[str, str]:
    """The environment of all that is started: nothing of ours but the mark that it is ours."""
    return {"PATH": PROGRAM_PATH, "LANG": "C.UTF-8", "HOME": str(state), MARK: str(state)}


def run(
    argv: tuple[str, ...], environment: Mapping[str, str], seconds: float = 10.0
) -> subprocess.CompletedProcess[str]:
    """Run a short command to its end. One that takes longer than `seconds` fails with 124."""
    try:
        return subprocess.run(
            [program(argv[0]) or argv[0], *argv[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env=dict(environment),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", f"no answer within {seconds:g} s")


def launch(daemon: Daemon) -> None:
    """Start it detached, in a session of its own. Raises ClusterError with its last words."""
    daemon.pid_file.unlink(missing_ok=True)
    said = daemon.log.with_suffix(".out")
    with said.open("wb") as out:
        try:
            code = subprocess.run(
                [program(daemon.argv[0]) or daemon.argv[0], *daemon.argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                cwd="/",
                env=clean_environment(daemon.state) | dict(daemon.environment),
                timeout=START_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = 124
    if code:
        raise did_not_come_up(daemon, f"it ended with status {code}")


def wait_for(daemon: Daemon, seconds: float = START_SECONDS) -> None:
    """Wait until it serves. Raises ClusterError with its last words."""
    deadline = time.monotonic() + seconds
    pause = 0.01
    while problem := problem_of(daemon):
        if time.monotonic() > deadline:
            raise did_not_come_up(daemon, problem)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def problem_of(daemon: Daemon) -> str:
    """Nothing when it serves, else what is wrong."""
    if pid_of(daemon) is None:
        return "it does not run"
    return "it is frozen" if is_frozen(daemon) else daemon.answers()


def is_frozen(daemon: Daemon) -> bool:
    """True when it was stopped by a signal: it runs, and will never answer."""
    pid = pid_of(daemon)
    return pid is not None and _stat(pid)[:1] == ["T"]


def did_not_come_up(daemon: Daemon, why: str) -> ClusterError:
    words = last_words(daemon.log) or last_words(daemon.log.with_suffix(".out"))
    return ClusterError(
        f"{daemon.name} did not come up: {why}. The end of {daemon.log}:\n{words or '(nothing)'}"
    )


def last_words(log: Path, lines: int = 12) -> str:
    """The last lines of a log, or "" when there are none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def pid_of(daemon: Daemon) -> int | None:
    """Its process id by its pid file, if that process lives and is ours."""
    try:
        pid = int(daemon.pid_file.read_text().strip())
    except (OSError, ValueError):
        return None
    return pid if is_ours(pid, daemon) else None


def is_ours(pid: int, daemon: Daemon) -> bool:
    """True when the process is this daemon of this cluster: a pid file may be older than a boot.

    A process that ended but was not yet waited for has no command line, so it does not count.
    """
    first = _read(pid, "cmdline").split(b"\0")[0].decode(errors="replace")
    mark = f"{MARK}={daemon.state}".encode()
    return Path(first).name == daemon.program and mark in _read(pid, "environ").split(b"\0")


def stop(daemon: Daemon, seconds: float = STOP_SECONDS) -> None:
    """End it, first politely, after `seconds` for good; nothing happens if it does not run."""
    pid = pid_of(daemon)
    if pid is not None:
        end([pid], seconds)
    daemon.pid_file.unlink(missing_ok=True)


def end(pids: list[int], seconds: float) -> None:
    """End processes that were found to be ours: SIGTERM, after `seconds` SIGKILL; wait for it."""
    left = {pid: born for pid in pids if (born := _born(pid))}
    for sign, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)  # one that was frozen hears nothing else
                os.kill(pid, sign)
        deadline = time.monotonic() + patience
        while left and time.monotonic() < deadline:
            left = {pid: born for pid, born in left.items() if _born(pid) == born}
            time.sleep(0.02 if left else 0)
        if not left:
            return


def end_jobs(state: Path) -> None:
    """Kill what a slurmd that is gone left behind: job steps of ours and all below them."""
    steps = [pid for pid in _processes() if _is_our_step(pid, state)]
    children: dict[int, list[int]] = {}
    for pid in _processes():
        children.setdefault(_parent(pid), []).append(pid)
    doomed = list(steps)
    for pid in doomed:  # grows while it is walked
        doomed += children.get(pid, [])
    end(doomed, 0)


def _is_our_step(pid: int, state: Path) -> bool:
    """A slurmstepd (it writes over its environment) that keeps its slurmd's log open."""
    if not _read(pid, "cmdline").startswith(b"slurmstepd"):
        return False
    with contextlib.suppress(OSError):
        for entry in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                if entry.readlink().is_relative_to(state):
                    return True
    return False


def _processes() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state (field 3) on, or none."""
    return _read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _born(pid: int) -> str:
    """The start time that tells a process from a later one of its id; "" when it has ended, and all
    its threads, which may hold its sockets for longer than the first."""
    fields = _stat(pid)
    return "" if not fields or (fields[0] in "ZX" and int(fields[17]) <= 1) else fields[19]


def _read(pid: int, name: str) -> bytes:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""
