"""What the node wrote of a run: evidence to show early, never the verdict."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nias_bridge.domain import SlurmReport
from nias_bridge.paths import RunPaths
from nias_bridge.services.shared import open_plain

DETAILS_MAX = 20_000  # characters
JSON_MAX_BYTES = 64 * 1024 * 1024


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


def read_evidence(files: RunPaths) -> Evidence:
    """The node's words on a run; empty where it has not written any."""
    progress, end = read_json(files.progress), read_json(files.exit)
    told = {**progress, **end}
    if not told:
        return Evidence()
    used = told.get("environment")
    since, peak = progress.get("since"), told.get("max_rss")
    return Evidence(
        phase="finished" if end else str(progress.get("phase", "")),
        since=datetime.fromtimestamp(since, UTC) if since is not None else None,
        node=str(told.get("node", "")),
        exit_code=told.get("exit_code"),
        signal=told.get("signal"),
        reason=str(told.get("reason", "")),
        message=str(told.get("message") or ""),
        details=str(told.get("details") or "")[-DETAILS_MAX:],
        timings=told.get("timings") or {},
        metrics=_numbers(end.get("metrics")),
        environment=EnvironmentUse(
            key=used["key"],
            built=used["built"],
            seconds=used["seconds"],
            packages=used["packages"],
        )
        if used
        else None,
        outputs=(told.get("collected") or {}).get("files"),
        elsewhere=tuple(map(str, told.get("elsewhere") or ())),
        max_rss=peak if isinstance(peak, int) else None,
    )


def _numbers(told: object) -> dict[str, float]:
    numbers = told.items() if isinstance(told, dict) else ()
    return {
        name: value
        for name, value in numbers
        if isinstance(value, int | float) and math.isfinite(value)
    }


def peak_memory(report: SlurmReport | None, evidence: Evidence) -> Peak | None:
    """The larger of the two figures: each can only be too small.

    Slurm adds up all processes of the job but looks only now and then; the node is told by the
    kernel, of the largest process alone, however short it was.
    """
    figures = ((report.max_rss if report else None, "slurm"), (evidence.max_rss, "node"))
    seen = [Peak(bytes=figure, seen_by=who) for figure, who in figures if figure]
    return max(seen, key=lambda peak: peak.bytes, default=None)


def claimed_job(files: RunPaths) -> int | None:
    """The id of the job that claimed the run's token, where one did and said so."""
    job = read_json(files.claim / "job").get("job_id")
    return int(job) if job is not None else None


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file that a node publishes by rename; {} while there is none.

    What a job wrote is not trusted: a link, a pipe or anything that is no such object counts as
    none.
    """
    try:
        with open_plain(file) as opened:
            if os.fstat(opened.fileno()).st_size > JSON_MAX_BYTES:
                return {}
            content = json.loads(opened.read())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
