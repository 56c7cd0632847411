"""What a large upload costs the gateway: in pieces by tus, as one body, and as a multipart form.

    python benchmarks/upload.py [--megabytes N] [--rounds N] [--json FILE]

A gateway alone takes the same zip by each way in turn, over loopback, until it is on shared storage
and judged. It is one stored file of a project without code, so that every way ends in the same
refusal and nothing but the transfer and the look at the zip's directory is in the time. Memory is
by how much the peak of the gateway's processes grew over what they held.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import socket
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from log import family, forget_peak, memory

from nias_bridge.site import running, said, set_up, wait_until_served

MIB = 2**20
PIECE = 64 * MIB
SLICE = MIB
PERSON = "lab@example.org"
TUS = {"Tus-Resumable": "1.0.0"}
BOUNDARY = "benchmark-of-uploads"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--megabytes", type=int, default=5000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", type=Path, help="write all figures to this file")
    asked = options.parse_args()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="nias-bench-"))
        folder.chmod(0o755)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        file = large_zip(folder, asked.megabytes)
        gateway = stack.enter_context(served(folder / "site", file.stat().st_size))
        rows = measure(gateway, file, asked.rounds)
    print(report(rows, asked.megabytes))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))


class Gateway:
    """A gateway by its address, somebody's token there, and its process."""

    def __init__(self, url: str, token: str, pid: int) -> None:
        self.host, self.pid = urlsplit(url).netloc, pid
        self.known = {"Authorization": f"Bearer {token}"}

    def send(
        self, method: str, path: str, body: Iterator[bytes] | None = None, **headers: str
    ) -> tuple[int, dict[str, str]]:
        wire = http.client.HTTPConnection(self.host, timeout=900)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        wire.request(method, path, body=body, headers={**self.known, **named})
        answer = wire.getresponse()
        answer.read()
        wire.close()
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}


@contextmanager
def served(state: Path, size: int) -> Iterator[Gateway]:
    """A gateway that takes uploads of this size, with one person in it."""
    state.mkdir()
    state.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    site = set_up(state, port=port, slurm_conf=Path("/nonexistent"), upload_max_bytes=2 * size)
    said(site, "user", "add", PERSON)
    with running(site, "serve") as process:
        wait_until_served(site)
        yield Gateway(site.url, said(site, "token", "add", PERSON), process.pid)


def large_zip(folder: Path, megabytes: int) -> Path:
    """A zip of one file of noise, without code.py."""
    file = folder / "noise.zip"
    noise = os.urandom(16 * MIB)
    with (
        zipfile.ZipFile(file, "w") as packed,
        packed.open("p/noise.bin", "w", force_zip64=True) as noisy,
    ):
        for _ in range(megabytes * 10**6 // len(noise)):
            noisy.write(noise)
    return file


def measure(gateway: Gateway, file: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """By the way: seconds of each round, and KiB by which the gateway grew."""
    ways: dict[str, Callable[[Gateway, Path], int]] = {
        "tus, pieces of 64 MiB": by_tus,
        "one body": by_body,
        "multipart form": by_form,
    }
    rows: dict[str, dict[str, Any]] = {way: {"seconds": [], "cpu": [], "grown": []} for way in ways}
    for number in range(rounds + 1):
        for way, send in ways.items():
            before = forget_peak(gateway.pid)
            began, used = time.perf_counter(), cpu(gateway.pid)
            status = send(gateway, file)
            seconds = time.perf_counter() - began
            assert status == 422, f"{way}: {status}"
            if number:  # the first round warms the gateway and the disk
                rows[way]["seconds"].append(seconds)
                rows[way]["cpu"].append(cpu(gateway.pid) - used)
                rows[way]["grown"].append(memory(gateway.pid, "VmHWM") - before)
            os.sync()
    return rows


def cpu(pid: int) -> float:
    """Seconds of processor time that the gateway's processes have used."""
    spent = (Path(f"/proc/{each}/stat").read_text().rpartition(")")[2] for each in family(pid))
    return sum(sum(map(int, one.split()[11:13])) for one in spent) / os.sysconf("SC_CLK_TCK")


def by_tus(gateway: Gateway, file: Path) -> int:
    size = file.stat().st_size
    status, told = gateway.send(
        "POST", "/api/v1/uploads", **TUS, Upload_Length=str(size), Content_Length="0"
    )
    assert status == 201, status
    where = told["location"]
    with file.open("rb") as opened:
        for offset in range(0, size, PIECE):
            length = min(PIECE, size - offset)
            status, _ = gateway.send(
                "PATCH", where, slices(opened, length), **TUS,
                Upload_Offset=str(offset), Content_Length=str(length),
                Content_Type="application/offset+octet-stream",
            )  # fmt: skip
            assert status == 204, status
    return gateway.send("POST", f"/api/v1/runs?upload={where.rpartition('/')[2]}")[0]


def by_body(gateway: Gateway, file: Path) -> int:
    size = file.stat().st_size
    with file.open("rb") as opened:
        return gateway.send(
            "POST", "/api/v1/runs?filename=noise.zip", slices(opened, size),
            Content_Type="application/zip", Content_Length=str(size),
        )[0]  # fmt: skip


def by_form(gateway: Gateway, file: Path) -> int:
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="noise.zip"\r\n'
        "Content-Type: application/zip\r\n\r\n"
    ).encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    size = file.stat().st_size

    def body(opened: BinaryIO) -> Iterator[bytes]:
        yield head
        yield from slices(opened, size)
        yield tail

    with file.open("rb") as opened:
        return gateway.send(
            "POST", "/api/v1/runs", body(opened),
            Content_Type=f"multipart/form-data; boundary={BOUNDARY}",
            Content_Length=str(len(head) + size + len(tail)),
        )[0]  # fmt: skip


def slices(opened: BinaryIO, length: int) -> Iterator[bytes]:
    while length:
        part = opened.read(min(SLICE, length))
        length -= len(part)
        yield part


def report(rows: dict[str, dict[str, list[float]]], megabytes: int) -> str:
    """The table, in Markdown."""
    form = statistics.median(rows["multipart form"]["seconds"])
    lines = [
        f"{os.cpu_count()} cores; {megabytes} MB, medians.",
        "",
        "| way | s | MB/s | × the form's speed | gateway's CPU s | gateway grew by, at most |",
        "|---|---|---|---|---|---|",
    ]
    for way, row in rows.items():
        took = statistics.median(row["seconds"])
        lines.append(
            f"| {way} | {took:.1f} | {megabytes / took:.0f} | {form / took:.2f} | "
            f"{statistics.median(row['cpu']):.2f} | "
            f"{max(row['grown']) / 1024:.1f} MiB |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
