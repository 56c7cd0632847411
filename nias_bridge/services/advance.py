"""One step of one run: STEPS says which function takes a run on from which state."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from nias_bridge.domain import OPEN_STATES, Filter, JobState, Run, SlurmReport, Usage
from nias_bridge.errors import (
    NiasError,
    NotAllowed,
    NotPossible,
    Rejected,
    SubmissionUnclear,
    TryLater,
    Unreachable,
)
from nias_bridge.node.layout import ALREADY_RUN
from nias_bridge.script import render
from nias_bridge.services import adopt, arrays, denied, grants, identity
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.evidence import Evidence, at_work, claimed_job, read_evidence
from nias_bridge.services.sight import Desk, alike, merged, runs_again

log = logging.getLogger(__name__)

RETRY_MAX = timedelta(seconds=60)
NICE_MAX = 1_000_000_000  # Slurm takes twice that


def advance(desk: Desk, run: Run) -> Run:
    """Take the run one step on, where there is one to take; each step ends in one commit.

    Raises Stale when somebody else changed the run meanwhile: the next round reads it anew.
    """
    return STEPS[run.state](desk, run)


def stage(desk: Desk, run: Run) -> Run:
    """RECEIVED: put the script beside the zip."""
    if run.cancel_asked_at:
        return _cancel_unsubmitted(desk, run)
    files = desk.bridge.paths.run(run)
    if run.tasks:
        arrays.stage(desk, run)
    if run.datasets:
        shown = {mount.name: mount.sha256 for mount in run.datasets}
        desk.bridge.storage.write(files.seen, json.dumps(shown))
    script = render(run, desk.bridge.paths, desk.bridge.settings, _nice(desk.bridge, run))
    desk.bridge.storage.write(files.script, script)
    return _move(desk, run, JobState.STAGED)


def _nice(bridge: Bridge, run: Run) -> int:
    """So that who sends many runs slows nobody down: each further one of a person stands behind.

    Where all jobs run as one account, Slurm itself can't tell whose share is used up.
    """
    own = Filter(owners=frozenset({run.owner}), states=OPEN_STATES, per_page=1)
    before = bridge.store.runs(own).total - 1 + max(run.tasks - 1, 0)
    return min(bridge.settings.fair_nice * max(before, 0), NICE_MAX)


def submit(desk: Desk, run: Run) -> Run:
    """STAGED: commit SUBMITTING, and only then call sbatch.

    Whatever happens after that commit, the run is looked up by its name before it may come here
    again.
    """
    if run.cancel_asked_at:
        return _cancel_unsubmitted(desk, run)
    if run.submissions and desk.clock() < run.changed_at + _patience(run.submissions):
        return run
    try:
        user = identity.user_of(desk.bridge, run.owner)  # who may have been unlinked meanwhile
        if user and run.datasets:
            grants.open_to(desk.bridge, desk.doors, run, user)
    except (NotAllowed, NotPossible) as error:
        return _reject(desk, run, error)
    return _submit(desk, run, user)


def _submit(desk: Desk, run: Run, user: str | None) -> Run:
    files = desk.bridge.paths.run(run)
    run = _move(desk, run, JobState.SUBMITTING, submissions=run.submissions + 1)
    output = files.task_logs_on_cluster if run.tasks else files.log_on_cluster
    try:
        if user:
            identity.prepare(desk.bridge, run.owner)
        job_id = desk.scheduler.submit(
            files.script_on_cluster, name=run.job_name, log=output, user=user
        )
    except Rejected as error:
        return _reject(desk, run, error)
    except (TryLater, Unreachable) as error:
        return _move(desk, run, JobState.STAGED, note=str(error))
    except SubmissionUnclear as error:
        log.warning("run %d: %s Looking for its job by name.", run.id, error)
        return desk.bridge.store.update(run, note=str(error))
    return _move(desk, run, JobState.PENDING, job_id=job_id, submitted_at=desk.clock(), note="")


def look_up(desk: Desk, run: Run) -> Run:
    """SUBMITTING, and nobody knows whether sbatch was heard: find the job by its name."""
    if desk.sight is None:
        return run
    found = desk.sight.queued(run) or desk.sight.recorded(run)
    if found is None:
        return _denied(desk, run)
    return follow(desk, _adopt(desk, run, found))


def follow(desk: Desk, run: Run) -> Run:
    """Slurm has the job: take over its state, and its record once it has ended."""
    sight = desk.sight
    if sight is None:
        return run
    if run.native:
        run = adopt.settle(desk.bridge, run)
    if run.tasks:
        return arrays.follow(desk, run)
    queued, recorded = sight.queued(run), sight.recorded(run)
    if recorded and recorded.state.ended and not runs_again(queued, recorded):
        return _end(desk, run, recorded)
    if run.native and queued is None and sight.given_again(run):
        why, files = "Slurm has given the job's number to another job", desk.bridge.paths.run(run)
        evidence = read_evidence(desk.bridge.storage, files)
        working = at_work(desk.bridge.storage, files, evidence, desk.clock())
        return (_told_by_node if working else _end_by_evidence)(desk, run, why, evidence)
    told = queued or (None if sight.complete else recorded)
    if queued and recorded:
        told = replace(queued, memory_asked=recorded.memory_asked)
    return _denied(desk, run) if told is None else _take_over(desk, run, told)


def note_usage(bridge: Bridge, run: Run, used: Usage, at: datetime) -> Run:
    """Remember what a running job has used, where that has changed by more than a hundredth.

    Raises Stale.
    """
    report = run.report
    if report is None or (
        alike(report.cpu_time, used.cpu_time) and alike(report.max_rss, used.max_rss)
    ):
        return run
    measured = replace(report, cpu_time=used.cpu_time, max_rss=used.max_rss, measured_at=at)
    return bridge.store.update(run, report=measured)


STEPS: dict[JobState, Callable[[Desk, Run], Run]] = {
    JobState.RECEIVED: stage,
    JobState.STAGED: submit,
    JobState.SUBMITTING: look_up,
    JobState.PENDING: follow,
    JobState.CONFIGURING: follow,
    JobState.RUNNING: follow,
    JobState.SUSPENDED: follow,
    JobState.COMPLETING: follow,
    JobState.REQUEUED: follow,
}


def _take_over(desk: Desk, run: Run, told: SlurmReport) -> Run:
    if run.cancel_asked_at and not told.state.ended:
        _cancel(desk, run)
    # squeue may know of the end before the record of it has come: till then it is completing.
    state = JobState.COMPLETING if told.state.ended else told.state
    report = merged(run.report, told)
    if state != run.state:
        return _move(desk, run, state, report=report, note="", missing_since=None)
    if report != run.report or run.missing_since or run.note:
        return desk.bridge.store.update(run, report=report, note="", missing_since=None)
    return run


def _end(desk: Desk, run: Run, recorded: SlurmReport) -> Run:
    files = desk.bridge.paths.run(run)
    claimant = claimed_job(desk.bridge.storage, files)
    if claimant is not None and claimant != recorded.job_id and not run.native:
        # Two jobs came to be under one name; the other one got the claim, so it is the run's.
        return desk.bridge.store.update(run, job_id=claimant, report=None)
    evidence = read_evidence(desk.bridge.storage, files)
    if recorded.exit_code == ALREADY_RUN and evidence.exit_code != ALREADY_RUN:
        # A slurmctld that was killed can start a job twice: this is the second start's end.
        why = "Slurm started the job twice and has the wrong end on record"
        if evidence.phase == "finished":
            return _end_by_evidence(desk, run, why, evidence)
        if run.missing_since is None:
            run = desk.bridge.store.update(run, missing_since=desk.clock())
        return _told_by_node(desk, run, why, evidence)
    return _move(desk, run, recorded.state, report=recorded, note="", missing_since=None)


def _denied(desk: Desk, run: Run) -> Run:
    """Slurm answered and does not have the job among its living, nor an end of it on record.

    Where it did not answer, the time of its denial begins anew.
    """
    if desk.sight is None or not desk.sight.complete:
        return desk.bridge.store.update(run, missing_since=None) if run.missing_since else run
    if run.missing_since is None:
        run = desk.bridge.store.update(run, missing_since=desk.clock())
    not_started = run.state in denied.NOT_STARTED or run.state is JobState.SUBMITTING
    files = desk.bridge.paths.run(run)
    if run.native or not not_started or desk.bridge.storage.info(files.claim):
        evidence = read_evidence(desk.bridge.storage, files)
        return _told_by_node(desk, run, "Slurm has forgotten this job", evidence)
    if denied.missing_seconds(desk, run) < desk.bridge.settings.lost_after:
        return run
    return denied.submit_again(desk, run)


def _told_by_node(desk: Desk, run: Run, why: str, evidence: Evidence) -> Run:
    """Slurm has no word on the job, so that its node's is shown, and said to be that."""
    files = desk.bridge.paths.run(run)
    state, note = denied.nodes_word(desk, run, files, evidence, state=run.state, why=why)
    if state.ended:
        return _move(desk, run, state, note=note)
    known = {"job_id": run.job_id or claimed_job(desk.bridge.storage, files), "note": note}
    if state != run.state:
        return _move(desk, run, state, **known)
    return run if run.note == note else desk.bridge.store.update(run, **known)


