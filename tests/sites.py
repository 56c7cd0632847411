"""Fixtures: gateways and pollers, as their own account, on the session's real Slurm."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import processes
import pytest
from client import Client
from freeports import free_port

from nias_bridge.localcluster import LocalCluster
from nias_bridge.site import Site, running, said, set_up, wait_until_served

# Tests look often and give up soon; the defaults are kinder to a site's Slurm.
QUICK = {
    "poll_interval": 0.3,
    "poll_interval_idle": 1,
    "lost_after": 4,
    "lease_seconds": 3,
    "slurm_timeout": 15,
    "previews": False,
}


OWNER = "lab@example.org"  # whose runs are those of the handle “lab”


@pytest.fixture(scope="session")
def make_site() -> Iterator[Callable[..., Site]]:
    """Sets up bridges on a Slurm, each in a folder of its own."""
    folders = []

    def make(cluster: LocalCluster, **settings: Any) -> Site:
        state = Path(tempfile.mkdtemp(prefix="nias-site-"))
        state.chmod(0o755)
        folders.append(state)
        made = set_up(
            state, port=free_port(), slurm_conf=cluster.slurm_conf, **{**QUICK, **settings}
        )
        said(made, "user", "add", OWNER)
        said(made, "install-shared")
        return made

    yield make
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def site(cluster: LocalCluster, make_site: Callable[..., Site]) -> Iterator[Site]:
    """A bridge with its gateway and poller running."""
    with served(make_site(cluster)) as made, running(made, "poll"):
        yield made


@contextmanager
def served(site: Site) -> Iterator[Site]:
    """The site's gateway, up and answering."""
    with running(site, "serve"):
        wait_until_served(site)
        yield site


def killed(pid: int) -> None:
    """Every process of the gateway ends at once, with no word to any of them.

    When it returns, none of them can take a connection any more.
    """
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    processes.send(signal.SIGKILL, (pid, *map(int, children)))


@pytest.fixture(scope="session")
def client(site: Site) -> Client:
    return client_of(site)


def client_of(site: Site) -> Client:
    """A client with a token of the site's one person."""
    return Client(site.url, said(site, "token", "add", OWNER))


@pytest.fixture(scope="session")
def slurm(cluster: LocalCluster) -> Callable[..., str]:
    """Runs a Slurm command, as `user` where one is named, and returns what it printed."""
    return commands_of(cluster)


def commands_of(cluster: LocalCluster) -> Callable[..., str]:
    """As the fixture `slurm`, for any cluster."""

    def run(*argv: str, user: str | None = None) -> str:
        identity: dict[str, Any] = {"user": user, "group": user, "extra_groups": []}
        done = subprocess.run(
            argv,
            **(identity if user else {}),
            env={"SLURM_CONF": str(cluster.slurm_conf), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout

    return run


def jobs_named(slurm: Callable[..., str], name: str) -> list[str]:
    """The ids of all jobs of a name that Slurm had in the last minutes, ended ones included."""
    return slurm("squeue", "--states=all", "--noheader", f"--name={name}", "--format=%i").split()
