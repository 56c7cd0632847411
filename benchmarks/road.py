"""The road of one upload, by phase, side by side with plain sbatch on the same Slurm.

    python benchmarks/road.py [--rounds N] [--builds N] [--json FILE]

Three ways to run the power-spectrum example, in turn, so that a noisy machine is noisy for all:

bridge   upload to the gateway; done when the gateway hands out results.zip
(a)      a hand-written sbatch script: venv, pip install, python code.py, zip
(b)      the same script with the environment made beforehand

(a) and (b) are submitted with sbatch and awaited by a tight loop on their result file. pip has
nothing cached. The bridge builds an environment in two ways: with nothing cached either, as on its
first day, and as a new set of packages that the site used before. All times are seconds.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from nias_bridge import localcluster
from nias_bridge.assets import asset
from nias_bridge.demo import EXAMPLE, example_zip
from nias_bridge.localcluster import LocalCluster
from nias_bridge.node import layout
from nias_bridge.site import Site, running, said, service_user, set_up, wait_until_served

LOOK_SECONDS = 0.01
PERSON = "lab@example.org"
FIRST_DAY = "bridge, first build, nothing cached"
NEW_SET = "bridge, first build, wheels used before"
REUSED = "bridge, environment there"
BY_HAND = "(a) sbatch, venv + pip"
PREPARED = "(b) sbatch, venv there"
PHASES = ("accept", "submit", "start", "unpack", "environment", "code", "collect", "seen", "total")

HAND_WRITTEN = """#!/bin/bash
#SBATCH --job-name=by-hand
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=30
#SBATCH --chdir={folder}
#SBATCH --output={folder}/log
set -e
cd {folder}/project
{environment}
{venv}/bin/python code.py
(cd output && {venv}/bin/python -m zipfile -c ../../results.part .)
mv {folder}/results.part {folder}/results.zip
"""
MAKE_ENVIRONMENT = (
    "python3 -m venv {venv} && {venv}/bin/pip install --quiet --no-cache-dir -r requirements.txt"
)

Samples = dict[str, list[float]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rounds", type=int, default=10, help="runs with the environment there")
    options.add_argument("--builds", type=int, default=3, help="runs that build it first")
    options.add_argument("--json", type=Path, help="write all figures to this file")
    asked = options.parse_args()
    with machine() as (site, cluster):
        figures = measure(site, cluster, rounds=asked.rounds, builds=asked.builds)
    print(report(figures, rounds=asked.rounds, builds=asked.builds))
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1))


@contextmanager
def machine() -> Iterator[tuple[Site, LocalCluster]]:
    """A Slurm of two slots and a bridge with its defaults, gone afterwards."""
    state = Path(tempfile.mkdtemp(prefix="nias-bench-"))
    state.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, state, ignore_errors=True)
        stack.callback(localcluster.down, state / "slurm")
        cluster = localcluster.up(state / "slurm", slots=2, user=service_user())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        site = set_up(state, port=port, slurm_conf=cluster.slurm_conf)
        enter(site)
        for name in ("serve", "poll"):
            stack.enter_context(running(site, name))
        wait_until_served(site)
        yield site, cluster


def measure(site: Site, cluster: LocalCluster, *, rounds: int, builds: int) -> dict[str, Samples]:
    """Samples by way and phase."""
    figures: dict[str, Samples] = defaultdict(lambda: defaultdict(list))
    for number in range(builds):
        forget(site, "environments", "cache")
        note(figures[FIRST_DAY], bridge_run(site, f"first-{number}"))
        wait_for_idle(cluster)
        note(figures[BY_HAND], by_hand(site, cluster, prepared=None))
        wait_for_idle(cluster)
        forget(site, "environments")
        note(figures[NEW_SET], bridge_run(site, f"new-{number}"))
        wait_for_idle(cluster)
    prepared = prepare_environment(site)
    bridge_run(site, "warm-up")
    wait_for_idle(cluster)
    for number in range(rounds):
        note(figures[REUSED], bridge_run(site, f"again-{number}"))
        wait_for_idle(cluster)
        note(figures[PREPARED], by_hand(site, cluster, prepared=prepared))
        wait_for_idle(cluster)
    return figures


def enter(site: Site) -> None:
    """From now on every request of this process has a token of a person made for it."""
    said(site, "user", "add", PERSON)
    opener = urllib.request.build_opener()
    token = said(site, "token", "add", PERSON)
    opener.addheaders = [("Authorization", f"Bearer {token}")]
    urllib.request.install_opener(opener)


def note(samples: Samples, timed: dict[str, float]) -> None:
    for phase, seconds in timed.items():
        samples[phase].append(seconds)


def bridge_run(site: Site, name: str) -> dict[str, float]:
    """One upload through the gateway, timed by phase."""
    body = example_zip()
    began = time.time()
    run = ask(f"{site.url}/api/v1/runs?filename={EXAMPLE}.zip&again=1", body)
    accepted = time.time()
    while True:
        try:
            with urllib.request.urlopen(f"{site.url}/api/v1/runs/{run['id']}/results.zip") as got:
                zipfile.ZipFile(io.BytesIO(got.read())).testzip()
            break
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in (404, 409):
                raise
        time.sleep(LOOK_SECONDS)
    returned = time.time()
    run = ask(f"{site.url}/api/v1/runs/{run['id']}")
    (folder,) = site.state.glob(f"shared/{layout.RUNS}/*/*/{run['number']}")
    claimed = next((folder / layout.CLAIMS).iterdir()).stat().st_mtime
    submitted = (folder / layout.SCRIPT).stat().st_mtime
    collected = (folder / layout.RESULTS).stat().st_mtime
    timings = run["evidence"]["timings"]
    return {
        "accept": accepted - began,
        "submit": submitted - accepted,
        "start": claimed - submitted,
        "unpack": timings["unpack"],
        "environment": timings["environment"],
        "code": timings["code"],
        "collect": timings.get("collect", 0.0),
        "seen": returned - collected,
        "total": returned - began,
    }


def by_hand(site: Site, cluster: LocalCluster, *, prepared: Path | None) -> dict[str, float]:
    """One sbatch of the hand-written script, awaited by a tight loop."""
    folder = Path(tempfile.mkdtemp(dir=site.state / "shared"))
    shutil.copytree(asset("examples") / EXAMPLE, folder / "project")
    venv = prepared or folder / "venv"
    script = folder / "job.sbatch"
    script.write_text(
        HAND_WRITTEN.format(
            folder=folder,
            venv=venv,
            environment="" if prepared else MAKE_ENVIRONMENT.format(venv=venv),
        )
    )
    give(folder, site.user)
    began = time.time()
    subprocess.run(
        ["sbatch", "--parsable", script],
        check=True,
        capture_output=True,
        env={**os.environ, "SLURM_CONF": str(cluster.slurm_conf)},
        **identity(site),
    )
    while not (folder / "results.zip").exists():
        time.sleep(LOOK_SECONDS)
    seconds = time.time() - began
    shutil.rmtree(folder)
    return {"total": seconds}


def prepare_environment(site: Site) -> Path:
    """The environment of (b): venv and pip, with pip's compiled bytecode."""
    venv = site.state / "shared" / "venv-b"
    needs = asset("examples") / EXAMPLE / "requirements.txt"
    text = needs.read_text()
    copy = site.state / "shared" / "requirements-b.txt"
    copy.write_text(text)
    give(copy, site.user)
    for command in (
        [shutil.which("python3", path="/usr/bin") or "python3", "-m", "venv", venv],
        [venv / "bin" / "pip", "install", "--quiet", "-r", copy],
    ):
        subprocess.run(command, check=True, cwd="/", **identity(site))
    return venv


