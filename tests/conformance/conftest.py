"""The ways to a Slurm that the one suite is held to."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from loginnode import LoginNode
from ways import Way, fake, real_one

from nias_bridge.localcluster import LocalCluster
from nias_bridge.ports import Scheduler
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.slurm.local import LocalRunner
from nias_bridge.slurm.native import PyslurmScheduler, beside
from nias_bridge.slurm.ssh import Connection, SshRunner

# The ways to a real Slurm, each with its fixture. pyslurm is there where a site built it.
WAYS = {"fake": "", "command line": "scheduler", "ssh": "ssh"}
if find_spec("pyslurm"):
    WAYS["pyslurm"] = "pyslurm"
else:
    collect_ignore = ["test_pyslurm.py"]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="nias-jobs-", dir="/tmp"))
    made.chmod(0o777)  # for any account, as which the jobs of a way run
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest, folder: Path) -> Way:
    """Each way in turn, its jobs in a folder of their own."""
    folder = folder / request.param.replace(" ", "-")
    folder.mkdir()
    if request.param == "fake":
        return fake(folder)
    return real_one(folder, request.getfixturevalue(WAYS[request.param]))


@pytest.fixture(scope="module")
def ssh(cluster: LocalCluster, login_node: LoginNode) -> Iterator[Scheduler]:
    """The command line on a login node of the session's Slurm."""
    connection = Connection(login_node.login, timeout=15)
    yield CliScheduler(SshRunner(connection, conf=cluster.slurm_conf, timeout=15))
    connection.close()


@pytest.fixture(scope="module")
def pyslurm(cluster: LocalCluster) -> Iterator[PyslurmScheduler]:
    """pyslurm on the session's Slurm, with the command line beside it."""
    scheduler = beside(LocalRunner(conf=cluster.slurm_conf, timeout=15))
    yield scheduler
    scheduler.worker.close()


@pytest.fixture(scope="module")
def real(folder: Path, scheduler: Scheduler) -> Way:
    """The command line on a real Slurm."""
    return real_one(folder, scheduler)
