"""Two gateways on one PostgreSQL behind one nginx: whatever of them is gone, runs go on, once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from client import Client
from databases import create_database
from freeports import free_port
from processes import stands_still
from proxies import nginx
from sites import OWNER, QUICK, jobs_named, killed, served
from sqlalchemy import select

from nias_bridge.localcluster import LocalCluster
from nias_bridge.node.layout import ALREADY_RUN
from nias_bridge.site import Site, command, running, said, set_up, wait_until_served
from nias_bridge.store import SqlStore, open_store
from nias_bridge.store.engine import make_engine
from nias_bridge.store.tables import lease

LEASE = 3.0
PATIENCE = 40.0
LOOK = 0.05
SLURM_COMMANDS = ("sacct", "scancel", "scontrol", "sinfo", "squeue", "sstat")

# Every execution leaves a file of its own beside the project: the sites here have no walls.
COUNTS_ITSELF = """
import os, time
from pathlib import Path
Path("../executed-" + os.environ["SLURM_JOB_ID"]).touch()
time.sleep({seconds})
Path("output/done").touch()
"""
WAITS = """
while not Path("{go}").exists():
    time.sleep(0.05)
"""


@dataclass(frozen=True)
class Pair:
    """Two gateways that share storage and database, and their one address.

    first: the process of the gateway `one`.
    """

    one: Site
    other: Site
    first: subprocess.Popen[bytes]
    client: Client
    store: SqlStore
    database: str

    @property
    def leader(self) -> int | None:
        """The process that holds the lease."""
        engine = make_engine(self.database)
        with engine.connect() as connection:
            holder = connection.scalar(select(lease.c.holder))
        engine.dispose()
        return int(holder.split(":")[1]) if holder else None

    def executions(self, run: dict[str, Any]) -> int:
        return len(list(self.one.state.glob(f"shared/runs/*/{run['project']}/1/executed-*")))


@pytest.fixture(scope="module")
def pair(cluster: LocalCluster, postgresql: str) -> Iterator[Pair]:
    folder = Path(tempfile.mkdtemp(prefix="nias-two-", dir="/tmp"))
    folder.chmod(0o755)
    database = create_database(postgresql)
    shared: dict[str, Any] = {
        **QUICK,
        "lease_seconds": LEASE,
        "database_url": database,
        "shared_root": folder / "one/shared",
        "secret_key": os.urandom(24).hex(),
        "sandbox": "off",
        "slurm_via": "command-line",
        "trusted_proxies": 1,
    }
    sites = []
    for name in ("one", "other"):
        state = folder / name
        state.mkdir(parents=True)
        tools = a_way_to_slurm(state)
        site = set_up(
            state, port=free_port(), slurm_conf=cluster.slurm_conf, slurm_bin=tools, **shared
        )
        shutil.chown(tools, site.user, site.user)
        sites.append(site)
    one, other = sites
    said(one, "user", "add", OWNER)
    token = said(one, "token", "add", OWNER)
    store = open_store(database)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(store.close)
        first = stack.enter_context(running(one, "serve"))
        wait_until_served(one)
        stack.enter_context(served(other))
        proxy = stack.enter_context(
            nginx(folder / "nginx", [site.port for site in sites], folder / "one/shared")
        )
        patch.setenv("SSL_CERT_FILE", str(proxy.certificate))
        yield Pair(one, other, first, Client(proxy.url, token), store, database)


def a_way_to_slurm(state: Path) -> Path:
    """Slurm's commands, of which sbatch takes its time while the file `hold` is beside it."""
    tools = state / "tools"
    tools.mkdir()
    for name in SLURM_COMMANDS:
        (tools / name).symlink_to(str(shutil.which(name)))
    held = f'echo $$ >"{tools}/held"; while [ -e "{tools}/hold" ]; do sleep 0.05; done'
    sbatch = tools / "sbatch"
    sbatch.write_text(
        f'#!/bin/sh\nif [ -e "{tools}/hold" ]; then {held}; fi\n'
        f'exec {shutil.which("sbatch")} "$@"\n'
    )
    sbatch.chmod(0o755)
    return tools


def until(so: Callable[[], Any], seconds: float = PATIENCE) -> float:
    """Wait until it is so; returns the seconds that it took."""
    began = time.monotonic()
    while not so():
        assert time.monotonic() - began < seconds, "not so in time"
        time.sleep(LOOK)
    return time.monotonic() - began


@contextmanager
def at_work(pair: Pair) -> Iterator[subprocess.Popen[bytes]]:
    """The first poller, which leads, and the other, which waits its turn."""
    with running(pair.one, "poll") as leading:
        until(lambda: pair.leader == leading.pid)
        with running(pair.other, "poll"):
            yield leading


def records(slurm: Callable[..., str], name: str) -> list[tuple[str, str]]:
    """What the accounting has under this name: state and exit code of each job."""
    told = slurm("sacct", "-X", "-n", "-P", f"--name={name}", "--format=State,ExitCode")
    return [(line.split("|")[0], line.split("|")[1]) for line in told.splitlines()]


