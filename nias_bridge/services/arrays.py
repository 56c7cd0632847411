"""A sweep is one job array: the rules by which its tasks go on, and the run with them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import replace

from nias_bridge.domain import OPEN_STATES, JobState, Run, SlurmReport
from nias_bridge.errors import NotAllowed, Unreachable
from nias_bridge.node.layout import ALREADY_RUN
from nias_bridge.services import identity
from nias_bridge.services.denied import NOT_STARTED, missing_seconds, nodes_word, submit_again
from nias_bridge.services.evidence import claimed_job, peak_memory, read_evidence
from nias_bridge.services.sight import Desk, Sight, alike, runs_again
from nias_bridge.tasks import Task, run_report, run_state

log = logging.getLogger(__name__)


def stage(desk: Desk, run: Run) -> None:
    """Put the tasks' parameters beside the script."""
    told = [dict(task.parameters) for task in desk.bridge.store.tasks(run.id)]
    file = desk.bridge.paths.run(run).sweep
    desk.bridge.storage.write(file, json.dumps(told, ensure_ascii=False))


def end_all(desk: Desk, run: Run, state: JobState) -> None:
    """The run ends before Slurm had it, and its tasks (if it has any) with it."""
    if run.tasks:
        tasks = desk.bridge.store.tasks(run.id, OPEN_STATES)
        desk.bridge.store.save_tasks([replace(task, state=state) for task in tasks])


def follow(desk: Desk, run: Run) -> Run:
    """Slurm has the array: take over each task's state, its record once it has ended.

    What is written of the tasks is one transaction, what follows of the run another; a poller
    that dies between them finds the rest to do from what the tasks say.
    """
    if desk.sight is None:
        return run
    store = desk.bridge.store
    tasks = store.tasks(run.id, OPEN_STATES)
    _cancel(desk, run, tasks)
    queued, recorded = desk.sight.queued_tasks(run), desk.sight.recorded_tasks(run)
    denied, changed = [], []
    for task in tasks:
        after = _next(desk, run, task, queued.get(task.index), recorded.get(task.index))
        if after is None:
            denied.append(task)
        elif after != task:
            changed.append(after)
    if denied and desk.sight.complete:
        wished = [task for task in denied if task.cancel_asked_at or run.cancel_asked_at]
        gone = [task for task in wished if _never_started(desk, run, task)]
        changed += [replace(task, state=JobState.CANCELLED) for task in gone]
        denied = [task for task in denied if task not in gone]
    if denied and desk.sight.complete:
        if run.missing_since is None:
            run = store.update(run, missing_since=desk.clock())
        elif _lost_before_it_started(desk, run, denied):
            return submit_again(desk, run)
        else:
            changed += _told_by_node(desk, run, denied)
    elif run.missing_since and not denied:
        run = store.update(run, missing_since=None, note="")
    store.save_tasks(changed)
    return _take_over(desk, run, queued)


def _next(
    desk: Desk, run: Run, task: Task, queued: SlurmReport | None, recorded: SlurmReport | None
) -> Task | None:
    """The task as it is now; None where Slurm denies it, or what it says can't be of this task."""
    if recorded and recorded.state.ended and not runs_again(queued, recorded):
        if recorded.started_at is None and queued is not None and queued.started_at is not None:
            return task  # a record of those that waited together: it left before they were ended
        return _ended(desk, run, task, recorded)
    told = queued or (None if _answered(desk.sight) else recorded)
    if told is None:
        return None if _answered(desk.sight) else task
    if told.state is JobState.PENDING and not told.restarts:
        return replace(task, state=JobState.PENDING, report=None, note="")
    # squeue may know of the end before the record of it has come: till then it is completing.
    state = JobState.COMPLETING if told.state.ended else told.state
    still = replace(
        told, elapsed=None, place=None, cpu_time=None, max_rss=None, array_tasks=(task.index,)
    )
    report = _measured(desk, still, task.report, recorded)
    return replace(task, state=state, report=report, note="")


def _measured(
    desk: Desk, still: SlurmReport, before: SlurmReport | None, recorded: SlurmReport | None
) -> SlurmReport:
    """What squeue tells of a task that runs, with what sacct and sstat last told of this start."""
    if before is None or before.restarts != still.restarts:
        before = still
    own_id = recorded.task_job_id if recorded else before.task_job_id
    used, at = desk.used.get(own_id or 0, (None, None))
    known = replace(
        still,
        task_job_id=own_id,
        memory_asked=recorded.memory_asked if recorded else before.memory_asked,
        cpu_time=before.cpu_time,
        max_rss=before.max_rss,
        measured_at=before.measured_at,
    )
    if used is None or at is None or still.started_at is None or at < still.started_at:
        return known
    if alike(known.cpu_time, used.cpu_time) and alike(known.max_rss, used.max_rss):
        return known
    return replace(known, cpu_time=used.cpu_time, max_rss=used.max_rss, measured_at=at)


