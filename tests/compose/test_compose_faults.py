"""Containers are killed under running jobs: what is told stays true, and nothing runs twice."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from client import Client
from containers import Containers, eventually
from watching import Watch, steps_back, told_too_early, watching

SERVICES = ("slurmctld", "slurmdbd", "db", "gateway", "postgres")
LAG_SECONDS = 5  # by which what is told may be behind
EACH = 4  # runs of each researcher for each service that is killed …
BEFORE = {"slurmctld": 3, "slurmdbd": 2, "db": 2}  # … of which so many before; the others meanwhile
DOWN_SECONDS = 2
COUNTS_ITSELF = "print('executed', flush=True)\nimport time; time.sleep({seconds})\n"
SHORT, MIDDLING, LONG, LONGER = (COUNTS_ITSELF.format(seconds=n) for n in (1, 3, 14, 16))
SAVES_EVERY = 5  # seconds: so long slurmctld may take to write down that a job runs
REQUEUE = {"nias.toml": "[job]\nrequeue = true\n"}
ORDER = {
    name: place
    for place, name in enumerate(
        ("RECEIVED", "STAGED", "SUBMITTING", "PENDING", "RUNNING", "COMPLETING", "COMPLETED")
    )
}
ENDS = {"COMPLETED", "NODE_FAIL"}
SAVED_BY_SLURMCTLD = "/var/lib/slurm/slurmctld/job_state"


@pytest.fixture(scope="module")
def clients(containers: Containers) -> dict[str, Client]:
    return {person: containers.client_of(person) for person in ("ana", "ben")}


@pytest.fixture(scope="module", autouse=True)
def three_nodes(containers: Containers) -> Iterator[None]:
    """All of them idle, before and after."""
    containers.up("--no-recreate", "--scale", "more=1")
    eventually(lambda: set(containers.nodes().values()) == {"idle"}, seconds=60)
    yield
    eventually(lambda: set(containers.nodes().values()) == {"idle"}, seconds=60)


def executions(client: Client, run_id: int) -> int:
    """How often the code of a run was begun: each time has left its line in the run's log."""
    return client.log(run_id).splitlines().count("executed")


def send(clients: dict[str, Client], code: str, count: int) -> list[tuple[str, int]]:
    """So many runs of each researcher, both at once: whose, and its id."""

    def all_of(person: str) -> list[tuple[str, int]]:
        return [(person, clients[person].upload(code)["id"]) for _ in range(count)]

    with ThreadPoolExecutor(len(clients)) as both:
        return [one for sent in both.map(all_of, clients) for one in sent]


def test_forty_runs_while_all_services_are_killed_in_turn(
    containers: Containers, clients: dict[str, Client]
) -> None:
    runs: list[tuple[str, int]] = []
    with watching(list(clients.values())) as watch:
        for service in SERVICES:
            code = LONG if service == "slurmctld" else SHORT
            before = BEFORE.get(service, EACH)
            runs += send(clients, code, before)
            if service == "slurmctld":
                wait_until_saved(containers, clients, runs)
            containers.kill(service)
            went = time.monotonic()
            runs += send(clients, SHORT, EACH - before)
            time.sleep(max(0.0, went + DOWN_SECONDS - time.monotonic()))  # part of the trial
            containers.start(service)
            eventually(lambda: clients["ana"].get("/api/v1/health"), seconds=60)
        ended = [clients[person].ended(run_id, seconds=120) for person, run_id in runs]
        eventually(lambda: told_to_the_end(watch, runs), seconds=60)

    assert len(runs) == 40
    assert {run["state"] for run in ended} == {"COMPLETED"}, "none lost"
    assert {executions(clients[person], run_id) for person, run_id in runs} == {1}, "none twice"
    names = [run["job_name"] for run in ended]
    eventually(lambda: all_recorded(containers, names), seconds=60)
    by_name = {r.name: r for r in containers.records() if r.state == "COMPLETED"}
    for run in ended:
        told, record = watch.told[run["id"]], by_name[run["job_name"]]
        assert steps_back(watch.states(run["id"]), ORDER) == []
        assert told_too_early(told, record) == []
        assert (run["job_id"], run["node"]) == (record.job_id, record.node)


