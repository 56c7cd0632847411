"""The overlays that put the gateway outside the cluster, and run jobs as their owners' accounts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from client import Client
from containers import Containers, eventually

SLEEPS = "import time\nprint('executed', flush=True)\ntime.sleep(6)\n"
SAYS_WHO = """
import getpass, os
open("output/who.txt", "w").write(f"{getpass.getuser()} {os.getuid()}")
"""


@pytest.fixture(scope="module", autouse=True)
def as_it_comes(containers: Containers) -> Iterator[None]:
    """The cluster without overlays afterwards, and without what only they know of."""
    yield
    containers.up()
    containers.engine.run("network", "rm", f"{containers.project}_outside")


def overlaid(containers: Containers, overlay: str) -> Containers:
    cluster = replace(containers, overlays=(overlay,))
    cluster.up()
    return cluster


def test_a_gateway_outside_does_it_all_through_the_login_node(
    containers: Containers, client: Client
) -> None:
    outside = overlaid(containers, "compose.ssh.yaml")
    look = "ls -A /etc/munge /run/munge; getent hosts login slurmctld c1 | awk '{print $2}'"
    seen = outside.inside("gateway", "sh", "-c", look).split()
    assert seen == ["/etc/munge:", "/run/munge:", "login"]

    run = client.ended(client.upload("open('output/a', 'w').write('1')\n")["id"])
    assert (run["state"], client.results(run["id"])) == ("COMPLETED", {"a": b"1"})

    under_way = client.upload(SLEEPS)["id"]
    client.wait(under_way, lambda run: run["state"] == "RUNNING")
    outside.kill("login")
    outside.start("login")
    run = client.ended(under_way, seconds=120)
    assert run["state"] == "COMPLETED"
    assert client.log(under_way).splitlines().count("executed") == 1


def test_jobs_run_as_their_owners_accounts_and_keep_their_files_to_them(
    containers: Containers,
) -> None:
    unix = overlaid(containers, "compose.unix.yaml")
    ben = unix.client_of("ben")
    run = ben.ended(ben.upload(SAYS_WHO, name="who-runs-it")["id"])
    assert run["state"] == "COMPLETED", ben.log(run["id"])
    assert ben.results(run["id"]) == {"who.txt": b"ben 2002"}
    eventually(
        lambda: [r.user for r in unix.records() if r.name == run["job_name"]] == ["ben"],
        seconds=20,
    )
    folder = "/shared/nias/runs/ben/who-runs-it/1"
    allowed = f"test -r {folder}/slurm.out && echo yes || echo no"
    answers = {
        person: unix.inside("login", "sh", "-c", allowed, user=person).strip()
        for person in ("ana", "ben")
    }
    assert answers == {"ana": "no", "ben": "yes"}
