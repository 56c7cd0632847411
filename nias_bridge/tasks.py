"""The tasks of a sweep, and how their states and records make those of the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from nias_bridge.domain import JobState, Run, Scalar, SlurmReport


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of a sweep, by its index in the job array.

    state is PENDING until Slurm has started it; report is its own, None until then; metrics are
    the numbers that it wrote to output/metrics.json, known once it has ended.
    """

    run_id: int
    index: int
    parameters: Mapping[str, Scalar]
    state: JobState = JobState.PENDING
    report: SlurmReport | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    cancel_asked_at: datetime | None = None

    @property
    def seconds(self) -> int | None:
        """How long it took, once it has ended."""
        return self.report.elapsed if self.report else None


# Of a sweep that is not over: the first of these that any task is in …
_UNDER_WAY = (
    JobState.RUNNING,
    JobState.COMPLETING,
    JobState.SUSPENDED,
    JobState.CONFIGURING,
    JobState.REQUEUED,
)
# … and of one that is over: the first that any task came to. What the researcher can't mend by
# waiting stands before what a second try may mend.
_GRAVEST = (
    JobState.OUT_OF_MEMORY,
    JobState.TIMEOUT,
    JobState.FAILED,
    JobState.DEADLINE,
    JobState.NODE_FAIL,
    JobState.BOOT_FAIL,
    JobState.PREEMPTED,
    JobState.REJECTED,
    JobState.CANCELLED,
    JobState.COMPLETED,
)


def run_state(counts: Mapping[JobState, int]) -> JobState:
    """The state of a run whose tasks are in these states (how many in each).

    PENDING until a task starts; then RUNNING (or nearly so) until the last has ended.
    """
    present = {state for state, count in counts.items() if count}
    if all(state.ended for state in present):
        return next(state for state in _GRAVEST if state in present)
    if present == {JobState.PENDING}:
        return JobState.PENDING
    return next((state for state in _UNDER_WAY if state in present), JobState.RUNNING)


def run_report(run: Run, tasks: Iterable[Task]) -> SlurmReport | None:
    """One record of an ended sweep from those of its tasks: sums of times, the peak of memory."""
    reports = [task.report for task in tasks if task.report]
    if not reports:
        return run.report
    gravest = min(reports, key=lambda report: _GRAVEST.index(report.state))
    starts = [report.started_at for report in reports if report.started_at]
    ends = [report.ended_at for report in reports if report.ended_at]
    started, ended = min(starts, default=None), max(ends, default=None)
    peaks = [report.max_rss for report in reports if report.max_rss is not None]
    nodes = sorted({report.nodes for report in reports if report.nodes})
    return replace(
        gravest,
        array_tasks=(),
        task_job_id=None,
        nodes=", ".join(nodes[:3]) + (f" and {len(nodes) - 3} more" if nodes[3:] else ""),
        started_at=started,
        ended_at=ended,
        elapsed=int((ended - started).total_seconds()) if started and ended else None,
        cpu_time=sum(report.cpu_time or 0 for report in reports),
        max_rss=max(peaks, default=None),
        restarts=sum(report.restarts for report in reports),
    )
