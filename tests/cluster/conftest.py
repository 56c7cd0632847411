"""A gateway and a poller, as their own account, on the session's real Slurm."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cluster.client import Client

from nias_bridge.localcluster import LocalCluster
from nias_bridge.site import Site, running, set_up, wait_until_served

# Tests look often and give up soon; the defaults are kinder to a site's Slurm.
QUICK = {"poll_interval": 0.3, "lost_after": 4, "lease_seconds": 3, "slurm_timeout": 15}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def make_site(cluster: LocalCluster) -> Iterator[Callable[..., Site]]:
    """Sets up bridges on the session's Slurm, each in a folder of its own."""
    folders = []

    def make(**settings: Any) -> Site:
        state = Path(tempfile.mkdtemp(prefix="nias-site-"))
        state.chmod(0o755)
        folders.append(state)
        return set_up(
            state, port=free_port(), slurm_conf=cluster.slurm_conf, **{**QUICK, **settings}
        )

    yield make
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def site(make_site: Callable[..., Site]) -> Iterator[Site]:
    """A bridge with its gateway and poller running."""
    made = make_site()
    with ExitStack() as stack:
        for name in ("serve", "poll"):
            stack.enter_context(running(made, name))
        wait_until_served(made)
        yield made


@pytest.fixture(scope="session")
def client(site: Site) -> Client:
    return Client(site.url)


@pytest.fixture(scope="session")
def slurm(cluster: LocalCluster) -> Callable[..., str]:
    """Runs a Slurm command, as `user` where one is named, and returns what it printed."""

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
