"""The demonstration as a person uses it: started, stopped, killed, and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from freeports import free_port

from nias_bridge import localcluster

SECONDS = 300
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nias-demo-"))
    folder.chmod(0o755)
    yield folder
    localcluster.down(folder / "slurm")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture
def start(state: Path, port: int) -> Iterator[Start]:
    """Starts a demonstration, as a shell does in its background: with SIGINT ignored."""
    started = []

    def begin(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "nias_bridge.cli", "demo", *options]
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process = subprocess.Popen(
                [*command, "--state-dir", str(state), "--port", str(port)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.terminate()
        process.wait(SECONDS)
        assert process.stdout
        process.stdout.close()


def until_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    told = ""
    for line in process.stdout:
        told += line
        if line.startswith("Only this machine"):
            return told
    raise AssertionError(told)


def slurm_runs(state: Path) -> bool:
    return any(daemon.pid for daemon in localcluster.status(state / "slurm"))


def words_of(command: str, state: Path) -> list[str]:
    """The processes of this state whose command line has that word."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            called = (entry / "cmdline").read_bytes().split(b"\0")
            setting = f"NIAS_BRIDGE_CONFIG={state}/".encode()
            if command.encode() in called and setting in (entry / "environ").read_bytes():
                found.append(entry.name)
        except OSError:
            continue
    return found


def test_killed_it_takes_its_gateway_along_and_the_next_one_stops_what_it_left(state, start):
    killed = start()
    told = until_ready(killed)
    assert "Ready at http://127.0.0.1:" in told
    assert "SLURM_CONF=" in told
    assert words_of("serve", state)
    killed.kill()
    killed.wait(SECONDS)
    deadline = time.monotonic() + 20
    while words_of("serve", state) or words_of("poll", state):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert slurm_runs(state)

    second = start()
    assert "as run 2" in until_ready(second)
    for number in words_of("poll", state):
        os.kill(int(number), signal.SIGKILL)
    told, _ = second.communicate(timeout=SECONDS)
    assert second.returncode == 1
    assert "“nias-bridge poll” has ended unasked" in told
    assert not slurm_runs(state)


def test_ctrl_c_stops_it_but_not_a_slurm_that_was_up_before(state, start):
    localcluster.up(state / "slurm")
    process = start()
    until_ready(process)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=SECONDS)
    assert (process.returncode, "Stopped" in told) == (0, True), told
    assert not words_of("serve", state)
    assert slurm_runs(state)
