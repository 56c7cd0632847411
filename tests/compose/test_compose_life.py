"""The cluster of containers goes down and comes up again, and is gone when it is to be gone."""

from __future__ import annotations

from client import Client
from containers import Containers


def test_runs_and_accounting_survive_down_and_up(containers: Containers, client: Client) -> None:
    run = client.ended(client.upload("open('output/a', 'w').write('1')\n")["id"])
    containers.compose("down", "--timeout", "5")
    containers.up()
    assert client.run(run["id"]) == run
    assert client.results(run["id"]) == {"a": b"1"}
    assert run["job_id"] in {record.job_id for record in containers.records()}
    after = client.ended(client.upload("print(1)\n")["id"])
    assert (after["state"], after["job_id"] > run["job_id"]) == ("COMPLETED", True)


def test_down_with_volumes_leaves_nothing(containers: Containers) -> None:
    ours = f"label=com.docker.compose.project={containers.project}"
    listings = (
        ("ps", "--all", "--quiet"),
        ("volume", "ls", "--quiet"),
        ("network", "ls", "--quiet"),
    )
    assert all(containers.engine.run(*what, "--filter", ours).stdout for what in listings)
    containers.compose("down", "--volumes", "--timeout", "2")
    assert not any(containers.engine.run(*what, "--filter", ours).stdout for what in listings)
    containers.up()
