"""What becomes of a job that Slurm denies having: its node's word, and how long that waits."""

from __future__ import annotations

import logging

from nias_bridge.domain import JobState, Run
from nias_bridge.paths import RunPaths
from nias_bridge.services.evidence import Evidence, at_work, end_told
from nias_bridge.services.sight import Desk

log = logging.getLogger(__name__)

# While one of these was the last word, the job had certainly not started.
NOT_STARTED = frozenset({JobState.PENDING, JobState.CONFIGURING})


def missing_seconds(desk: Desk, run: Run) -> float:
    """For how long Slurm has denied the run's job, without a break."""
    since = run.missing_since
    return (desk.clock() - since).total_seconds() if since else 0.0


def submit_again(desk: Desk, run: Run) -> Run:
    """Slurm lost the job before it started: it is as if it had never been there."""
    log.warning("run %d: Slurm lost job %s before it started.", run.id, run.job_id)
    return desk.bridge.store.move(
        run,
        JobState.STAGED,
        at=desk.clock(),
        job_id=None,
        report=None,
        missing_since=None,
        note="Slurm lost the job before it started; it is submitted once more.",
    )


def nodes_word(
    desk: Desk, run: Run, files: RunPaths, evidence: Evidence, *, state: JobState, why: str
) -> tuple[JobState, str]:
    """What is shown of a job, or of a task of the run, of which Slurm has no word: and why.

    The end that the node wrote stands once Slurm has denied it for `lost_after`; that it wrote
    none, once both have been silent for `verdict_after`. files: where its node writes; state: what
    it was in until now.
    """
    settings, missing = desk.bridge.settings, missing_seconds(desk, run)
    if evidence.phase == "finished":
        if missing >= settings.lost_after:
            return end(evidence, why)
        return JobState.COMPLETING, f"{why}; its node says that it has ended."
    if at_work(desk.bridge.storage, files, evidence, desk.clock()):
        return JobState.RUNNING, f"{why}; its node last said that it is at work on it."
    if missing >= settings.verdict_after:
        return end(evidence, why)
    return state, f"{why}, and its node is silent; waiting for a word of either."


def end(evidence: Evidence, why: str) -> tuple[JobState, str]:
    """The end by what the node wrote, and why it is told by that."""
    if evidence.phase == "finished":
        return end_told(evidence), f"{why}; this is what its node wrote."
    return JobState.NODE_FAIL, f"{why}, and its node has written no end of it."
