"""Put a run before the failure doctor: its symptoms, from the row and from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nias_bridge.domain import Run, SlurmReport
from nias_bridge.errors import NotPossible
from nias_bridge.services import desk, intake, wishes
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.doctor import Diagnosis, Remedy, Symptoms, diagnose
from nias_bridge.services.evidence import Evidence, read_evidence


def diagnosis(bridge: Bridge, run: Run, evidence: Evidence | None = None) -> Diagnosis | None:
    """What is told of an ended run; None where there is nothing to tell. A sweep, which has no log
    of its own, is told by one of its tasks.

    Found anew each time it is asked for, from the end of the log: some milliseconds.
    """
    most = limits(bridge, run)
    if most is None:
        return None
    if task := desk.telling_task(bridge, run):
        told = read_evidence(bridge.storage, bridge.paths.run(run).task(task.index))
        words = desk.task_tail(bridge, run, task.index)
        found = _told(run, task.report or run.report, told, words, most)
        return found and replace(found, sentence=f"Task {task.index}: {found.sentence}")
    told = evidence or read_evidence(bridge.storage, bridge.paths.run(run))
    return _told(run, run.report, told, desk.tail(bridge, run), most)


def _told(
    run: Run, report: SlurmReport | None, told: Evidence, words: str, most: wishes.Limits
) -> Diagnosis | None:
    return diagnose(
        Symptoms(
            state=run.state,
            exit_code=report.exit_code if report else told.exit_code,
            signal=told.signal or (report.signal if report else None),
            reason=told.reason,
            words=words,
            details=told.details,
            resources=run.resources,
            report=report,
            requirements=run.contents.requirements,
            project=run.project,
            outputs=told.outputs,
            elsewhere=told.elsewhere,
            most_memory=most.memory,
            most_time=most.time,
            has_gpus=bool(most.gpus),
        )
    )


def limits(bridge: Bridge, run: Run) -> wishes.Limits | None:
    """What the site allows to a run like this, by which an ended one is told; None for others."""
    if not run.state.ended:
        return None
    return wishes.limits_of(bridge.settings, bridge.store.cluster(), run.resources.partition)


def corrected(requirements: Sequence[str], remedy: Remedy) -> tuple[str, ...]:
    """The requirements as the remedy would have them."""
    instead = dict(remedy.replace)
    lines = [instead.get(line, line) for line in requirements]
    return tuple(line for line in (*lines, *remedy.add) if line)


def treat(bridge: Bridge, run_id: int, rule: str) -> Run:
    """A new run of the same zip with the correction that this rule's diagnosis offers.

    Raises NotFound, NotPossible when it offers none (any more).
    """
    run = desk.with_archive(bridge, run_id)
    found = diagnosis(bridge, run)
    if found is None or found.remedy is None or found.rule != rule:
        raise NotPossible("There is no such correction of this run. Reload its page.")
    remedy = found.remedy
    lines = corrected(run.contents.requirements, remedy) if remedy.add or remedy.replace else None
    return intake.repeat(bridge, run, resources=remedy.resources, requirements=lines)
