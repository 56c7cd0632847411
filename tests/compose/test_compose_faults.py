"""Containers are killed under running jobs: what is told stays true, and nothing runs twice."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import pytest
from client import Client
from containers import Containers, eventually

SERVICES = ("slurmctld", "slurmdbd", "db", "gateway", "postgres")
RUNS_EACH = 6
DOWN_SECONDS = 2
COUNTS_ITSELF = "print('executed', flush=True)\nimport time; time.sleep({seconds})\n"
# slurmctld takes up to five seconds to write down that a job runs.
SHORT, LONG, LONGER = (COUNTS_ITSELF.format(seconds=n) for n in (2, 8, 25))
REQUEUE = {"nias.toml": "[job]\nrequeue = true\n"}


@pytest.fixture(scope="module", autouse=True)
def three_nodes(containers: Containers) -> Iterator[None]:
    """All of them idle, before and after."""
    containers.up("--no-recreate", "--scale", "more=1")
    eventually(lambda: set(containers.nodes().values()) == {"idle"}, seconds=60)
    yield
    eventually(lambda: set(containers.nodes().values()) == {"idle"}, seconds=60)


def executions(client: Client, run_id: int) -> int:
    return client.log(run_id).splitlines().count("executed")


def test_services_killed_in_turn_lose_no_run_and_run_none_twice(
    containers: Containers, client: Client
) -> None:
    runs: list[int] = []
    for service in SERVICES:
        code = LONG if service == "slurmctld" else SHORT
        runs += [client.upload(code)["id"] for _ in range(RUNS_EACH)]
        if service == "slurmctld":
            wait_until_saved(containers, client, runs)
        containers.kill(service)
        time.sleep(DOWN_SECONDS)  # how long it is down is part of the trial
        containers.start(service)
        eventually(lambda: client.get("/api/v1/health"), seconds=60)
    ended = [client.ended(run_id, seconds=180) for run_id in runs]
    assert {run["state"] for run in ended} == {"COMPLETED"}
    assert {executions(client, run_id) for run_id in runs} == {1}
    completed = [r.name for r in containers.records() if r.state == "COMPLETED"]
    assert [completed.count(run["job_name"]) for run in ended] == [1] * len(runs)


def wait_until_saved(containers: Containers, client: Client, runs: Sequence[int]) -> None:
    """Return when slurmctld has written down all jobs and that a job runs on each of the nodes.

    What it has not, it forgets when it is killed, and gives the ids to other jobs: nothing that is
    done here can mend that.
    """

    def saved() -> bool:
        told = [client.run(run_id) for run_id in runs]
        if not all(run["job_id"] for run in told):
            return False
        starts = [
            datetime.fromisoformat(run["started_at"]).timestamp()
            for run in told
            if run["state"] == "RUNNING"
        ]
        file = "/var/lib/slurm/slurmctld/job_state"
        written = float(containers.inside("slurmctld", "stat", "--format=%.Y", file))
        # They run on for a while: no end and no start is missed.
        return len(starts) == 3 and max(starts) + 1 < written and time.time() < min(starts) + 6

    eventually(saved, seconds=60)


def test_a_node_killed_under_its_job_is_told_as_what_it_is(
    containers: Containers, client: Client
) -> None:
    lost = client.upload(LONGER)["id"]
    kept = client.upload(LONGER, more=REQUEUE)["id"]
    on = [client.wait(run_id, lambda run: executed(client, run))["node"] for run_id in (lost, kept)]
    assert set(on) <= {"c1", "c2", "c3"} and len(set(on)) == 2
    for node in on:
        containers.kill(service_of(node))

    told = seen(client, lost, seconds=120)
    assert told == ["RUNNING", "NODE_FAIL"], "it never was anything else"
    for node in on:
        containers.start(service_of(node))
    run = client.ended(kept, seconds=120)
    assert run["state"] == "COMPLETED"
    assert run["accounting"]["restarts"] == 1
    assert (executions(client, lost), executions(client, kept)) == (1, 2)


def executed(client: Client, run: dict[str, Any]) -> bool:
    return run["state"] == "RUNNING" and executions(client, run["id"]) > 0


def service_of(node: str) -> str:
    return node if node in {"c1", "c2"} else "more"


def seen(client: Client, run_id: int, *, seconds: float) -> list[str]:
    """The states that the API told of a run from now to its end, each once in a row."""
    states: list[str] = []

    def look(run: dict[str, Any]) -> bool:
        if states[-1:] != [run["state"]]:
            states.append(run["state"])
        return bool(run["ended"])

    client.wait(run_id, look, seconds=seconds)
    return states
