"""What one gateway does for programs that ask for the status of a run, many at once.

    python benchmarks/api.py [--seconds N] [--workers N …] [--clients N …]

A gateway alone: it asks Slurm nothing, and there is none here that it could ask. Each client keeps
one connection and asks again as soon as it has its answer, for runs that are under way: the whole
status of one, or of RUNS in turn, or of one with If-None-Match for what it has already. Measured by
wrk, in C, on the same machine: what it takes of the two cores the gateway has not, and is shown
beside. To compare two versions, run this for each in turn (PYTHONPATH says which is measured).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from alone import gateway
from road import PERSON

from nias_bridge.site import Site, said

FIRECREST = 90  # requests a second, at 20 and 100 clients on two cores; half of it at 500
GOAL_TIMES, GOAL_P50 = 20, 10  # FirecREST's rate, milliseconds
RUNS = 20
# Each request is written once: wrk would else take more of the cores for these than for the others.
IN_TURN = """
local asked, requests = 0, {{}}
init = function()
  for run = 1, {runs} do
    requests[run] = wrk.format("GET", "/api/v1/runs/" .. run)
  end
end
request = function()
  asked = asked + 1
  return requests[asked % {runs} + 1]
end
"""


class Measured(NamedTuple):
    """One round: requests a second, milliseconds, answers that were none or errors, and the
    gateway's own milliseconds of processor time for each; of_wrk: the cores that wrk itself had."""

    rate: float
    p50: float
    p99: float
    errors: int
    cpu: float
    of_wrk: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--seconds", type=int, default=8)
    options.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    options.add_argument("--clients", type=int, nargs="*", default=[1, 20, 100, 500])
    asked = options.parse_args()
    print(
        "| workers | clients | asked | a second | × bar | p50, ms | p99, ms | errors | CPU, ms "
        "| cores of wrk |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for workers in asked.workers:
        with gateway(workers=workers) as (site, run, pid), in_turn(site) as script:
            url = f"{site.url}/api/v1/runs/{run['id']}"
            headers = {"Authorization": f"Bearer {said(site, 'token', 'add', PERSON)}"}
            for clients in asked.clients:
                for what, words in (
                    ("status", said_as(headers)),
                    ("of many runs", [*said_as(headers), "-s", script]),
                    ("if changed", said_as({**headers, **tagged(url, headers)})),
                ):
                    found = load(url, words, clients, asked.seconds, pid)
                    times = found.rate / FIRECREST
                    print(
                        f"| {workers} | {clients} | {what} | {found.rate:.0f} | {times:.1f} "
                        f"| {found.p50:.1f} | {found.p99:.0f} | {found.errors} | {found.cpu:.2f} "
                        f"| {found.of_wrk:.2f} |",
                        flush=True,
                    )


@contextmanager
def in_turn(site: Site) -> Iterator[str]:
    """RUNS under way in place of one, and the script by which wrk asks for all in turn."""
    for _ in range(RUNS - 1):
        again = urllib.request.Request(f"{site.url}/api/v1/runs/1/again", method="POST")
        urllib.request.urlopen(again, timeout=60).close()
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(IN_TURN.format(runs=RUNS))
        script.flush()
        yield script.name


def said_as(headers: dict[str, str]) -> list[str]:
    """The headers as wrk is told them."""
    return [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]


def tagged(url: str, headers: dict[str, str]) -> dict[str, str]:
    """The header by which a client says what it has already."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return {"If-None-Match": answer.headers["ETag"]}


def load(url: str, words: list[str], clients: int, seconds: int, pid: int) -> Measured:
    """So many clients at once for so many seconds."""
    before, own = cpu_seconds(pid), sum(os.times()[2:4])
    said_by_wrk = subprocess.run(
        [
            *("wrk", "--latency", "--timeout", "10s"),
            *(f"-t{1 if clients < 20 else 2}", f"-c{clients}", f"-d{seconds}s"),
            *words,
            url,
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said_by_wrk)
    lost = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said_by_wrk
    )
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said_by_wrk)
    answered = re.search(r"(\d+) requests in", said_by_wrk)
    errors = sum(map(int, lost.groups())) if lost else 0
    return Measured(
        rate=float(rate[1]) if rate else 0.0,
        p50=latency(said_by_wrk, 50),
        p99=latency(said_by_wrk, 99),
        errors=errors + (int(refused[1]) if refused else 0),
        cpu=(cpu_seconds(pid) - before) * 1e3 / max(1, int(answered[1]) if answered else 0),
        of_wrk=(sum(os.times()[2:4]) - own) / seconds,
    )


def cpu_seconds(pid: int) -> float:
    """What a gateway and its workers have taken of the processors."""
    workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ticks = 0
    for each in (pid, *workers):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def latency(text: str, percent: int) -> float:
    """Milliseconds within which so many of a hundred had their answer."""
    found = re.search(rf"\s{percent}%\s+([\d.]+)(us|ms|s)", text)
    if not found:
        return float("nan")
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]


if __name__ == "__main__":
    main()
