"""A sweep of one-second tasks against a hand-written job array of the same, on one Slurm.

    python benchmarks/sweep.py [--tasks N] [--parallel N] [--rounds N] [--json FILE]

bridge   upload to the gateway; done when the run is told COMPLETED, with every task's results
hand     sbatch of a plain array whose tasks run the same code; done when squeue has none of it

Both with the same %max_parallel, in turn, on a local Slurm with as many slots as that (they share
this machine's cores). All times are seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from client import Client
from sites import OWNER, client_of

from nias_bridge import localcluster
from nias_bridge.localcluster import LocalCluster
from nias_bridge.site import Site, running, said, service_user, set_up, wait_until_served

LOOK_SECONDS = 0.05
CODE = """
import json, os, time
time.sleep(1)
with open("output/metrics.json", "w") as file:
    json.dump({"twice": 2 * int(os.environ["NIAS_PARAM_N"])}, file)
"""
HAND_WRITTEN = """#!/bin/bash
#SBATCH --job-name=by-hand
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=30
#SBATCH --array=0-{last}%{parallel}
#SBATCH --output={folder}/%a.out
mkdir -p {folder}/$SLURM_ARRAY_TASK_ID/output
cd {folder}/$SLURM_ARRAY_TASK_ID
NIAS_PARAM_N=$SLURM_ARRAY_TASK_ID exec /usr/bin/python3 {folder}/code.py
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    took: dict[str, list[float]] = {"bridge": [], "hand": []}
    with bench(asked.parallel) as (cluster, site, folder):
        client = client_of(site)
        client.ended(client.upload("print(1)\n")["id"])  # the environment without packages is built
        for number in range(asked.rounds):
            took["bridge"].append(by_bridge(client, asked.tasks, asked.parallel))
            inner = folder / str(number)
            took["hand"].append(by_hand(cluster, inner, asked.tasks, asked.parallel))
    for name, seconds in took.items():
        print(f"{name:8} {statistics.median(seconds):8.2f} s  (of {asked.rounds})")
    ratio = statistics.median(took["bridge"]) / statistics.median(took["hand"])
    print(f"{'ratio':8} {ratio:8.3f}    {asked.tasks} tasks, {asked.parallel} at once")
    if asked.json:
        told = {"tasks": asked.tasks, "parallel": asked.parallel, **took, "ratio": ratio}
        asked.json.write_text(json.dumps(told, indent=1))


@contextmanager
def bench(slots: int) -> Iterator[tuple[LocalCluster, Site, Path]]:
    """A Slurm of so many slots, a bridge on it, and a folder for jobs by hand."""
    state = Path(tempfile.mkdtemp(prefix="nias-bench-", dir="/tmp"))
    state.chmod(0o755)
    folder = state / "hand"
    try:
        cluster = localcluster.up(state / "slurm", slots=slots, user=service_user())
        site = set_up(state / "site", port=18095, slurm_conf=cluster.slurm_conf, poll_interval=0.5)
        said(site, "user", "add", OWNER)
        folder.mkdir()
        with running(site, "serve"), running(site, "poll"):
            wait_until_served(site)
            yield cluster, site, folder
    finally:
        localcluster.down(state / "slurm")
        shutil.rmtree(state, ignore_errors=True)


def by_bridge(client: Client, tasks: int, parallel: int) -> float:
    """From the upload to the state COMPLETED."""
    toml = f"[sweep]\ngrid = {{ n = {list(range(tasks))} }}\nmax_parallel = {parallel}\n"
    begin = time.perf_counter()
    run_id = client.upload(CODE, more={"nias.toml": toml})["id"]
    while not (run := client.run(run_id))["ended"]:
        time.sleep(LOOK_SECONDS)
    seconds = time.perf_counter() - begin
    if run["state"] != "COMPLETED":
        sys.exit(f"The sweep ended {run['state']}: {run['note']}")
    return seconds


def by_hand(cluster: LocalCluster, folder: Path, tasks: int, parallel: int) -> float:
    """From sbatch to the last task's end."""
    folder.mkdir()
    (folder / "code.py").write_text(CODE)
    script = folder / "job.sbatch"
    script.write_text(HAND_WRITTEN.format(last=tasks - 1, parallel=parallel, folder=folder))
    environment = {"PATH": os.environ["PATH"], "SLURM_CONF": str(cluster.slurm_conf)}
    begin = time.perf_counter()
    subprocess.run(
        ["sbatch", "--parsable", script], env=environment, check=True, capture_output=True
    )
    ask = ["squeue", "--noheader", "--name=by-hand", "--format=%i"]
    while subprocess.run(ask, env=environment, check=True, capture_output=True).stdout:
        time.sleep(LOOK_SECONDS)
    seconds = time.perf_counter() - begin
    written = len(list(folder.glob("*/output/metrics.json")))
    if written != tasks:
        sys.exit(f"By hand {written} of {tasks} tasks came back.")
    return seconds


if __name__ == "__main__":
    main()
