"""The road of a run in five steps, as its page draws it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nias_bridge.domain import JobState, Run
from nias_bridge.services.desk import RunView
from nias_bridge.services.evidence import Evidence

# The node's phases, by the step of the page that they belong to.
_STEP_OF_PHASE = {
    "": "Queue",
    "unpacking": "Packages",
    "environment": "Packages",
    "running": "Code",
    "collecting": "Results",
    "finished": "Results",
}
_STEPS = ("Submit", "Queue", "Packages", "Code", "Results")
_BROKE_AT = {"archive": "Packages", "environment": "Packages"}
_BEFORE_SLURM = frozenset({JobState.RECEIVED, JobState.STAGED, JobState.SUBMITTING})


@dataclass(frozen=True)
class Step:
    """One step: how is done, now, broken or ahead; seconds that it took, or since when it runs."""

    name: str
    how: str
    seconds: float | None = None
    since: datetime | None = None


def steps(view: RunView) -> tuple[Step, ...]:
    """The five steps of a run, each with how far it is."""
    at = _STEPS.index(_current(view.run, view.evidence))
    ended = view.run.state.ended
    well = view.run.state == JobState.COMPLETED
    took = _seconds(view.run, view.evidence)
    told = []
    for index, name in enumerate(_STEPS):
        if index < at or (well and ended):
            how = "done"
        elif index > at:
            how = "ahead"
        else:
            how = "broken" if ended else "now"
        since = _since(view) if how == "now" else None
        told.append(Step(name, how, took.get(name) if how != "now" else None, since))
    return tuple(told)


def _current(run: Run, evidence: Evidence) -> str:
    if run.state in _BEFORE_SLURM:
        return "Submit"
    if run.state.ended:
        if run.state == JobState.COMPLETED:
            return "Results"
        return _BROKE_AT.get(evidence.reason) or _last_phase(run, evidence)
    return _phase(run, evidence)


def _phase(run: Run, evidence: Evidence) -> str:
    # The tasks of a sweep have their phases, the run has none.
    if run.tasks and run.state != JobState.PENDING:
        return "Code"
    return _STEP_OF_PHASE.get(evidence.phase, "Queue")


def _last_phase(run: Run, evidence: Evidence) -> str:
    """Where a run that did not end well stood when it ended."""
    if run.job_id is None:
        return "Submit"
    if evidence.phase == "finished":
        return "Code"
    return _phase(run, evidence)


def _since(view: RunView) -> datetime:
    return (view.evidence.phase and view.evidence.since) or view.run.changed_at


def _seconds(run: Run, evidence: Evidence) -> dict[str, float]:
    timings = evidence.timings
    took = {
        "Packages": timings.get("environment"),
        "Code": timings.get("code"),
        "Results": timings.get("collect"),
    }
    if run.submitted_at:
        took["Submit"] = (run.submitted_at - run.created_at).total_seconds()
    report = run.report
    if report and report.submitted_at and report.started_at:
        took["Queue"] = (report.started_at - report.submitted_at).total_seconds()
    return {name: max(0.0, seconds) for name, seconds in took.items() if seconds is not None}