def _ended(desk: Desk, run: Run, task: Task, recorded: SlurmReport) -> Task | None:
    files = desk.bridge.paths.run(run).task(task.index)
    evidence = read_evidence(desk.bridge.storage, files)
    another = claimed_job(desk.bridge.storage, files) not in (None, run.job_id)
    if another or (recorded.exit_code == ALREADY_RUN and evidence.exit_code != ALREADY_RUN):
        # A slurmctld that was killed can start a job twice: this is the second start's end.
        return None
    peak = peak_memory(recorded, evidence)
    return replace(
        task,
        state=recorded.state,
        report=replace(recorded, array_tasks=(task.index,), max_rss=peak.bytes if peak else None),
        metrics=evidence.metrics,
        note="",
    )


def _told_by_node(desk: Desk, run: Run, unknown: Iterable[Task]) -> list[Task]:
    """Slurm has no word on these tasks, so that their nodes' is shown, and said to be that.

    Of a task that was cancelled while it waited, Slurm keeps no record at all.
    """
    told = []
    for task in unknown:
        if _never_started(desk, run, task):
            if missing_seconds(desk, run) >= desk.bridge.settings.lost_after:
                note = "Slurm has it no longer: it was cancelled before it started."
                told.append(replace(task, state=JobState.CANCELLED, note=note))
            continue
        files = desk.bridge.paths.run(run).task(task.index)
        evidence = read_evidence(desk.bridge.storage, files)
        why = "Slurm has forgotten this task"
        state, note = nodes_word(desk, run, files, evidence, state=task.state, why=why)
        after = replace(task, state=state, note=note)
        if state.ended:
            after = replace(after, metrics=evidence.metrics)
        if after != task:
            told.append(after)
    return told


def _lost_before_it_started(desk: Desk, run: Run, denied: list[Task]) -> bool:
    """Slurm has denied the whole array for a while, and no task of it was ever seen to run."""
    return (
        run.state in NOT_STARTED
        and not run.native
        and len(denied) == run.tasks
        and missing_seconds(desk, run) >= desk.bridge.settings.lost_after
        and all(_never_started(desk, run, task) for task in denied)
    )


def _never_started(desk: Desk, run: Run, task: Task) -> bool:
    claim = desk.bridge.paths.run(run).task(task.index).claim
    return task.state in NOT_STARTED and not desk.bridge.storage.info(claim)


def _take_over(desk: Desk, run: Run, queued: dict[int, SlurmReport]) -> Run:
    store = desk.bridge.store
    counts = store.task_states(run.id)
    state = run_state(counts)
    if state.ended:
        unwell = run.tasks - counts[JobState.COMPLETED]
        note = f"{unwell} of {run.tasks} tasks did not end well." if unwell else ""
        report = run_report(run, store.tasks(run.id))
        return store.move(run, state, at=desk.clock(), report=report, note=note, missing_since=None)
    report = _report(run, state, queued)
    if state != run.state:
        return store.move(run, state, at=desk.clock(), report=report, note="")
    return run if report == run.report else store.update(run, report=report)


def _report(run: Run, state: JobState, queued: dict[int, SlurmReport]) -> SlurmReport | None:
    """What is told of the run while it lasts: of the first of its tasks that is in its state."""
    told = next((report for report in queued.values() if report.state is state), None)
    if told is None:
        return run.report
    started = run.report.started_at if run.report else None
    return replace(
        told, elapsed=None, array_tasks=(), started_at=started or told.started_at, nodes=""
    )


def _cancel(desk: Desk, run: Run, tasks: list[Task]) -> None:
    if run.job_id is None or not tasks:
        return
    wished = [task.index for task in tasks if task.cancel_asked_at]
    try:
        user = identity.user_of_job(desk.bridge, run)
        if run.cancel_asked_at:
            desk.scheduler.cancel(run.job_id, name=run.job_name, user=user)
        elif wished:
            desk.scheduler.cancel(run.job_id, name=run.job_name, tasks=wished, user=user)
    except (NotAllowed, Unreachable) as error:
        log.warning("run %d: not cancelled yet: %s", run.id, error)


def _answered(sight: Sight | None) -> bool:
    return sight is not None and sight.complete
