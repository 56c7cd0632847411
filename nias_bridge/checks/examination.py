"""The table of all points, and how they are gone through."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial

from nias_bridge.checks import cluster, database, machine, nodes, people, storage
from nias_bridge.checks.clocks import graded_clock
from nias_bridge.checks.points import Finding, Point, Result, skipped, unknown
from nias_bridge.checks.probing import Probed, probe
from nias_bridge.checks.subject import Subject
from nias_bridge.errors import NiasError

log = logging.getLogger(__name__)

POINTS: dict[str, tuple[Point, ...]] = {
    "This machine": machine.POINTS,
    "Shared storage": storage.POINTS,
    "Database": database.POINTS,
    "Slurm": cluster.POINTS,
    "People": people.POINTS,
}
NODES = "Nodes"
NOTHING_TOLD = "the probe job told nothing"


def examine(subject: Subject) -> Iterator[Result]:
    """Look at every point, whatever was found at those before; each is told at once."""
    for part, points in POINTS.items():
        for point in points:
            yield Result(part, point.name, _looked(partial(point.look, subject)))
    if not subject.wanted.job:
        yield Result(NODES, "probe job", skipped("--no-job was given"))
        return
    for partition in subject.wanted.partitions or ("",):
        yield from _of_node(subject, probe(subject, partition))


def _of_node(subject: Subject, probed: Probed) -> Iterator[Result]:
    yield Result(NODES, "probe job", probed.finding, probed.partition)
    facts = probed.facts
    for point in nodes.POINTS:
        finding = unknown(NOTHING_TOLD)
        if facts is not None:
            finding = _looked(partial(point.look, subject, facts))
        yield Result(NODES, point.name, finding, probed.partition)
    clock = unknown(NOTHING_TOLD)
    if facts is not None:
        host, told_at = str(facts["host"]), float(facts["clock"])
        clock = graded_clock(host, told_at, probed.asked_at, probed.told_at)
    yield Result(NODES, "clock", clock, probed.partition)


def _looked(look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except (NiasError, OSError) as error:
        return unknown(str(error))
    except Exception as error:  # a point that is wrong itself must not hide the others
        log.debug("A point could not be looked at.", exc_info=True)
        return unknown(f"{type(error).__name__}: {error}")
