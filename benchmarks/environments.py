"""Environments, measured: reuse, a first build beside venv + pip, twenty first runs at once.

    benchmarks/environments.py [--rounds N] [--requirements LINE,LINE…] [--at FOLDER]

Prints Markdown. The two ways of a first build are timed in turn, round by round, on one filesystem;
both were done once before the first round, so that uv has the wheels in its cache, and pip in its
own where the index lets it keep them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uv

from nias_bridge import pipconfig
from nias_bridge.node import building, environment, layout
from nias_bridge.node.environment import Wish, obtain
from nias_bridge.node.interpreter import base_python

VARIABLES = pipconfig.told()
AT_ONCE = 20
REUSES = 200
IMPORTED = {"matplotlib": "matplotlib.pyplot", "scipy": "scipy.signal"}  # as programs do


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requirements", default="numpy,scipy,matplotlib")
    parser.add_argument("--at", type=Path, default=None, help="where the files go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nias-bench-", dir=options.at) as folder:
        measure(Path(folder), tuple(options.requirements.split(",")), options.rounds)


def measure(root: Path, lines: tuple[str, ...], rounds: int) -> None:
    (root / layout.BIN).mkdir()
    shutil.copy(uv.find_uv_bin(), root / layout.BIN / layout.UV)
    wish = Wish(lines, "bench", VARIABLES)
    build(root, wish)
    completed(root, wish)  # the caches are warm from here on
    with_pip(root, lines)
    shown = " ".join(lines)
    table: dict[str, list[float]] = {}
    for _ in range(rounds):
        for way, measured in (
            (f"venv + pip install {shown}", lambda: with_pip(root, lines)),
            (
                "first build, caches warm (these wheels were used before)",
                lambda: build(root, wish),
            ),
            ("… but nothing of them was compiled before", lambda: uncompiled(root, wish)),
            ("the imports of the first program then", lambda: imports(root, wish, lines)),
            ("completing it, after that program's end", lambda: completed(root, wish)),
            ("the imports of later programs", lambda: imports(root, wish, lines)),
        ):
            table.setdefault(way, []).append(measured())
    obtain(root, wish, silent).release()
    table["reuse"] = [reuse(root, wish) for _ in range(REUSES)]
    table["a close look at all its files"] = [close_look(root, wish) for _ in range(rounds)]
    report(table)
    built, seconds = at_once(root, Wish((*lines, "six"), "bench", VARIABLES))
    by_hand, known, first, *_ = (statistics.median(samples) for samples in table.values())
    again = statistics.median(table["reuse"])
    print(f"\n- {AT_ONCE} first runs at once: {built} build, all ready after {seconds:.2f} s; "
          f"goal one build: {met(built == 1)}")  # fmt: skip
    for what, seconds in (("wheels used before", known), ("no module compiled before", first)):
        print(f"- first build, {what}: {seconds / by_hand:.2f} × venv + pip; goal at most 0.10 ×: "
              f"{met(seconds <= by_hand / 10)}")  # fmt: skip
    print(f"- reuse: {again * 1000:.1f} ms; goal at most 30 ms: {met(again <= 0.03)}")


def report(table: dict[str, list[float]]) -> None:
    print("| what | median | worst |\n|---|---|---|")
    for way, samples in table.items():
        print(f"| {way} | {told(statistics.median(samples))} | {told(max(samples))} |")


def build(root: Path, wish: Wish) -> float:
    """A first build as a job has it; nothing of the last round's is left but the caches."""
    forget(root / layout.ENVIRONMENTS)
    began = time.monotonic()
    made = obtain(root, wish, silent)
    seconds = time.monotonic() - began
    assert made.built
    made.release()
    return seconds


def uncompiled(root: Path, wish: Wish) -> float:
    shutil.rmtree(root / layout.CACHE / "compiled")
    return build(root, wish)


def imports(root: Path, wish: Wish, lines: tuple[str, ...]) -> float:
    """A program that imports the packages and does nothing."""
    made = obtain(root, wish, silent)
    # -B: as root, Python would write beside the modules.
    command = [
        made.python,
        "-B",
        "-c",
        f"import {', '.join(IMPORTED.get(each, each) for each in lines)}",
    ]
    began = time.monotonic()
    subprocess.run(command, check=True, cwd="/", env={"HOME": str(root)})
    seconds = time.monotonic() - began
    made.release()
    return seconds


def completed(root: Path, wish: Wish) -> float:
    made = obtain(root, wish, silent)
    began = time.monotonic()
    building.complete(root, made)
    seconds = time.monotonic() - began
    made.release()
    return seconds


def with_pip(root: Path, lines: tuple[str, ...]) -> float:
    """What a person does by hand."""
    venv = root / "venv"
    shutil.rmtree(venv, ignore_errors=True)
    own = {**os.environ, "PIP_CACHE_DIR": str(root / "pip"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    own["PIP_NO_CACHE_DIR"] = "0"  # a machine that forbids the cache would make pip look slow
    began = time.monotonic()
    subprocess.run([base_python(), "-m", "venv", venv], check=True, env=own)
    subprocess.run([venv / "bin" / "pip", "install", "-qq", *lines], check=True, env=own)
    return time.monotonic() - began


def reuse(root: Path, wish: Wish) -> float:
    began = time.monotonic()
    made = obtain(root, wish, silent)
    seconds = time.monotonic() - began
    assert not made.built
    made.release()
    return seconds


def close_look(root: Path, wish: Wish) -> float:
    made = obtain(root, wish, silent)
    began = time.monotonic()
    assert environment.soundness.doubt(made.folder) == []
    seconds = time.monotonic() - began
    made.release()
    return seconds


def at_once(root: Path, wish: Wish) -> tuple[int, float]:
    """How many of as many jobs built it, and when the last had it."""
    forking = multiprocessing.get_context("fork")
    said: multiprocessing.Queue[bool] = forking.Queue()
    began = time.monotonic()
    jobs = [forking.Process(target=lambda: said.put(obtain(root, wish, silent).built))
            for _ in range(AT_ONCE)]  # fmt: skip
    for job in jobs:
        job.start()
    built = sum(said.get() for _ in jobs)
    seconds = time.monotonic() - began
    for job in jobs:
        job.join()
    return built, seconds


def forget(environments: Path) -> None:
    if environments.is_dir():
        for entry in environments.iterdir():
            environment.discard(entry) if entry.is_dir() else entry.unlink()


def told(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


def met(goal: bool) -> str:
    return "met" if goal else "**missed**"


def silent(_: str) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main())
