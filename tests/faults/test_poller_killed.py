"""Whatever is killed, no run is lost and none is run twice: the poller, between any two steps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.client import Client

from nias_bridge.site import Site, command, running, wait_until_served

POINTS = [
    *("before STAGED", "after STAGED"),
    *("before SUBMITTING", "after SUBMITTING"),
    *("before sbatch", "after sbatch"),
    *("before PENDING", "after PENDING"),
    *("before COMPLETED", "after COMPLETED"),
]

# Every execution leaves a file of its own beside the run's folder.
COUNTS_ITSELF = """
import os
from pathlib import Path
Path("../executed-" + os.environ["SLURM_JOB_ID"]).touch()
Path("output/done").touch()
"""


@pytest.fixture(scope="module")
def quiet_site(make_site: Callable[..., Site]) -> Iterator[Site]:
    """A gateway whose poller each test starts itself."""
    made = make_site()
    with running(made, "serve"):
        wait_until_served(made)
        yield made


@pytest.mark.parametrize("point", POINTS)
def test_a_poller_killed_anywhere_leaves_nothing_lost_and_nothing_run_twice(
    point: str, quiet_site: Site, slurm: Callable[..., str]
) -> None:
    client = Client(quiet_site.url)
    run_id = client.upload(COUNTS_ITSELF)["id"]
    call = command(quiet_site)
    script = Path(__file__).with_name("dying_poller.py").read_text()
    call["args"] = [sys.executable, "-c", script, point]
    died = subprocess.run(**call, timeout=60, capture_output=True)
    assert died.returncode == -9, died.stderr.decode()

    with running(quiet_site, "poll"):
        run = client.ended(run_id, seconds=60)

    assert run["state"] == "COMPLETED", run
    assert len(_jobs(slurm, run)) == 1
    assert len(list(quiet_site.state.glob(f"shared/runs/*/{run['project']}/1/executed-*"))) == 1


def _jobs(slurm: Callable[..., str], run: dict[str, Any]) -> list[str]:
    return slurm(
        *("sacct", "-XnPD", "--starttime=now-1hour", f"--name={run['job_name']}"),
        "--format=JobID",
    ).split()
