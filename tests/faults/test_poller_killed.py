"""Whatever is killed, no run is lost and none is run twice: the poller, between any two steps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sites import client_of, jobs_named, served

from nias_bridge.localcluster import LocalCluster
from nias_bridge.site import Site, command, running

POINTS = [
    *("before STAGED", "after STAGED"),
    *("before SUBMITTING", "after SUBMITTING"),
    *("before sbatch", "after sbatch"),
    *("before PENDING", "after PENDING"),
    *("before COMPLETED", "after COMPLETED"),
]

# Every execution leaves a file of its own beside the project: the sites here have no walls.
COUNTS_ITSELF = """
import os
from pathlib import Path
Path("../executed-" + os.environ["SLURM_JOB_ID"]).touch()
Path("output/done").touch()
"""


@pytest.fixture(scope="module")
def quiet_site(cluster: LocalCluster, make_site: Callable[..., Site]) -> Iterator[Site]:
    """A gateway whose poller each test starts itself."""
    with served(make_site(cluster, sandbox="off")) as made:
        yield made


@pytest.mark.parametrize("point", POINTS)
def test_a_poller_killed_anywhere_leaves_nothing_lost_and_nothing_run_twice(
    point: str, quiet_site: Site, slurm: Callable[..., str]
) -> None:
    client = client_of(quiet_site)
    run_id = client.upload(COUNTS_ITSELF)["id"]
    call = command(quiet_site)
    script = Path(__file__).with_name("dying_poller.py").read_text()
    call["args"] = [sys.executable, "-c", script, point, "SIGKILL"]
    died = subprocess.run(**call, timeout=60, capture_output=True, check=False)
    assert died.returncode == -9, died.stderr.decode()

    with running(quiet_site, "poll"):
        run = client.ended(run_id, seconds=60)

    assert run["state"] == "COMPLETED", run
    assert len(jobs_named(slurm, run["job_name"])) == 1
    assert len(list(quiet_site.state.glob(f"shared/runs/*/{run['project']}/1/executed-*"))) == 1
