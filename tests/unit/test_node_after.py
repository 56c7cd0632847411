"""Previews may fail or be cut short: the job has ended as it did."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uv
from shipped import put_program

from nias_bridge.node import after, claim, environment, layout
from nias_bridge.node.stopping import TIME_LIMIT, TOLD_TO_STOP, StopSignals

SECONDS = 50


@pytest.fixture
def deaf() -> Iterator[int]:
    """The port of a package index that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield int(listening.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts a job that leaves one file, on a site whose tools come from this address."""
    shared, run = tmp_path / "shared", tmp_path / "shared/runs/lab/p/1"
    put_program(shared / layout.BIN)
    (shared / layout.BIN / layout.UV).symlink_to(uv.find_uv_bin())
    run.mkdir(parents=True)
    with zipfile.ZipFile(run / layout.ARCHIVE, "w") as out:
        out.writestr("p/code.py", "open('output/a.csv', 'w').write('x')")

    def starting(index: str, token: str = "tok") -> subprocess.Popen[bytes]:
        site = {"previews": True, "build_variables": {"UV_DEFAULT_INDEX": index}}
        (shared / layout.BIN / layout.SITE).write_text(json.dumps(site))
        program = str(shared / layout.BIN / layout.NODE_PROGRAM)
        command = [sys.executable, "-I", "-S", program, "run",
                   "--folder", str(run), "--shared", str(shared),
                   "--name", "nias-tok-p", "--token", token]  # fmt: skip
        variables = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "SLURM_JOB_ID": "7",
                     "SLURM_JOB_NAME": "nias-tok-p"}  # fmt: skip
        with (run / layout.LOG).open("ab") as log:
            return subprocess.Popen(command, env=variables, stdout=log, stderr=log)

    return starting


def test_a_signal_ends_them_at_once_and_changes_nothing(start, deaf, tmp_path):
    job = start(f"http://127.0.0.1:{deaf}/simple")
    end = tmp_path / "shared/runs/lab/p/1" / layout.EXIT
    deadline = time.monotonic() + SECONDS
    while not end.exists() or not list((tmp_path / "shared/envs").glob(".building-*")):
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.05)
    told = time.monotonic()
    job.terminate()
    assert job.wait(SECONDS) == 0
    assert time.monotonic() - told < 15
    assert json.loads(end.read_text())["reason"] == "finished"


def test_tools_that_cannot_be_built_are_not_tried_again_at_once(start, tmp_path):
    index = "file:///nowhere"
    assert start(index).wait(SECONDS) == 0
    log = tmp_path / "shared/runs/lab/p/1" / layout.LOG
    assert log.read_text().count("Previews could not be made") == 1
    assert start(index, token="again").wait(SECONDS) == 0
    assert log.read_text().count("Previews could not be made") == 1


# When there are tools, and for how long


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Whether a job that ended so gets previews, on a node that has tools but may build none."""
    tools = environment.Place(tmp_path / "envs", tmp_path / "cache", "tools")
    (tools.folder / "bin").mkdir(parents=True)
    (tools.folder / "bin/python").symlink_to(Path(sys.executable).resolve())
    (tmp_path / "project/output").mkdir(parents=True)
    (tmp_path / "project/output/notes.txt").write_text("seen")

    def there(*_: object) -> environment.Environment:
        held = os.open(tmp_path, os.O_RDONLY)
        return environment.Environment(tools, False, True, 0.0, 1, held)

    def is_seen(reason: str, took: float, task: int | None = None, *, told: int = 0) -> bool:
        monkeypatch.setattr(environment, "there", there)
        monkeypatch.setattr(environment, "obtain", lambda *_: pytest.fail("it was to be built"))
        job = claim.Job(tmp_path, tmp_path, tmp_path, "tok", 7, "n1", 0, task=task)
        signals = StopSignals()
        if told:
            signals._heard(told, None)
        wish = environment.Wish((), "lab", {})
        after.make_previews(job, wish, signals, print, reason=reason, took=took)
        index = tmp_path / layout.PREVIEWS / layout.PREVIEW_INDEX
        return index.exists() and "notes.txt" in json.loads(index.read_text())["files"]

    return is_seen


def test_a_task_has_some_where_its_program_took_so_long_that_they_do_not_count(seen):
    assert not seen("finished", 5.0, task=3)
    assert seen("finished", 60.0, task=3)


def test_what_a_time_limit_left_is_seen_while_slurm_leaves_time(seen):
    assert not seen(TIME_LIMIT, 60.0, told=signal.SIGTERM)
    assert seen(TIME_LIMIT, 60.0, told=signal.SIGUSR1)


def test_a_job_that_is_told_to_stop_gives_its_slot_back_at_once(seen):
    assert not seen(TOLD_TO_STOP, 60.0, told=signal.SIGTERM)
