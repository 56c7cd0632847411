"""What a job has used of what it asked for, and what would have been enough."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nias_bridge.domain import JobState, Run
from nias_bridge.services.evidence import Peak
from nias_bridge.settings import Settings

MIB, GIB = 1024**2, 1024**3
LITTLE = 1 / 3  # of what was asked for: below it there is advice
ROOM = 1.5  # times the peak is enough
# Slurm samples memory now and then: what a shorter run had is chance.
SECONDS_LEAST = 30


@dataclass(frozen=True, kw_only=True)
class Efficiency:
    """Shares of what was asked for, on average (cpu) and at the peak (memory); None: not known.

    cpus_enough and memory_enough (bytes) are advice: None where there is none to give.
    """

    cpu: float | None = None
    memory: float | None = None
    cpus_enough: int | None = None
    memory_enough: int | None = None


def efficiency(run: Run, settings: Settings, peak: Peak | None) -> Efficiency | None:
    """That of a run that ended, or so far of one that runs; None where nothing was measured."""
    report = run.report
    if report is None:
        return None
    seconds = float(report.elapsed or 0)
    if not run.state.ended:
        if report.measured_at is None or report.started_at is None:
            return None
        seconds = (report.measured_at - report.started_at).total_seconds()
    cpu = memory = None
    if report.cpu_time is not None and report.cpus and seconds > 0:
        cpu = min(1.0, report.cpu_time / (seconds * report.cpus))
    if peak and report.memory_asked:
        memory = peak.bytes / report.memory_asked
    cpus_enough = memory_enough = None
    if run.state is JobState.COMPLETED and seconds >= SECONDS_LEAST:
        # A whole node is given whole: asking for less of it changes nothing.
        by_parts = settings.slot_cpus is not None
        if (run.resources.cpus or by_parts) and cpu is not None and cpu < LITTLE and report.cpus:
            cpus_enough = _below(math.ceil(cpu * report.cpus * ROOM), report.cpus)
        if peak and (run.resources.memory or by_parts) and memory and memory < LITTLE:
            memory_enough = _below(_round(ROOM * peak.bytes), report.memory_asked or 0)
    if cpu is None and memory is None:
        return None
    return Efficiency(cpu=cpu, memory=memory, cpus_enough=cpus_enough, memory_enough=memory_enough)


def _below(enough: int, asked: int) -> int | None:
    return enough if enough < asked else None


def _round(size: float) -> int:
    """Up to what people ask for: hundreds of MB, from one GB on whole ones."""
    step = GIB if size > 900 * MIB else 100 * MIB
    return math.ceil(size / step) * step
