"""A job says that it is at work, whatever it waits for, and no longer than it is."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from nias_bridge.node import alive, layout


def said(claim: Path) -> float:
    return float(json.loads((claim / layout.ALIVE).read_text())["at"])


def test_it_is_said_again_and_again_while_a_program_is_waited_for(tmp_path: Path) -> None:
    began = time.time()
    with alive.saying_so(tmp_path, every=0.02):
        subprocess.run(["sleep", "0.2"], check=True)
        first = said(tmp_path)
        subprocess.run(["sleep", "0.2"], check=True)
        assert began < first < said(tmp_path) <= time.time()
    last = said(tmp_path)
    time.sleep(0.1)
    assert said(tmp_path) == last


def test_where_there_is_no_claim_nothing_is_made(tmp_path: Path) -> None:
    with alive.saying_so(tmp_path / "none", every=0.01):
        time.sleep(0.1)
    assert not list(tmp_path.iterdir())
