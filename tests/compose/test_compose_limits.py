"""With the overlay for cgroups the kernel keeps jobs to what they asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from client import Client
from containers import Containers

EATS = "held = []\nwhile True:\n    held.append(bytearray(16 << 20))\n"
LIMIT = 200 << 20
# With cgroups of version 2 Slurm told 1 MB more than the limit of a job that the kernel had ended.
PEAK = LIMIT + (4 << 20)


@pytest.fixture(scope="module")
def limited(containers: Containers, client: Client) -> Iterator[Client]:
    with containers.overlaid("compose.cgroup.yaml"):
        yield client


def test_a_job_never_has_more_memory_than_it_asked_for(limited: Client) -> None:
    run = limited.ended(limited.upload(EATS, memory="200M")["id"])
    assert run["state"] == "OUT_OF_MEMORY", limited.log(run["id"])
    assert 0 < run["accounting"]["max_rss_bytes"] <= PEAK
    assert run["diagnosis"]["correction"] == "Run again with 400 MB"


def test_what_keeps_to_it_is_left_alone(limited: Client) -> None:
    run = limited.ended(limited.upload("held = bytearray(64 << 20)\n", memory="200M")["id"])
    assert run["state"] == "COMPLETED", limited.log(run["id"])