def told_to_the_end(watch: Watch, runs: Sequence[tuple[str, int]]) -> bool:
    return all(watch.states(run_id)[-1:] == ["COMPLETED"] for _, run_id in runs)


def all_recorded(containers: Containers, names: Sequence[str]) -> bool:
    """Whether the accounting has each of these jobs as COMPLETED, once."""
    completed = [r.name for r in containers.records() if r.state == "COMPLETED"]
    return [completed.count(name) for name in names] == [1] * len(names)


def wait_until_saved(
    containers: Containers, clients: dict[str, Client], runs: Sequence[tuple[str, int]]
) -> None:
    """Return when slurmctld has written down all jobs and that a job runs on each of the nodes.

    What it has not, it forgets when it is killed, and gives the ids to other jobs: nothing that is
    done here can mend that.
    """

    def saved() -> bool:
        told = [clients[person].run(run_id) for person, run_id in runs]
        if not all(run["job_id"] for run in told):
            return False
        starts = [
            datetime.fromisoformat(run["started_at"]).timestamp()
            for run in told
            if run["state"] == "RUNNING"
        ]
        # They run on for a while: no end and no start is missed.
        return (
            len(starts) == 3
            and max(starts) + 1 < saved_at(containers)
            and time.time() < min(starts) + 12
        )

    eventually(saved, seconds=60)


def saved_at(containers: Containers) -> float:
    """When slurmctld last wrote down what jobs there are."""
    return float(containers.inside("slurmctld", "stat", "--format=%.Y", SAVED_BY_SLURMCTLD))


@pytest.fixture(scope="module")
def forgotten(containers: Containers, clients: dict[str, Client]) -> int:
    """A run that slurmctld knows nothing of any more, and that ended while it was away."""
    for _ in range(6):
        run_id, is_forgotten = killed_under_a_new_job(containers, clients["ana"])
        if is_forgotten:
            return run_id
        clients["ana"].ended(run_id, seconds=120)
    pytest.fail("slurmctld wrote its jobs down before it could be killed, six times")


def killed_under_a_new_job(containers: Containers, ana: Client) -> tuple[int, bool]:
    """A run that ended while slurmctld was away; whether that had not written it down."""
    containers.inside("login", "sbatch", "--output=/dev/null", "--wrap=true")
    before = saved_at(containers)
    eventually(lambda: saved_at(containers) > before, seconds=60)
    until = saved_at(containers) + SAVES_EVERY  # it writes nothing more down before
    run_id = int(ana.upload(MIDDLING)["id"])
    ana.wait(run_id, lambda run: run["state"] == "RUNNING")
    containers.kill("slurmctld")
    in_time = time.time() < until
    ana.wait(run_id, lambda run: run["evidence"]["phase"] == "finished")
    containers.start("slurmctld")
    return run_id, in_time


def test_a_job_that_slurmctld_forgot_is_told_as_its_node_tells(
    containers: Containers, clients: dict[str, Client], forgotten: int
) -> None:
    run = clients["ana"].wait(forgotten, lambda run: run["note"], seconds=60)
    assert run["state"] == "COMPLETING"
    assert "its node says that it has ended" in run["note"]
    spend_its_number(containers, run["job_id"])


def spend_its_number(containers: Containers, job_id: int) -> None:
    """slurmctld gives the number away; the node that knows it still is drained until resumed."""
    sbatch = ("sbatch", "--parsable", "--wait", "--output=/dev/null", "--wrap=true")
    told = containers.inside("login", "sh", "-c", f"{' '.join(sbatch)} || true")
    assert int(told) == job_id
    for node, state in containers.nodes().items():
        if state.startswith("drain"):
            containers.inside("slurmctld", "scontrol", "update", f"nodename={node}", "state=resume")
    eventually(lambda: set(containers.nodes().values()) == {"idle"}, seconds=60)


