"""The cluster of containers goes down and comes up again, and is gone when it is to be gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from client import Client
from containers import Containers

PRODUCTION = Path(__file__).parents[2] / "docs/production.md"
WRITES = "open('output/a', 'w').write('{text}')\n"


def test_runs_and_accounting_survive_down_and_up(containers: Containers, client: Client) -> None:
    run = client.ended(client.upload("open('output/a', 'w').write('1')\n")["id"])
    containers.compose("down", "--timeout", "5")
    containers.up()
    assert lasting(client.run(run["id"])) == lasting(run)
    assert client.results(run["id"]) == {"a": b"1"}
    assert run["job_id"] in {record.job_id for record in containers.records()}
    after = client.ended(client.upload("print(1)\n")["id"])
    assert (after["state"], after["job_id"] > run["job_id"]) == ("COMPLETED", True)


def test_a_backup_restored_as_the_documentation_says_has_its_runs_and_no_others(
    containers: Containers, client: Client
) -> None:
    kept = client.ended(client.upload(WRITES.format(text="kept"), name="backed-up")["id"])
    containers.inside("login", "touch", "/shared/begun")
    dump = ("pg_dump", "--host=/run/postgresql", "--format=custom", "--file=nias.dump", "nias")
    containers.inside("postgres", "env", "-C", "/var/lib/postgresql", *dump, user="postgres")
    lost = client.upload(WRITES.format(text="lost"), name="backed-up", again="1")
    client.ended(lost["id"])

    containers.compose("stop", "--timeout", "10", "gateway")
    restore = ("pg_restore", "--host=/run/postgresql", "--clean", "--if-exists", "--dbname=nias")
    containers.inside("postgres", *restore, "/var/lib/postgresql/nias.dump", user="postgres")
    containers.inside("login", "bash", "-euc", moved_aside(), user="root")
    containers.start("gateway")

    assert lasting(client.run(kept["id"])) == lasting(kept)
    assert client.results(kept["id"]) == {"a": b"kept"}
    new = client.upload(WRITES.format(text="new"), name="backed-up", again="1")
    new = client.ended(new["id"])
    assert (new["number"], new["state"]) == (lost["number"], "COMPLETED")
    assert client.results(new["id"]) == {"a": b"new"}
    aside = "ls /shared/nias/lost/runs/ana/backed-up"
    assert containers.inside("login", "sh", "-c", aside).split() == [str(lost["number"])]


def lasting(run: dict[str, Any]) -> dict[str, Any]:
    """What is told of an ended run, but for what it takes of the disk: that is weighed later."""
    return {name: told for name, told in run.items() if name != "stored_bytes"}


def moved_aside() -> str:
    """The commands of docs/production.md that move aside what a restored database does not know."""
    lines = [line.strip() for line in PRODUCTION.read_text().splitlines()]
    begin = lines.index("# cd /shared/nias && mkdir lost")
    commands = lines[begin : lines.index("```", begin)]
    return "\n".join(line[2:] for line in commands).replace("/backup/begun", "/shared/begun")


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
