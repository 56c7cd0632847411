"""The ways to a Slurm that the one suite is held to."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import pytest
from accounts import a_place_for_it, account, run_as_installed
from loginnode import LoginNode
from ways import AsOwner, Way, fake, real_one

from nias_bridge.localcluster import LocalCluster
from nias_bridge.ports import Scheduler
from nias_bridge.settings import Settings
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.slurm.local import LocalRunner
from nias_bridge.slurm.native import PyslurmScheduler, beside
from nias_bridge.slurm.ssh import Connection, SshRunner
from nias_bridge.slurm.sudo import SudoAs

# The ways to a real Slurm, each with its fixture. pyslurm is there where a site built it.
WAYS = {"fake": "", "command line": "scheduler", "ssh": "ssh", "ssh, as another": ""}
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
    folder = folder / request.param.replace(", ", "-").replace(" ", "-")
    folder.mkdir()
    if request.param == "fake":
        return fake(folder)
    if request.param == "ssh, as another":
        return request.getfixturevalue("as_another")(folder)
    return real_one(folder, request.getfixturevalue(WAYS[request.param]))


@pytest.fixture(scope="module")
def ssh(cluster: LocalCluster, login_node: LoginNode) -> Iterator[Scheduler]:
    """The command line on a login node of the session's Slurm."""
    connection = Connection(login_node.login, timeout=15)
    yield CliScheduler(SshRunner(connection, conf=cluster.slurm_conf, timeout=15))
    connection.close()


@pytest.fixture(scope="module")
def as_another(
    cluster: LocalCluster, login_node: LoginNode, nias: str
) -> Iterator[Callable[[Path], Way]]:
    """Jobs as an account of the login node that is not the gateway's, on shared storage there."""
    user, program = login_node.user, a_place_for_it()
    connection = Connection(login_node.login, timeout=15)
    asked = SshRunner(connection, conf=cluster.slurm_conf, timeout=15)
    by_sudo = SshRunner(connection, timeout=15)

    def own(folder: Path) -> None:
        for each in (folder, folder.parent):
            shutil.chown(each, user, user)
        for each in folder.iterdir():
            shutil.chown(each, user, user)

    with ExitStack() as stack:
        owner = stack.enter_context(account("owner"))

        def made(shared: Path) -> Way:
            runs = shared / "runs"
            private = [shared / place / "private" / "lab" for place in ("envs", "cache")]
            for folder in (*private, runs / "lab"):
                folder.mkdir(parents=True)
            for each in (shared, *shared.rglob("*")):
                shutil.chown(each, user, user)
            settings = Settings(
                shared_root=shared,
                database_url="sqlite://",
                secret_key="for tests only, and long enough for it",
                slurm_conf=cluster.slurm_conf,
                run_as=program,
            )
            stack.enter_context(run_as_installed(settings, user))
            as_user = SudoAs(by_sudo, program, PurePosixPath(runs))
            scheduler = AsOwner(CliScheduler(asked, as_user), owner)
            # Slurm tells what a job uses to its owner alone; what run-as takes is ASCII.
            return real_one(
                runs / "lab", scheduler, own=own, well="nias-t1-well", tells_usage=False
            )

        yield made
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
