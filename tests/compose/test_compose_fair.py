"""Two researchers send forty projects at once to three nodes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from client import Client
from containers import Containers, Record, eventually

RUNS_EACH = 20
ALL_SECONDS = 180
SAYS_WHOSE = "open('output/whose.txt', 'w').write('{person} {number}')\n"

Run = dict[str, Any]


@pytest.fixture(scope="module")
def clients(containers: Containers) -> dict[str, Client]:
    return {person: containers.client_of(person) for person in ("ana", "ben")}


@pytest.fixture(scope="module")
def ended(containers: Containers, clients: dict[str, Client]) -> dict[str, list[Run]]:
    """By researcher, her runs in the order in which she sent them."""
    containers.up("--no-recreate", "--scale", "more=1")
    eventually(lambda: set(containers.nodes().values()) == {"idle"}, seconds=60)

    def send(person: str) -> list[int]:
        return [
            clients[person].upload(SAYS_WHOSE.format(person=person, number=number))["id"]
            for number in range(RUNS_EACH)
        ]

    with ThreadPoolExecutor(len(clients)) as both:
        sent = dict(zip(clients, both.map(send, clients), strict=True))
    return {
        person: [clients[person].ended(run_id, seconds=ALL_SECONDS) for run_id in ids]
        for person, ids in sent.items()
    }


@pytest.fixture(scope="module")
def records(containers: Containers, ended: dict[str, list[Run]]) -> list[Record]:
    """What the accounting has of these runs, all of which it knows the end of."""
    names = {run["job_name"] for runs in ended.values() for run in runs}
    eventually(lambda: names <= {r.name for r in containers.records() if r.end}, seconds=60)
    return [record for record in containers.records() if record.name in names]


def test_each_comes_back_to_the_one_who_sent_it(
    clients: dict[str, Client], ended: dict[str, list[Run]]
) -> None:
    for person, runs in ended.items():
        assert {run["state"] for run in runs} == {"COMPLETED"}
        results = [clients[person].results(run["id"]) for run in runs]
        assert results == [
            {"whose.txt": f"{person} {number}".encode()} for number in range(RUNS_EACH)
        ]


def test_all_nodes_work_and_no_slot_ever_has_two(records: list[Record]) -> None:
    assert len(records) == 2 * RUNS_EACH
    assert {record.node for record in records} == {"c1", "c2", "c3"}
    assert overlaps(records) == []


def test_neither_waits_for_the_other(ended: dict[str, list[Run]], records: list[Record]) -> None:
    starts = {record.name: (record.start or 0, record.job_id) for record in records}
    order = sorted(
        (starts[run["job_name"]], person) for person, runs in ended.items() for run in runs
    )
    first_half = [person for _, person in order[:RUNS_EACH]]
    assert RUNS_EACH / 4 <= first_half.count("ana") <= RUNS_EACH * 3 / 4, first_half


def overlaps(records: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Pairs of jobs on one node of which the later began before the earlier had ended."""
    by_node = sorted(records, key=lambda r: (r.node, r.start or 0, r.end or 0))
    return [
        (earlier, later)
        for earlier, later in itertools.pairwise(by_node)
        if earlier.node == later.node and (later.start or 0) < (earlier.end or 0)
    ]