def _end_by_evidence(desk: Desk, run: Run, why: str, evidence: Evidence) -> Run:
    state, note = denied.end(evidence, why)
    return _move(desk, run, state, note=note)


def _adopt(desk: Desk, run: Run, found: SlurmReport) -> Run:
    """The job that was looked for by its name is there: from now on it is followed."""
    state = JobState.COMPLETING if found.state.ended else found.state
    return _move(
        desk,
        run,
        state,
        job_id=found.job_id,
        submitted_at=found.submitted_at or desk.clock(),
        report=found,
        note="",
        missing_since=None,
    )


def _cancel(desk: Desk, run: Run) -> None:
    if run.job_id is None:
        return
    try:
        user = identity.user_of_job(desk.bridge, run)
        desk.scheduler.cancel(run.job_id, name=run.job_name, user=user)
    except (NotAllowed, Unreachable) as error:
        log.warning("run %d: not cancelled yet: %s", run.id, error)


def _reject(desk: Desk, run: Run, why: NiasError) -> Run:
    arrays.end_all(desk, run, JobState.REJECTED)
    return _move(desk, run, JobState.REJECTED, note=str(why))


def _cancel_unsubmitted(desk: Desk, run: Run) -> Run:
    arrays.end_all(desk, run, JobState.CANCELLED)
    return _move(desk, run, JobState.CANCELLED, note="Cancelled before it was given to Slurm.")


def _move(desk: Desk, run: Run, to: JobState, **changes: object) -> Run:
    return desk.bridge.store.move(run, to, at=desk.clock(), **changes)


def _patience(submissions: int) -> timedelta:
    return min(RETRY_MAX, timedelta(seconds=2 ** min(submissions, 6)))
