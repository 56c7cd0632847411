"""Submission by every way to Slurm, side by side on one Slurm whose nodes are drained.

    PYTHONPATH=tests python benchmarks/reach.py [--runs N]

the call      one submission by the way alone, against a loop of plain sbatch
through       from an upload's acceptance by the gateway to the job id in its row

pyslurm is measured where it is installed. The sshd is that of the tests, on loopback.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import loginnode
from client import Client
from loginnode import LoginNode

from nias_bridge import localcluster
from nias_bridge import site as sites
from nias_bridge.domain import Run
from nias_bridge.localcluster import LocalCluster
from nias_bridge.ports import Scheduler
from nias_bridge.site import running, service_user, set_up, wait_until_served
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.slurm.local import LocalRunner
from nias_bridge.slurm.native import beside
from nias_bridge.slurm.ssh import Connection, SshRunner
from nias_bridge.store import open_store

SCRIPT = """#!/bin/sh
#SBATCH --ntasks=1
#SBATCH --mem=100M
#SBATCH --time=00:10:00
true
"""
SLOT = {"slot_cpus": 1, "slot_memory": "100M", "slurm_timeout": 15}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--runs", type=int, default=60, help="submissions by each way")
    asked = options.parse_args()
    with machine() as (state, cluster, node):
        calls = {way: [] for way in ("plain sbatch", *ways(cluster, node))}
        submits = {"plain sbatch": plain_sbatch(state, cluster), **by_way(state, cluster, node)}
        for submit in submits.values():
            submit()  # connections are made, processes started
        for _ in range(asked.runs):
            for way, submit in submits.items():
                calls[way].append(timed(submit))
        print_table("the call", calls)
        subprocess.run(
            ["scancel", "--name=nias-bench,plain.sbatch"], check=True, env=slurm(cluster)
        )
        through = {
            way: uploads(state / way, cluster, asked.runs, settings)
            for way, settings in ways(cluster, node).items()
        }
        print_table("through the bridge", through)


@contextmanager
def machine() -> Iterator[tuple[Path, LocalCluster, LoginNode]]:
    """A Slurm that takes jobs and starts none, and a login node of it; gone afterwards."""
    state = Path(tempfile.mkdtemp(prefix="nias-bench-", dir="/tmp"))
    state.chmod(0o777)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, state, ignore_errors=True)
        node = stack.enter_context(loginnode.running())
        if os.geteuid() == 0:
            sites.SERVICE_USER = node.user
        stack.callback(localcluster.down, state / "slurm")
        cluster = localcluster.up(state / "slurm", slots=2, user=service_user())
        for name in cluster.nodes:
            scontrol(cluster, "update", f"NodeName={name}", "State=DRAIN", "Reason=benchmark")
        yield state, cluster, node


def scontrol(cluster: LocalCluster, *words: str) -> None:
    subprocess.run(["scontrol", *words], check=True, env=slurm(cluster))


def slurm(cluster: LocalCluster) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "SLURM_CONF": str(cluster.slurm_conf)}


def ways(cluster: LocalCluster, node: LoginNode) -> dict[str, dict[str, Any]]:
    """The settings of each way."""
    key = node.folder / "gateway"
    shutil.copy(node.login.key, key)
    shutil.chown(key, node.user)
    over_ssh = {
        "ssh_host": node.login.host,
        "ssh_port": node.port,
        "ssh_user": node.user,
        "ssh_key": key,
        "ssh_known_hosts": node.login.known_hosts,
    }
    found: dict[str, dict[str, Any]] = {
        "command line": {"slurm_via": "command-line"},
        "ssh": over_ssh,
    }
    return {**found, "pyslurm": {"slurm_via": "pyslurm"}} if find_spec("pyslurm") else found


def by_way(state: Path, cluster: LocalCluster, node: LoginNode) -> dict[str, Callable[[], object]]:
    """One submission by each way."""
    here = LocalRunner(conf=cluster.slurm_conf, timeout=15)
    there = SshRunner(Connection(node.login, 15), conf=cluster.slurm_conf, timeout=15)
    schedulers: dict[str, Scheduler] = {
        "command line": CliScheduler(here),
        "ssh": CliScheduler(there),
        "pyslurm": beside(here),
    }
    folder = state / "calls"
    folder.mkdir(mode=0o777)
    script = folder / "job.sbatch"
    script.write_text(SCRIPT)
    script.chmod(0o644)

    def submit(scheduler: Scheduler) -> Callable[[], object]:
        path, log = PurePosixPath(script), PurePosixPath("/dev/null")
        return lambda: scheduler.submit(path, name="nias-bench", log=log)

    return {way: submit(schedulers[way]) for way in ways(cluster, node)}


def plain_sbatch(state: Path, cluster: LocalCluster) -> Callable[[], object]:
    script = state / "plain.sbatch"
    script.write_text(SCRIPT)
    argv = ["sbatch", "--job-name=nias-bench", "--output=/dev/null", str(script)]
    return lambda: subprocess.run(argv, check=True, capture_output=True, env=slurm(cluster))


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def uploads(state: Path, cluster: LocalCluster, runs: int, settings: dict[str, Any]) -> list[float]:
    """Seconds from each upload's acceptance to its job id, one upload after the other."""
    state.mkdir(mode=0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    site = set_up(state, port=port, slurm_conf=cluster.slurm_conf, **SLOT, **settings)
    store = open_store(f"sqlite:///{state}/db/nias.db")
    taken = []
    with running(site, "serve"), running(site, "poll"):
        wait_until_served(site)
        client = Client(site.url)
        for number in range(runs + 1):
            sent = client.upload("print(1)\n")
            client.wait(sent["id"], lambda told: told["job_id"] is not None)
            client.cancel(sent["id"])
            run: Run = store.run(sent["id"])
            if number and run.submitted_at:  # the first one finds the poller just started
                taken.append((run.submitted_at - run.created_at).total_seconds())
    return taken


def print_table(what: str, samples: dict[str, list[float]]) -> None:
    print(f"| {what}, ms | p50 | p95 | a second |\n|---|---|---|---|")
    for way, seconds in samples.items():
        ordered = sorted(seconds)
        p50, p95 = statistics.median(ordered), ordered[int(len(ordered) * 0.95)]
        print(f"| {way} | {p50 * 1e3:.1f} | {p95 * 1e3:.1f} | {len(ordered) / sum(ordered):.0f} |")


if __name__ == "__main__":
    main()
