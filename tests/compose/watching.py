"""What the gateway tells of runs, looked at all the while, and held against what was so."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from client import Client
from containers import Record

LOOK_SECONDS = 0.25
STARTED = frozenset({"RUNNING", "COMPLETING"})


@dataclass(frozen=True)
class Told:
    """A state, and the moments (of the epoch) at which it was first and last told of a run."""

    state: str
    first: float
    last: float


class Watch:
    """By the runs' ids, the states that were told of them, in their order."""

    def __init__(self) -> None:
        self.told: dict[int, list[Told]] = defaultdict(list)
        self.looks = 0

    def look(self, client: Client) -> None:
        """Take down how all runs of a person are told to be."""
        asked = time.time()
        page = json.loads(client.get("/api/v1/runs?per_page=100"))
        for run in page["runs"]:
            states = self.told[run["id"]]
            if not states or states[-1].state != run["state"]:
                states.append(Told(run["state"], asked, asked))
            else:
                states[-1] = Told(run["state"], states[-1].first, asked)
        self.looks += 1

    def states(self, run_id: int) -> list[str]:
        return [told.state for told in self.told[run_id]]


@contextmanager
def watching(clients: Sequence[Client]) -> Iterator[Watch]:
    """Look again and again within this block. A gateway that does not answer tells nothing."""
    watch, over = Watch(), threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            for client in clients:
                with suppress(OSError):
                    watch.look(client)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def told_too_early(told: Sequence[Told], record: Record) -> list[Told]:
    """Starts and ends that were told before they were on record; the record has whole seconds."""
    begun, over = record.start or 0, record.end or 0
    return [
        each
        for each in told
        if (each.state in STARTED and each.first < begun)
        or (each.state == record.state and each.first < over)
    ]


def steps_back(states: Sequence[str], order: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs of states of which the later was told first, or that have no place in the order."""
    return [
        pair
        for pair in itertools.pairwise(states)
        if order.get(pair[0], 99) >= order.get(pair[1], -1)
    ]