def test_a_node_killed_under_its_jobs_is_told_as_what_it_is(
    containers: Containers, clients: dict[str, Client]
) -> None:
    ana = clients["ana"]
    lost = ana.upload(LONGER)["id"]
    kept = ana.upload(LONGER, more=REQUEUE)["id"]
    on = [ana.wait(run_id, lambda run: executed(ana, run))["node"] for run_id in (lost, kept)]
    assert set(on) <= {"c1", "c2", "c3"} and len(set(on)) == 2
    for node in on:
        containers.kill(service_of(node))

    seen = Seen(containers, ana, [lost, kept])
    seen.until_end_of(lost)
    with ThreadPoolExecutor(1) as meanwhile:
        started = [meanwhile.submit(containers.start, service_of(node)) for node in on]
        seen.until_end_of(kept)
    for each in started:
        each.result()
    told = {run: [s for s in seen.states[run] if s != "COMPLETING"] for run in (lost, kept)}
    assert told[lost] == ["RUNNING", "NODE_FAIL"], "it never was anything else"
    assert told[kept] == ["RUNNING", "PENDING", "RUNNING", "COMPLETED"]
    assert ana.run(kept)["accounting"]["restarts"] == 1
    assert (executions(ana, lost), executions(ana, kept)) == (1, 2)


def test_its_end_is_that_which_its_node_wrote(clients: dict[str, Client], forgotten: int) -> None:
    run = clients["ana"].ended(forgotten)
    assert (run["state"], executions(clients["ana"], forgotten)) == ("COMPLETED", 1)
    assert "this is what its node wrote" in run["note"]


def executed(client: Client, run: dict[str, Any]) -> bool:
    return run["state"] == "RUNNING" and executions(client, run["id"]) > 0


def service_of(node: str) -> str:
    return node if node in {"c1", "c2"} else "more"


class Seen:
    """The states told of runs, by page and by API alike, each once in a row.

    None is told but what Slurm says at that moment, or said a few seconds before.
    """

    def __init__(self, containers: Containers, client: Client, run_ids: Sequence[int]) -> None:
        self.containers = containers
        self.client = client
        self.states: dict[int, list[str]] = {run_id: [] for run_id in run_ids}
        self.jobs = {client.run(run_id)["job_id"]: run_id for run_id in run_ids}
        self.slurm: list[tuple[float, int, str]] = []

    def until_end_of(self, run_id: int) -> None:
        self.client.wait(run_id, lambda run: self._look() and run["ended"], seconds=120)

    def _look(self) -> bool:
        self._ask_slurm()
        for run_id, states in self.states.items():
            for told in (self.client.run(run_id)["state"], self._on_page(run_id)):
                so = self._of_late(run_id)
                assert told in so, f"run {run_id} is told as {told}, in Slurm it is {so}"
                if states[-1:] != [told]:
                    states.append(told)
        return True

    def _ask_slurm(self) -> None:
        jobs = ",".join(map(str, self.jobs))
        squeue = ("squeue", "--noheader", "--states=all", f"--jobs={jobs}", "--format=%A %T")
        for line in self.containers.inside("login", *squeue).splitlines():
            job_id, state = line.split()
            self.slurm.append((time.monotonic(), self.jobs[int(job_id)], state))

    def _of_late(self, run_id: int) -> set[str]:
        since = time.monotonic() - LAG_SECONDS
        asked = [(at, state) for at, run, state in self.slurm if run == run_id]
        # What it said last before that may have been so for a while yet.
        said = {state for at, state in asked if at > since}
        said |= {*[state for at, state in asked if at <= since][-1:]}
        # squeue may know of an end before the record of it has come.
        return said | ({"COMPLETING"} if said & ENDS else set())

    def _on_page(self, run_id: int) -> str:
        page = self.client.get(f"/runs/{run_id}").decode()
        (state,) = re.findall(r'id="status".*?data-state="(\w+)"', page, re.DOTALL)
        return str(state)
