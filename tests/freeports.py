"""Ports of loopback that are named before somebody listens there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress


def free_port() -> int:
    """A port for whoever binds it later; until then nobody else is given it.

    It is none that the kernel gives away by itself, nor one of another worker of these tests.
    """
    for port in _PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("all ports of these tests were given")


def _ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    # Above 10080, where no browser goes, and below those of Slurm's daemons.
    mine = range(11_000 + worker % 9 * 1000, 12_000 + worker % 9 * 1000)
    begin = os.getpid() % len(mine)
    return (mine[(begin + number) % len(mine)] for number in range(len(mine)))


_PORTS = _ports()
