"""Slurm's ways of writing times, sizes and counts; what it does not know becomes None."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5}
# ReqMem of Slurm before 21.08 ends in n (per node) or c (per CPU).
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGTP]?)[nc]?\Z", re.ASCII)
_JOB = re.compile(
    r"(?P<id>\d+)(?:_(?P<task>\d+)|_\[(?P<tasks>[\d,:.-]*)(?:%\d+)?\])?(?:\+\d+)?\Z", re.ASCII
)
_RANGE = re.compile(r"(\d+)(?:-(\d+))?(?::(\d+))?")
_LONGEST = 1e12  # seconds
_DURATION = re.compile(
    r"(?:(?:(?P<days>\d+)-)?(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+(?:\.\d+)?)\Z",
    re.ASCII,
)


def count(text: str) -> int | None:
    """A whole number, or None."""
    return int(text) if text.isascii() and text.isdigit() else None


def job(text: str) -> tuple[int | None, tuple[int, ...]]:
    """A job's id, and which tasks of an array: "12", "12_3", "12_[5-9,11%4]"; None for others.

    Of a set that was cut off ("[0-9,...]") the tasks that are told.
    """
    match = _JOB.match(text)
    if not match:
        return None, ()
    return int(match["id"]), tuple(_tasks(match["task"] or match["tasks"] or ""))


def _tasks(text: str) -> Iterator[int]:
    for first, last, step in _RANGE.findall(text):
        yield from range(int(first), int(last or first) + 1, int(step or 1))


def moment(text: str) -> datetime | None:
    """Seconds since 1970 (SLURM_TIME_FORMAT=%s) as a time in UTC, or None."""
    seconds = count(text)
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def size(text: str, *, unit: str = "") -> int | None:
    """Bytes of "77532K" or "1.50G", or None; `unit` is that of a bare number."""
    match = _SIZE.match(text)
    return round(float(match[1]) * _UNITS[match[2] or unit]) if match else None


def duration(text: str) -> float | None:
    """Seconds of [[DD-]HH:]MM:SS[.mmm], or None.

    A job that has just begun may be told with a CPU time of -1, which is printed as 2**64 less
    one, in whatever unit: millions of years are unknown.
    """
    match = _DURATION.match(text)
    if not match:
        return None
    days, hours, minutes = (int(match[part] or 0) for part in ("days", "hours", "minutes"))
    seconds = (days * 24 + hours) * 3600 + minutes * 60 + float(match["seconds"])
    return seconds if seconds < _LONGEST else None


def whole_seconds(text: str) -> int | None:
    """Whole seconds of a duration, or None."""
    seconds = duration(text)
    return None if seconds is None else int(seconds)


def minutes_in_seconds(text: str) -> int | None:
    """Seconds of a whole number of minutes, or None."""
    minutes = count(text)
    return None if minutes is None else minutes * 60


def release(version: str) -> tuple[int, ...]:
    """What of a version has to fit: (22, 5) of "22.05.8" as of "22.5.3"."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
