"""Slurm's own daemons die or freeze while a run is on its way; what is told stays true."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import processes
import pytest
from sites import client_of, commands_of, jobs_named, served

from nias_bridge import localcluster
from nias_bridge.localcluster import LocalCluster
from nias_bridge.site import Site, running, service_user

COUNTS_ITSELF = """
import os, time
from pathlib import Path
Path("../executed-" + os.environ["SLURM_JOB_ID"]).touch()
time.sleep({seconds})
"""
WAITS = """
import time
from pathlib import Path
while not Path("{go}").exists():
    time.sleep(0.05)
"""
FILLS_A_SLOT = "import time; time.sleep(600)\n"


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[LocalCluster]:
    """A Slurm of this module's own: other tests' runs are not to suffer."""
    state = Path(tempfile.mkdtemp(prefix="nias-slurm-"))
    state.chmod(0o755)
    try:
        yield localcluster.up(state, slots=2, user=service_user())
    finally:
        localcluster.down(state)
        shutil.rmtree(state)


@pytest.fixture(scope="module")
def fragile(own_cluster: LocalCluster, make_site: Callable[..., Site]) -> Iterator[Site]:
    with served(make_site(own_cluster, sandbox="off")) as site, running(site, "poll"):
        yield site


@pytest.fixture(scope="module")
def slurm(own_cluster: LocalCluster) -> Callable[..., str]:
    return commands_of(own_cluster)


def pid_of(cluster: LocalCluster, name: str) -> int:
    (pid,) = (d.pid for d in localcluster.status(cluster.state) if d.name == name)
    assert pid is not None
    return pid


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    processes.send(signal.SIGSTOP, [pid])
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def wait_until_saved(cluster: LocalCluster, slurm: Callable[..., str], user: str | None) -> None:
    """Return when slurmctld has written down how its jobs are now."""
    now, deadline = time.time(), time.monotonic() + 60
    # It does so within seconds of a change, such as this one, and not before there is one.
    held = ("sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true")
    slurm("scancel", slurm(*held, user=user).strip())
    saved = cluster.state / "data/slurmctld/job_state"
    while not saved_since(saved, now):
        assert time.monotonic() < deadline, "slurmctld did not save its state"
        time.sleep(0.1)


def saved_since(file: Path, moment: float) -> bool:
    try:
        return file.stat().st_mtime > moment
    except FileNotFoundError:  # it is being replaced
        return False


def executions(site: Site, project: str) -> int:
    return len(list(site.state.glob(f"shared/runs/*/{project}/1/executed-*")))


def test_a_run_that_ends_while_slurmdbd_is_away_waits_for_its_record(
    own_cluster: LocalCluster, fragile: Site
) -> None:
    client = client_of(fragile)
    go = fragile.state / "shared" / "go"
    code = WAITS.format(go=go) + COUNTS_ITSELF.format(seconds=2)
    run_id = client.upload(code)["id"]
    client.wait(run_id, lambda run: run["state"] == "RUNNING")
    processes.send(signal.SIGKILL, [pid_of(own_cluster, "slurmdbd")])
    go.touch()
    try:
        seen = client.wait(run_id, lambda run: run["evidence"]["phase"] == "finished")
        assert not seen["ended"], "the node's word is evidence, not the verdict"
    finally:
        localcluster.up(own_cluster.state, slots=2, user=service_user())
    run = client.ended(run_id, seconds=90)
    assert run["state"] == "COMPLETED"
    assert run["accounting"]["elapsed_seconds"] >= 2


def test_a_submission_into_a_frozen_slurmctld_is_found_by_its_token_and_not_repeated(
    own_cluster: LocalCluster, fragile: Site, slurm: Callable[..., str]
) -> None:
    client = client_of(fragile)
    with frozen(pid_of(own_cluster, "slurmctld")):
        run_id = client.upload(COUNTS_ITSELF.format(seconds=0))["id"]
        client.wait(run_id, lambda run: run["state"] == "SUBMITTING" and run["note"])
    run = client.ended(run_id, seconds=90)
    assert run["state"] == "COMPLETED"
    assert len(jobs_named(slurm, run["job_name"])) == 1
    assert executions(fragile, run["project"]) == 1


def test_a_job_that_slurmctld_forgot_is_submitted_once_more_and_not_taken_for_another(
    own_cluster: LocalCluster, fragile: Site, slurm: Callable[..., str]
) -> None:
    client = client_of(fragile)
    fillers = [client.upload(FILLS_A_SLOT)["id"] for _ in range(2)]
    for filler in fillers:
        client.wait(filler, lambda run: run["state"] == "RUNNING")
    wait_until_saved(own_cluster, slurm, fragile.user)  # the fillers are to survive

    run_id = client.upload(COUNTS_ITSELF.format(seconds=0))["id"]
    lost = client.wait(run_id, lambda run: run["job_id"] is not None)
    processes.send(signal.SIGKILL, [pid_of(own_cluster, "slurmctld")])
    localcluster.up(own_cluster.state, slots=2, user=service_user())
    other = slurm("sbatch", "--parsable", "--output=/dev/null", "--wrap=true", user=fragile.user)
    # The case this test is about; where Slurm did remember the job, the rest holds alike.
    reused = int(other) == lost["job_id"]

    # Cancelled rather than left to end: a slurmctld that was killed may not hear of an end.
    for filler in fillers:
        if not client.run(filler)["ended"]:
            client.cancel(filler)
    run = client.ended(run_id, seconds=120)
    assert run["state"] == "COMPLETED"
    assert executions(fragile, run["project"]) == 1
    assert not (reused and run["job_id"] == lost["job_id"]), "the other one's job"
