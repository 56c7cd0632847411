"""Previews may fail or be cut short: the job has ended as it did."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uv

from nias_bridge.node import layout, ship

SECONDS = 20


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
    ship.build(shared / layout.BIN)
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
    assert time.monotonic() - told < 3
    assert json.loads(end.read_text())["reason"] == "finished"


def test_tools_that_cannot_be_built_are_not_tried_again_at_once(start, tmp_path):
    index = "file:///nowhere"
    assert start(index).wait(SECONDS) == 0
    log = tmp_path / "shared/runs/lab/p/1" / layout.LOG
    assert log.read_text().count("Previews could not be made") == 1
    assert start(index, token="again").wait(SECONDS) == 0
    assert log.read_text().count("Previews could not be made") == 1