def test_a_run_in_every_state_outlives_the_poller_that_is_killed(
    pair: Pair, slurm: Callable[..., str]
) -> None:
    hold, held = pair.one.state / "tools/hold", pair.one.state / "tools/held"
    with at_work(pair) as leading:
        go = pair.one.state / "shared" / "go"
        code = COUNTS_ITSELF.format(seconds=0) + WAITS.format(go=go)
        ids = [pair.client.upload(code)["id"] for _ in range(2)]
        for run_id in ids:
            pair.client.wait(run_id, lambda run: run["state"] == "RUNNING")
        ids.append(pair.client.upload(code)["id"])
        pair.client.wait(ids[-1], lambda run: run["state"] == "PENDING")
        hold.touch()
        ids.append(pair.client.upload(code)["id"])
        pair.client.wait(ids[-1], lambda run: run["state"] == "SUBMITTING")
        until(lambda: held.exists() and held.read_text().strip())
        ids.append(pair.client.upload(code)["id"])
        states = [pair.client.run(run_id)["state"] for run_id in ids]
        assert states == ["RUNNING", "RUNNING", "PENDING", "SUBMITTING", "RECEIVED"]

        # Its machine is gone: the poller, and the sbatch that it had begun.
        os.kill(leading.pid, signal.SIGKILL)
        os.kill(int(held.read_text()), signal.SIGKILL)
        leading.wait()
        took = until(lambda: pair.leader not in (None, leading.pid))
        go.touch()
        assert took < 2 * LEASE, f"the other took over after {took:.1f} s"
        runs = [pair.client.ended(run_id, seconds=90) for run_id in ids]
    hold.unlink()
    for run in runs:
        assert run["state"] == "COMPLETED", run
        assert pair.executions(run) == 1
        name = run["job_name"]
        assert len(jobs_named(slurm, name)) == 1
        until(lambda name=name: records(slurm, name))  # accounting has the name some seconds late
        assert records(slurm, name) == [("COMPLETED", "0:0")]


def all_ended(told: list[tuple[str, str]]) -> bool:
    return not {state for state, _ in told} & {"PENDING", "RUNNING", "COMPLETING"}


STOPPED = {  # where the leader stands still, and the jobs that there may be in the end
    "before SUBMITTING": 1,
    "before sbatch": 2,
    "after sbatch": 1,
    "before COMPLETED": 1,
}


@pytest.mark.parametrize("point", STOPPED)
def test_a_leader_that_stood_still_past_its_lease_spoils_nothing_when_it_goes_on(
    point: str, pair: Pair, slurm: Callable[..., str], tmp_path: Path
) -> None:
    call = command(pair.one)
    script = Path(__file__).with_name("dying_poller.py").read_text()
    call["args"] = [sys.executable, "-c", script, point, "SIGSTOP"]
    words = tmp_path / "words"
    with words.open("wb") as out, subprocess.Popen(**call, stderr=out) as leading:
        try:
            until(lambda: pair.leader == leading.pid)
            run_id = pair.client.upload(COUNTS_ITSELF.format(seconds=0))["id"]
            until(lambda: stands_still(leading.pid))
            with running(pair.other, "poll"):
                run = pair.client.ended(run_id, seconds=60)
                before = known(pair, run_id)
                os.kill(leading.pid, signal.SIGCONT)
                until(lambda: b"Another poller has taken over" in words.read_bytes())
                assert leading.poll() is None
                assert pair.leader != leading.pid
                until(lambda: len(records(slurm, run["job_name"])) == STOPPED[point])
                until(lambda: all_ended(records(slurm, run["job_name"])))
        finally:
            leading.kill()
    assert run["state"] == "COMPLETED", run
    assert known(pair, run_id) == before
    assert pair.executions(run) == 1, "whatever Slurm was given, the code has run once"
    ended = records(slurm, run["job_name"])
    assert ended[0] == ("COMPLETED", "0:0")
    assert ended[1:] in ([], [("FAILED", f"{ALREADY_RUN}:0")])


def known(pair: Pair, run_id: int) -> tuple[Any, ...]:
    """All that a poller writes of a run."""
    run = pair.store.run(run_id)
    return run.version, run.state, run.job_id, run.report, run.note, pair.store.events(run_id)


def test_a_gateway_that_is_gone_is_missed_by_nobody(pair: Pair) -> None:
    with running(pair.other, "poll"):
        begun = pair.client.upload(COUNTS_ITSELF.format(seconds=2))["id"]
        killed(pair.first.pid)
        pair.first.wait()
        runs = [begun, *(pair.client.upload(COUNTS_ITSELF.format(seconds=0))["id"] for _ in "ab")]
        for run_id in runs:
            assert pair.client.ended(run_id)["state"] == "COMPLETED"
