"""What sending files costs the gateway, and what it costs where nginx sends them (accel_redirect).

    PYTHONPATH=tests python benchmarks/downloads.py [--rounds N] [--megabytes N]

Two gateways of one site, each behind the nginx of docs/nginx, send the same file in turn, by HTTPS
on loopback to curl. Memory is by how much the peak of all processes of a gateway grew, processor
time is theirs without nginx's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freeports import free_port
from log import family, forget_peak, memory
from proxies import nginx
from road import PERSON

from nias_bridge.demo import EXAMPLE, example_zip
from nias_bridge.node import layout
from nias_bridge.site import Site, running, said, set_up, wait_until_served

MB = 1_000_000
AT_ONCE = (1, 8)
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Way:
    """One gateway behind one nginx: the file's address there, and the gateway's process."""

    url: str
    known: str
    pid: int


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--megabytes", type=int, default=500)
    asked = options.parse_args()
    with ways(asked.megabytes * MB) as both:
        figures: dict[tuple[str, int], list[dict[str, float]]] = {}
        for at_once in AT_ONCE:
            for _ in range(asked.rounds):
                for name, way in both.items():
                    told = measure(way, at_once, asked.megabytes * MB)
                    figures.setdefault((name, at_once), []).append(told)
    print(
        "| sent by | at once | MB/s in all | gateway's processor s | gateway's memory grew by, MB |"
    )
    print("|---|---|---|---|---|")
    for (name, at_once), rounds in figures.items():
        rate, cpu, grown = (
            statistics.median(each[what] for each in rounds) for what in ("rate", "cpu", "grown")
        )
        print(f"| {name} | {at_once} | {rate:.0f} | {cpu:.2f} | {grown:.1f} |")


@contextmanager
def ways(size: int) -> Iterator[dict[str, Way]]:
    """Both ways to the log of one run, which has this size."""
    folder = Path(tempfile.mkdtemp(prefix="nias-bench-"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        plain = a_site(folder / "plain")
        said(plain, "user", "add", PERSON)
        token = said(plain, "token", "add", PERSON)
        shared = plain.state / "shared"
        same = {
            "shared_root": shared,
            "database_url": f"sqlite:///{plain.state}/db/nias.db",
            "secret_key": (plain.state / "secret-key").read_text(),
            "accel_redirect": "/protected",
        }
        sites = {"the gateway": plain, "nginx": a_site(folder / "accel", **same)}
        found = {}
        for name, site in sites.items():
            process = stack.enter_context(running(site, "serve"))
            wait_until_served(site)
            proxy = stack.enter_context(nginx(folder / f"{site.port}", [site.port], shared))
            found[name] = proxy.url, process.pid
        run = upload(plain, token)
        (place,) = shared.glob(f"{layout.RUNS}/*/*/{run['number']}")
        with (place / layout.LOG).open("wb") as log:
            for _ in range(size // MB):
                log.write(os.urandom(MB))
        (place / layout.LOG).chmod(0o644)
        yield {
            name: Way(f"{url}/runs/{run['id']}/log.txt", f"Authorization: Bearer {token}", pid)
            for name, (url, pid) in found.items()
        }


def a_site(state: Path, **settings: Any) -> Site:
    state.mkdir()
    return set_up(
        state, port=free_port(), slurm_conf=Path("/nonexistent"), trusted_proxies=1, **settings
    )


def upload(site: Site, token: str) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{site.url}/api/v1/runs?filename={EXAMPLE}.zip",
        data=example_zip(),
        headers={"Content-Type": "application/zip", "Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def measure(way: Way, at_once: int, size: int) -> dict[str, float]:
    """So many downloads at once, to their ends."""
    before, worked, began = forget_peak(way.pid), processor_seconds(way.pid), time.perf_counter()
    argv = ["curl", "-skf", "-o", "/dev/null", "-w", "%{size_download}", "-H", way.known, way.url]
    started = [subprocess.Popen(argv, stdout=subprocess.PIPE) for _ in range(at_once)]
    got = [int(each.communicate(timeout=600)[0]) for each in started]
    assert got == [size] * at_once, got
    seconds = time.perf_counter() - began
    return {
        "rate": at_once * size / MB / seconds,
        "cpu": processor_seconds(way.pid) - worked,
        "grown": (memory(way.pid, "VmHWM") - before) * 1024 / MB,
    }


def processor_seconds(pid: int) -> float:
    """What a gateway's processes have used of the processors."""
    fields = (Path(f"/proc/{each}/stat").read_text().rpartition(")")[2] for each in family(pid))
    return sum(int(ticks) for each in fields for ticks in each.split()[11:13]) / TICKS


if __name__ == "__main__":
    main()
