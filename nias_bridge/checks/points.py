"""What a point of an examination is, what is found there, and what all of it comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nias_bridge.checks.subject import Subject


class Grade(StrEnum):
    """UNKNOWN: it could not be looked at; SKIPPED: it is not to be looked at, or is not there."""

    WELL = "well"
    WARNING = "warning"
    FAULT = "fault"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """What was seen at a point, as a clause, and what to do about it ("" where nothing is)."""

    grade: Grade
    seen: str
    mend: str = ""


def well(seen: str) -> Finding:
    return Finding(Grade.WELL, seen)


def warning(seen: str, mend: str) -> Finding:
    return Finding(Grade.WARNING, seen, mend)


def fault(seen: str, mend: str) -> Finding:
    return Finding(Grade.FAULT, seen, mend)


def unknown(seen: str, mend: str = "") -> Finding:
    return Finding(Grade.UNKNOWN, seen, mend)


def skipped(why: str) -> Finding:
    return Finding(Grade.SKIPPED, why)


Facts = dict[str, Any]  # what a node told of itself, as node/probe.py writes it


@dataclass(frozen=True)
class Point:
    """One line of the table: `look` raises NiasError where it can't look."""

    name: str
    look: Callable[[Subject], Finding]


@dataclass(frozen=True)
class NodePoint:
    """One line of the table of nodes, looked at for each probe job."""

    name: str
    look: Callable[[Subject, Facts], Finding]


@dataclass(frozen=True)
class Result:
    """A finding with its place; where: the partition whose node it is of, else ""."""

    part: str
    point: str
    finding: Finding
    where: str = ""


def exit_status(results: Iterable[Result]) -> int:
    """0: all is well, perhaps with warnings; 1: there are faults; 2: not all could be looked at."""
    grades = {one.finding.grade for one in results}
    if Grade.FAULT in grades:
        return 1
    return 2 if Grade.UNKNOWN in grades else 0
