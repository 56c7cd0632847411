"""How fast results.zip is written, beside Python's own zipfile: 1 GiB of floats, sound, pictures.

Ours is what a run does: output/ collected by the node program, manifest with SHA-256 included.
Usage: zipping.py [--json FILE] [--folder DIR]; DIR (default: /dev/shm) needs 3.5 GiB of room.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from nias_bridge.node import collect, layout

MIB = 2**20


def random_walk(folder: Path, rng: np.random.Generator) -> Iterator[Path]:
    for number in range(2):
        path = folder / f"walk-{number}.npy"
        np.save(path, np.cumsum(rng.standard_normal(160 * MIB // 8)))
        yield path


def noisy_sensor(folder: Path, rng: np.random.Generator) -> Iterator[Path]:
    seconds = np.arange(160 * MIB // 4) / 1000
    for number in range(2):
        path = folder / f"sensor-{number}.npy"
        tone = np.sin(2 * np.pi * (number + 1) * seconds).astype("f4")
        np.save(path, tone / 2 + rng.standard_normal(len(seconds), dtype="f4") / 10)
        yield path


def sound(folder: Path, rng: np.random.Generator) -> Iterator[Path]:
    seconds = np.arange(64 * MIB // 2) / 44100
    for number in range(4):
        path = folder / f"sound-{number}.wav"
        fading = np.sin(2 * np.pi * 220 * (number + 1) * seconds) * np.exp(-3 * (seconds % 1))
        samples = 0.3 * fading + 0.01 * rng.standard_normal(len(seconds))
        soundfile.write(path, samples, 44100, subtype="PCM_16")
        yield path


def pictures(folder: Path, rng: np.random.Generator) -> Iterator[Path]:
    size = 0
    while size < 128 * MIB:
        path = folder / f"picture-{size}.png"
        pixels = (rng.standard_normal((1100, 1240, 3)).cumsum(0) * 8).astype("i8").astype("u1")
        Image.fromarray(pixels).save(path, compress_level=1)
        size += path.stat().st_size
        yield path


def tables(folder: Path, rng: np.random.Generator) -> Iterator[Path]:
    path = folder / "table.csv"
    np.savetxt(path, rng.standard_normal((400_000, 8)), "%.6f", delimiter=",")
    yield path


# The goal is set on the first four together; text is not part of it, and shows where we lose.
KINDS = {
    "float64 random walk": random_walk,
    "float32 sensor": noisy_sensor,
    "WAV, 16 bit": sound,
    "PNG": pictures,
    "CSV text": tables,
}


def measure(paths: list[Path], folder: Path) -> dict[str, Any]:
    """Seconds and bytes of both ways to pack these files."""
    run = Path(tempfile.mkdtemp(dir=folder))
    output = run / layout.PROJECT / layout.OUTPUT
    output.mkdir(parents=True)
    for path in paths:
        (output / path.name).hardlink_to(path)
    ours, theirs = run / layout.RESULTS, run / "theirs.zip"
    before = time.perf_counter()
    collect.collect(run)
    between = time.perf_counter()
    with zipfile.ZipFile(theirs, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, path.name)
    after = time.perf_counter()
    sizes = ours.stat().st_size, theirs.stat().st_size
    shutil.rmtree(run)
    return {
        "MiB": round(sum(path.stat().st_size for path in paths) / MIB),
        "seconds": round(between - before, 2),
        "zipfile_seconds": round(after - between, 2),
        "times_faster": round((after - between) / (between - before), 1),
        "more_bytes_percent": round(100 * (sizes[0] / sizes[1] - 1), 2),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", type=Path)
    options.add_argument("--folder", default="/dev/shm")
    asked = options.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory(dir=asked.folder) as made:
        folder, rng = Path(made), np.random.default_rng(1)
        files = {kind: list(make(folder, rng)) for kind, make in KINDS.items()}
        goal = [path for kind, paths in files.items() if kind != "CSV text" for path in paths]
        print("| files | MiB | seconds | zipfile | times faster | more bytes |")
        print("|---|---|---|---|---|---|")
        for kind, paths in {**files, "the first four together": goal}.items():
            row = rows[kind] = measure(paths, folder)
            print("| {} | {} | {} | {} | {} | {} % |".format(kind, *row.values()), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