def forget(site: Site, *what: str) -> None:
    """Remove all environments, and with "cache" all that was ever downloaded or compiled."""
    folders = {"environments": layout.ENVIRONMENTS, "cache": layout.CACHE}
    for name in what:
        for entry in (site.state / "shared" / folders[name]).iterdir():
            subprocess.run(["rm", "-rf", entry], check=True)


def wait_for_idle(cluster: LocalCluster) -> None:
    """Return when no job is left, so that none waits for another's end."""
    while True:
        left = subprocess.run(
            ["squeue", "--noheader", "--states=PD,R,CG,CF"],
            capture_output=True,
            check=True,
            env={**os.environ, "SLURM_CONF": str(cluster.slurm_conf)},
        )
        if not left.stdout.strip():
            return
        time.sleep(0.05)


def give(path: Path, user: str | None) -> None:
    if user:
        subprocess.run(["chown", "-R", f"{user}:{user}", path], check=True)


def identity(site: Site) -> dict[str, Any]:
    return {"user": site.user, "group": site.user, "extra_groups": []} if site.user else {}


def ask(url: str, body: bytes | None = None) -> dict[str, Any]:
    request = urllib.request.Request(url, data=body)
    if body is not None:
        request.add_header("Content-Type", "application/zip")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def report(figures: dict[str, Samples], *, rounds: int, builds: int) -> str:
    """The tables, in Markdown."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    lines = [
        f"Commit {commit or 'unknown'}, {os.cpu_count()} cores; p50 / p95 in seconds of "
        f"{rounds} rounds with the environment there and {builds} first builds.",
        "",
        "| way | " + " | ".join(PHASES) + " |",
        "|---|" + "---|" * len(PHASES),
    ]
    for way, samples in figures.items():
        cells = (quantiles(samples.get(phase)) for phase in PHASES)
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    lines += ["", *verdicts(figures)]
    return "\n".join(lines)


def verdicts(figures: dict[str, Samples]) -> Iterator[str]:
    """The goals, met or not."""
    middle = {way: statistics.median(samples["total"]) for way, samples in figures.items()}
    over = middle[REUSED] - middle[PREPARED]
    yield f"- environment there: {over:+.2f} s against (b); goal at most +1.0 s: {met(over <= 1)}"
    for way in (FIRST_DAY, NEW_SET):
        ratio = middle[way] / middle[BY_HAND]
        yield f"- {way}: {ratio:.2f} × (a); goal at most 0.20 ×: {met(ratio <= 0.2)}"


def met(goal: bool) -> str:
    return "met" if goal else "**missed**"


def quantiles(values: list[float] | None) -> str:
    if not values:
        return "–"
    high = sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]
    return f"{statistics.median(values):.2f} / {high:.2f}"


if __name__ == "__main__":
    sys.exit(main())
