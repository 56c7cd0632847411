"""The road of one upload through a gateway that reaches Slurm on a login node alone."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import loginnode
import pytest
from client import Client
from loginnode import LoginNode
from sites import client_of, jobs_named, served

from nias_bridge import site as sites
from nias_bridge.localcluster import LocalCluster
from nias_bridge.site import Site, running

CODE = """
from pathlib import Path
Path("output/answer.txt").write_text("42\\n")
"""


@pytest.fixture(scope="module")
def outside(
    cluster: LocalCluster, login_node: LoginNode, make_site: Callable[..., Site]
) -> Iterator[Site]:
    """A bridge with no Slurm commands of its own; as root both ends are the login's account."""
    with pytest.MonkeyPatch.context() as patch:
        if os.geteuid() == 0:
            patch.setattr(sites, "SERVICE_USER", loginnode.ACCOUNT)
        key = login_node.folder / "gateway"
        shutil.copy(login_node.login.key, key)
        shutil.chown(key, login_node.user)
        made = make_site(
            cluster,
            ssh_host=login_node.login.host,
            ssh_port=login_node.port,
            ssh_user=login_node.user,
            ssh_key=key,
            ssh_known_hosts=login_node.login.known_hosts,
        )
        with served(made), running(made, "poll"):
            yield made


@pytest.fixture(scope="module")
def researcher(outside: Site) -> Client:
    return client_of(outside)


def test_a_run_completes_and_brings_its_results_back(
    outside: Site, researcher: Client, login_node: LoginNode
) -> None:
    run = researcher.ended(researcher.upload(CODE)["id"])
    assert run["state"] == "COMPLETED", run
    assert researcher.results(run["id"]) == {"answer.txt": b"42\n"}
    log = outside.log("poll").read_text()
    assert f"Slurm is asked by its commands on {login_node.login}." in log


def test_connections_that_die_again_and_again_lose_no_run_and_start_none_twice(
    researcher: Client, login_node: LoginNode, slurm: Callable[..., str]
) -> None:
    runs = [researcher.upload(CODE) for _ in range(4)]
    for run in runs:
        login_node.signal(signal.SIGKILL)
        researcher.wait(run["id"], lambda told: told["state"] != "RECEIVED")
    for run in runs:
        ended = researcher.ended(run["id"])
        assert ended["state"] == "COMPLETED", ended
        assert jobs_named(slurm, ended["job_name"]) == [str(ended["job_id"])]


def test_a_key_that_is_no_longer_known_is_told_to_who_looks_and_mended_without_a_restart(
    outside: Site, researcher: Client, login_node: LoginNode
) -> None:
    known = Path(login_node.login.known_hosts)
    right = known.read_text()
    known.write_text("")
    login_node.signal(signal.SIGKILL)
    try:
        run = researcher.upload(CODE)
        told = researcher.wait(run["id"], lambda told: "has no key of" in (told["note"] or ""))
        assert told["state"] == "STAGED"
    finally:
        known.write_text(right)
    assert researcher.ended(run["id"])["state"] == "COMPLETED"
