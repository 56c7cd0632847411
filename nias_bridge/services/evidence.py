"""What the node wrote of a run: evidence to show early, never the verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from nias_bridge.domain import JobState, SlurmReport
from nias_bridge.node import layout, stopping
from nias_bridge.paths import RunPaths
from nias_bridge.storage import Storage

DETAILS_MAX = 20_000  # characters
JSON_MAX_BYTES = 1024 * 1024  # what is parsed takes up to twenty times its size
ELSEWHERE_TOLD = 1000
_SAYS_WHEN = (layout.CLAIMED_BY, layout.ALIVE)
# A job says every 15 s that it is at work; NFS shows it up to a minute later, and clocks differ.
SILENT_AFTER = timedelta(minutes=2)


@dataclass(frozen=True, kw_only=True)
class EnvironmentUse:
    """The environment a run got: its key, whether it was built for it, seconds, package count."""

    key: str
    built: bool
    seconds: float
    packages: int


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The most memory that a run was seen to have, in bytes; seen_by: "slurm" or "node"."""

    bytes: int
    seen_by: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the node says: phase is "" before it started, then unpacking, environment, running,
    collecting, finished; timings in seconds by phase; details the resolver's own words; outputs
    how many files were collected; elsewhere those that were written beside output/; max_rss the
    most memory that one process had, in bytes."""

    phase: str = ""
    since: datetime | None = None
    node: str = ""
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    message: str = ""
    details: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    environment: EnvironmentUse | None = None
    outputs: int | None = None
    elsewhere: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    max_rss: int | None = None


def read_evidence(storage: Storage, files: RunPaths) -> Evidence:
    """The node's words on a run; empty where it has not written any.

    The code of the run may have written them: what is not of its kind counts as not said.
    """
    found = storage.contents([files.progress, files.exit], JSON_MAX_BYTES)
    progress, end = map(parsed, found)
    told = {**progress, **end}
    if not told:
        return Evidence()
    return Evidence(
        phase="finished" if end else words(progress.get("phase")),
        since=_moment(progress.get("since")),
        node=words(told.get("node")),
        exit_code=_whole(told.get("exit_code")),
        signal=_whole(told.get("signal")),
        reason=words(told.get("reason")),
        message=words(told.get("message")),
        details=words(told.get("details")),
        timings=_numbers(told.get("timings")),
        metrics=_numbers(end.get("metrics")),
        environment=_environment(told.get("environment")),
        outputs=_whole(_object(told.get("collected")).get("files")),
        elsewhere=_list_of_words(told.get("elsewhere")),
        max_rss=_whole(told.get("max_rss")),
    )


def words(told: object) -> str:
    """A text as any page and file can hold it; "" for what is none."""
    text = told[-DETAILS_MAX:] if isinstance(told, str) else ""
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair is no character


def _whole(told: object) -> int | None:
    fits = isinstance(told, int) and not isinstance(told, bool) and abs(told) < 2**63
    return told if fits else None  # type: ignore[return-value]


def _numbers(told: object) -> dict[str, float]:
    return {
        words(name): value
        for name, value in _object(told).items()
        if isinstance(value, int | float) and abs(value) < 2**63
    }


def _moment(told: object) -> datetime | None:
    seconds = told if isinstance(told, int | float) else math.nan
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _environment(told: object) -> EnvironmentUse | None:
    used = _object(told)
    if not used:
        return None
    return EnvironmentUse(
        key=words(used.get("key")),
        built=used.get("built") is True,
        seconds=_numbers(used).get("seconds", 0.0),
        packages=_whole(used.get("packages")) or 0,
    )


def _object(told: object) -> dict[str, Any]:
    return told if isinstance(told, dict) else {}


def _list_of_words(told: object) -> tuple[str, ...]:
    return tuple(map(words, told[:ELSEWHERE_TOLD])) if isinstance(told, list) else ()


def peak_memory(report: SlurmReport | None, evidence: Evidence) -> Peak | None:
    """The larger of the two figures: each can only be too small.

    Slurm adds up all processes of the job but looks only now and then; the node is told by the
    kernel, of the largest process alone, however short it was.
    """
    figures = ((report.max_rss if report else None, "slurm"), (evidence.max_rss, "node"))
    seen = [Peak(bytes=figure, seen_by=who) for figure, who in figures if figure]
    return max(seen, key=lambda peak: peak.bytes, default=None)


def claimed_job(storage: Storage, files: RunPaths) -> int | None:
    """The id of the job that claimed the run's token, where one did and said so."""
    return _whole(read_json(storage, files.claim / layout.CLAIMED_BY).get("job_id"))


def at_work(storage: Storage, files: RunPaths, evidence: Evidence, now: datetime) -> bool:
    """Whether the node said a short while ago that the job is under way, and not since that it
    has ended."""
    if evidence.phase == "finished":
        return False
    said = [_moment(read_json(storage, files.claim / name).get("at")) for name in _SAYS_WHEN]
    return any(at and abs(now - at) < SILENT_AFTER for at in (evidence.since, *said))


def end_told(evidence: Evidence) -> JobState:
    """The state that is nearest to how the node says the job ended."""
    if evidence.reason == stopping.TIME_LIMIT:
        return JobState.TIMEOUT
    return JobState.COMPLETED if evidence.exit_code == 0 else JobState.FAILED


def read_json(storage: Storage, file: PurePosixPath) -> dict[str, Any]:
    """The object in a file that a node publishes by rename; {} while there is none.

    What a job wrote is not trusted: a link, a pipe or anything that is no such object counts as
    none.
    """
    return parsed(*storage.contents([file], JSON_MAX_BYTES))


def parsed(found: bytes | None) -> dict[str, Any]:
    """The object that these bytes are as JSON; {} where they are none."""
    try:
        content = json.loads(found or b"")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
