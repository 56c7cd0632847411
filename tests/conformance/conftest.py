"""The ways to a Slurm that the one suite is held to."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from loginnode import LoginNode
from ways import Way, command_line, fake

from nias_bridge.localcluster import LocalCluster
from nias_bridge.ports import Scheduler
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.slurm.ssh import Connection, SshRunner


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="nias-jobs-", dir="/tmp"))
    made.chmod(0o777)  # for any account, as which the jobs of a way run
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module", params=["fake", "command line", "ssh"])
def way(request: pytest.FixtureRequest, folder: Path) -> Way:
    """Each way in turn, its jobs in a folder of their own."""
    folder = folder / request.param.replace(" ", "-")
    folder.mkdir()
    if request.param == "fake":
        return fake(folder)
    by_command_line = request.getfixturevalue("scheduler")
    if request.param == "ssh":
        return command_line(folder, request.getfixturevalue("ssh"))
    return command_line(folder, by_command_line)


@pytest.fixture(scope="module")
def ssh(cluster: LocalCluster, login_node: LoginNode) -> Iterator[Scheduler]:
    """The command line on a login node of the session's Slurm."""
    connection = Connection(login_node.login, timeout=15)
    yield CliScheduler(SshRunner(connection, conf=cluster.slurm_conf, timeout=15))
    connection.close()


@pytest.fixture(scope="module")
def real(folder: Path, scheduler: Scheduler) -> Way:
    """The command line on a real Slurm."""
    return command_line(folder, scheduler)
