"""docs/client.md, followed to the letter on a real Slurm: commands and code as it prints them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from client import Client
from sites import client_of

from nias_bridge.site import Site

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
CODE = """import json, os
cutoff = int(os.environ.get("NIAS_PARAM_CUTOFF", 5))
print("cutoff is", cutoff)
with open("output/metrics.json", "w") as file:
    json.dump({"cutoff": cutoff}, file)"""

Run = Callable[..., subprocess.CompletedProcess[str]]


class Followed(NamedTuple):
    """What each command of the page printed, by the command, and where they were run."""

    printed: dict[str, str]
    folder: Path


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


@pytest.fixture(scope="module")
def known(site: Site) -> Client:
    return client_of(site)


@pytest.fixture(scope="module")
def run(known: Client, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a line as a researcher's bash would, in one folder, logged in at the site."""
    folder = tmp_path_factory.mktemp("researcher")
    (folder / "bin").mkdir()
    command = folder / "bin" / "nias"
    code = "import sys; from nias_bridge.nias import main; sys.argv[0] = 'nias'; main()"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    command.chmod(0o755)
    cells = [{"cell_type": "code", "source": CODE}]
    (folder / "recordings").mkdir()
    (folder / "recordings" / "night.csv").write_text("1,2,3\n")
    (folder / "spectra.ipynb").write_text(json.dumps({"nbformat": 4, "cells": cells}))
    settings = {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(folder / "config"),
        "NIAS_URL": known.url,
        "NIAS_TOKEN": known.known["Authorization"].removeprefix("Bearer "),
    }

    def ran(line: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-c", line], cwd=folder, env={**os.environ, **settings},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, (line, done.stdout, done.stderr)
        return done

    return ran


@pytest.fixture(scope="module")
def followed(run: Run) -> Followed:
    printed = {}
    for line in "".join(blocks("console")).splitlines():
        command = line.removeprefix("$ ")
        if not command.startswith(("pip ", "nias login")):
            printed[command] = run(command).stdout
    return Followed(printed, Path(run("pwd").stdout.strip()))


def test_a_notebook_comes_back_as_results(followed: Followed) -> None:
    told = followed.printed
    assert "spectra can be submitted" in told["nias check spectra"]
    assert json.loads((followed.folder / "back" / "metrics.json").read_text()) == {"cutoff": 5}
    assert "cutoff is 5" in told["nias log spectra"]
    assert (followed.folder / "spectra.zip").is_file()
    assert told["nias show spectra"].startswith("spectra, run 1: COMPLETED")
    assert "spectra, run 2: COMPLETED" in told["nias again spectra --wait"]
    assert "recordings: 1 file, 6 bytes" in told["nias datasets put recordings"]
    seeing = told["nias submit spectra --again --dataset recordings --wait"]
    assert "spectra, run 3: COMPLETED" in seeing


def test_the_python_of_the_page_runs(followed: Followed, run: Run) -> None:
    first, second = blocks("python")
    (followed.folder / "page.py").write_text(first + second)
    printed = run(f"PYTHONPATH={Path(__file__).parents[2]} {sys.executable} page.py").stdout
    assert printed.splitlines() == [
        "COMPLETED 0",
        "{'cutoff': 10} COMPLETED {'cutoff': 10.0}",
        "{'cutoff': 20} COMPLETED {'cutoff': 20.0}",
    ]
    assert (followed.folder / "from-python" / "metrics.json").is_file()


def test_a_script_is_told_the_status_of_the_code(run: Run) -> None:
    run("mkdir fails && echo 'print(1); raise SystemExit(7)' > fails/code.py")
    done = run("nias submit fails --wait --json", check=False)
    assert (done.returncode, json.loads(done.stdout)["state"]) == (7, "FAILED")
    assert done.stderr.splitlines()[-1] == "fails, run 1: FAILED"


def test_a_run_is_cancelled_while_it_is_followed(run: Run) -> None:
    run("mkdir long && echo 'import time; print(\"begun\", flush=True); time.sleep(300)'"
        " > long/code.py && nias submit long")  # fmt: skip
    done = run("nias log -f long & until nias log long | grep -q begun; do sleep 0.2; done; "
               "nias cancel long && wait $!")  # fmt: skip
    assert "begun" in done.stdout
    assert "long, run 1: CANCELLED" in run("nias show long").stdout
