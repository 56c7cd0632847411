"""What tests of several folders share: a real Slurm, and the account its jobs run as."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import loginnode
import pytest
from hypothesis import HealthCheck, settings
from loginnode import LoginNode
from promised import missing

from nias_bridge import localcluster
from nias_bridge.localcluster import LocalCluster
from nias_bridge.localcluster.daemons import last_words
from nias_bridge.ports import Scheduler
from nias_bridge.site import service_user
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.slurm.local import LocalRunner

pytest_plugins = ["databases", "sites"]

# The same examples each time; a busy machine may take as long for them as it likes.
settings.register_profile(
    "tests",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """A real Slurm of two slots, in a short path: sockets have little room for a long one."""
    if packages := localcluster.missing_packages():
        missing(f"no Slurm here: apt-get install {' '.join(packages)}")
    state = Path(tempfile.mkdtemp(prefix="nias-slurm-", dir="/tmp"))
    state.chmod(0o755)
    try:
        yield localcluster.up(state, slots=2, user=service_user())
    finally:
        localcluster.down(state)
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture(scope="session")
def scheduler(cluster: LocalCluster) -> Scheduler:
    """The command line on the session's Slurm."""
    return CliScheduler(LocalRunner(conf=cluster.slurm_conf, timeout=15))


@pytest.fixture(scope="session")
def login_node() -> Iterator[LoginNode]:
    """A real sshd on loopback."""
    if loginnode.SSHD is None:
        missing("no sshd here: apt-get install openssh-server")
    with loginnode.running() as started:
        yield started


@pytest.fixture(scope="session")
def nias() -> str:
    """As root: the system account that gateway and jobs run as."""
    if user := service_user():
        return user
    pytest.skip("only root can be another account")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What fails on a real Slurm is shown with how its daemons are and what they last said."""
    report = yield
    clusters = [
        one for one in getattr(item, "funcargs", {}).values() if isinstance(one, LocalCluster)
    ]
    if report.failed and clusters:
        report.sections.append(("Slurm", "\n".join(map(daemons_of, clusters))))
    return report


def daemons_of(cluster: LocalCluster) -> str:
    told = [
        f"{each.name} ({each.pid}): {each.problem or 'serves'}"
        for each in localcluster.status(cluster.state)
    ]
    logs = sorted((cluster.state / "log").glob("*.log"))
    return "\n".join([*told, *(f"{log.name}:\n{last_words(log)}" for log in logs)])
