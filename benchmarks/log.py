"""What a log of 10 GB costs the gateway: its page, its parts and its download, beside tail -c.

    python benchmarks/log.py [--rounds N] [--gigabytes N] [--json FILE]

A gateway alone, since it asks Slurm nothing, is asked for the same parts of a log of 1 MB and of a
large one. The large one is a hole in the file but for its last 64 MiB and 1 MiB in its middle:
lines as programs print them. Memory is by how much the gateway's peak grew over what it held.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from alone import gateway

from nias_bridge.node import layout

MB, MIB = 1_000_000, 2**20
PART = 64 * 1024
LINE = b"epoch %8d  loss 0.34917  accuracy 0.8712  12.7 s\n"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rounds", type=int, default=50)
    options.add_argument("--gigabytes", type=int, default=10)
    options.add_argument("--json", type=Path, help="write all figures to this file")
    asked = options.parse_args()
    sizes = {"1 MB": MB, f"{asked.gigabytes} GB": asked.gigabytes * 1000 * MB}
    with gateway() as (site, run, pid):
        (folder,) = site.state.glob(f"shared/{layout.RUNS}/*/*/{run['number']}")
        rows = {
            label: measure(site.url, run["id"], folder / layout.LOG, pid, size, asked.rounds)
            for label, size in sizes.items()
        }
    print(report(rows, asked.rounds))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))


def measure(
    url: str, run_id: int, log: Path, pid: int, size: int, rounds: int
) -> dict[str, dict[str, Any]]:
    """By what is asked: milliseconds of the gateway and of the command, the gateway's growth."""
    write(log, size)
    part, download = f"{url}/api/v1/runs/{run_id}/log?limit={PART}", f"{url}/runs/{run_id}/log.txt"
    ways: dict[str, tuple[Callable[[], None], str]] = {
        "the run's page, with its last 64 KiB": (
            partial(read, f"{url}/runs/{run_id}"), f"tail -c {PART} {log}"),
        "the last 64 KiB": (partial(read, f"{part}&offset=-1"), f"tail -c {PART} {log}"),
        "64 KiB in the middle": (
            partial(read, f"{part}&offset={size // 2}"),
            f"tail -c +{size // 2 + 1} {log} | head -c {PART}"),
        "the download's first byte": (partial(read, download, 1), f"tail -c +1 {log} | head -c 1"),
    }  # fmt: skip
    rows = {}
    for what, (ask, command) in ways.items():
        ask()
        before = forget_peak(pid)
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(timed(ask))
            theirs.append(timed(partial(run_command, command)))
        rows[what] = {"ours": ours, "theirs": theirs, "grown": memory(pid, "VmHWM") - before}
    before = forget_peak(pid)
    whole = timed(partial(read, download)), timed(partial(run_command, f"tail -c +1 {log} | cat"))
    grown = memory(pid, "VmHWM") - before
    rows["the whole download"] = {"ours": [whole[0]], "theirs": [whole[1]], "grown": grown}
    return rows


def write(log: Path, size: int) -> None:
    """A log of this size, with lines where it is read."""
    with log.open("wb") as file:
        file.truncate(size)
        for start, stop in ((size // 2, size // 2 + MIB), (max(0, size - 64 * MIB), size)):
            file.seek(start)
            lines = b"".join(LINE % n for n in range((stop - start) // len(LINE) + 1))
            file.write(lines[: stop - start])
        file.truncate(size)
    log.chmod(0o644)


def read(url: str, limit: int | None = None) -> None:
    """Read an answer up to its end, or only its first bytes, and let go of it."""
    with urllib.request.urlopen(url, timeout=600) as answer:
        if limit:
            answer.read(limit)
        else:
            while answer.read(MIB):
                pass


def run_command(command: str) -> None:
    subprocess.run(["sh", "-c", command], stdout=subprocess.DEVNULL, check=True)


def timed(what: Callable[[], None]) -> float:
    began = time.perf_counter()
    what()
    return 1000 * (time.perf_counter() - began)


def forget_peak(pid: int) -> int:
    """Begin to look for the peak anew; returns what is held now, in KiB."""
    for each in family(pid):
        Path(f"/proc/{each}/clear_refs").write_text("5")
    return memory(pid, "VmRSS")


def memory(pid: int, field: str) -> int:
    """A field of the process and its children together, in KiB."""
    return sum(
        int(line.split()[1])
        for each in family(pid)
        for line in Path(f"/proc/{each}/status").read_text().splitlines()
        if line.startswith(f"{field}:")
    )


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def report(rows: dict[str, dict[str, dict[str, Any]]], rounds: int) -> str:
    """The table, in Markdown."""
    lines = [
        f"{os.cpu_count()} cores; p50 / p95 in milliseconds of {rounds} rounds.",
        "",
        "| asked | log | gateway | tail -c | gateway grew by |",
        "|---|---|---|---|---|",
    ]
    for what in next(iter(rows.values())):
        for log, measured in rows.items():
            row = measured[what]
            times = f"{quantiles(row['ours'])} | {quantiles(row['theirs'])}"
            lines.append(f"| {what} | {log} | {times} | {row['grown'] / 1024:.1f} MiB |")
    return "\n".join(lines)


def quantiles(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:,.0f}"
    return f"{statistics.median(values):.1f} / {statistics.quantiles(values, n=20)[-1]:.1f}"


if __name__ == "__main__":
    main()
