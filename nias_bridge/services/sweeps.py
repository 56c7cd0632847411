"""What people ask of a sweep: its tasks, what each left, all of it as a table or as one zip."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from nias_bridge.domain import JobState, Run
from nias_bridge.errors import NotFound, NotPossible
from nias_bridge.node import layout, names, zipreader
from nias_bridge.paths import RunPaths
from nias_bridge.reach import Opened
from nias_bridge.services import desk, identity, intake, zipstream
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.desk import LogPart
from nias_bridge.services.evidence import Evidence, read_evidence
from nias_bridge.services.manifest import LeftOut, OutputFile, read_manifest
from nias_bridge.storage import Storage
from nias_bridge.tasks import Task

FILES_MAX = 200_000  # of one task's results
PICTURES = (".png", ".jpg", ".jpeg")
FOLDER_MAX = 80  # characters of a task's folder in the zip


@dataclass(frozen=True, kw_only=True)
class SweepView:
    """A sweep with its tasks; the names of all parameters and metrics, in their order."""

    run: Run
    tasks: tuple[Task, ...]
    parameters: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def unwell(self) -> int:
        """How many tasks have ended otherwise than well."""
        return sum(_unwell(task) for task in self.tasks)

    @property
    def ended(self) -> int:
        return sum(task.state.ended for task in self.tasks)


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """All that a page shows of one task."""

    run: Run
    task: Task
    evidence: Evidence
    results_ready: bool
    files: tuple[OutputFile, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Picture:
    """The first picture of a task."""

    task: Task
    path: str


def show(bridge: Bridge, run_id: int) -> SweepView:
    """A sweep. Raises NotFound where the run is none."""
    run = _sweep(bridge, run_id)
    tasks = tuple(bridge.store.tasks(run.id))
    parameters = {name: None for task in tasks for name in task.parameters}
    metrics = {name: None for task in tasks for name in task.metrics}
    return SweepView(run=run, tasks=tasks, parameters=tuple(parameters), metrics=tuple(metrics))


def show_task(bridge: Bridge, run_id: int, index: int) -> TaskView:
    """One task with what it left. Raises NotFound."""
    run, task, files = _find(bridge, run_id, index)
    listed, left_out = desk.left_files(bridge.storage, files)
    return TaskView(
        run=run,
        task=task,
        evidence=read_evidence(bridge.storage, files),
        results_ready=bridge.storage.is_plain(files.results),
        files=listed,
        left_out=left_out,
    )


def log(bridge: Bridge, run_id: int, index: int, offset: int, limit: int) -> LogPart:
    """A part of a task's log, as desk.log gives it. Raises NotFound."""
    run, task, _ = _find(bridge, run_id, index)
    name = layout.TASK_LOG.replace("%a", str(index))
    folder = bridge.paths.run(run).folder
    ended = task.state.ended
    return desk.log_part(bridge.storage, folder, name, offset, limit, ended=ended)


def whole_log(bridge: Bridge, run_id: int, index: int) -> Opened:
    """A task's log, opened. Raises NotFound."""
    run, _, _ = _find(bridge, run_id, index)
    return bridge.storage.open_beneath(
        bridge.paths.run(run).folder, layout.TASK_LOG.replace("%a", str(index))
    )


def output_file(bridge: Bridge, run_id: int, index: int, path: str) -> Opened:
    """A file that a task left, opened. Raises NotFound."""
    _, _, files = _find(bridge, run_id, index)
    return desk.open_listed(bridge.storage, files, path)


def task_results(bridge: Bridge, run_id: int, index: int) -> Opened:
    """The zip of one task's results, opened. Raises NotFound."""
    _, _, files = _find(bridge, run_id, index)
    return bridge.storage.open_beneath(files.folder, layout.RESULTS)


def cancel(bridge: Bridge, run_id: int, index: int) -> Task:
    """Ask for one task to be cancelled. Raises NotFound, NotPossible."""
    run, task, _ = _find(bridge, run_id, index)
    desk.find_own(bridge, run_id)
    if task.state.ended:
        raise NotPossible(f"This task has ended already ({task.state}).")
    identity.refuse_to_cancel(bridge, run)
    bridge.note("task cancelled", run_id=run.id, detail=str(index))
    return bridge.store.ask_cancel_task(run.id, index, at=datetime.now(UTC))


def failed_again(bridge: Bridge, run_id: int) -> Run:
    """A new run of the same zip with only the tasks that did not end well.

    Raises NotFound, NotPossible.
    """
    run = desk.with_archive(bridge, _sweep(bridge, run_id).id)
    if not run.state.ended:
        raise NotPossible("Some of its tasks have not ended yet.")
    again = [task.parameters for task in bridge.store.tasks(run.id) if _unwell(task)]
    if not again:
        raise NotPossible("All its tasks ended well: there is none to run again.")
    return intake.repeat(bridge, run, tasks=again)


def results(bridge: Bridge, run_id: int) -> tuple[Run, list[zipstream.Part]]:
    """The results of all tasks that have any, as the parts of one zip: a folder for each task.

    Raises NotFound, NotPossible while there are none.
    """
    run = _sweep(bridge, run_id)
    files = bridge.paths.run(run)
    parts = [
        part
        for task in bridge.store.tasks(run.id)
        for part in _members(bridge.storage, files.task(task.index), folder_name(task, run.tasks))
    ]
    if parts:
        return run, parts
    if run.removed_at:
        raise NotFound("The results of this run were removed.")
    if run.state.ended:
        raise NotFound("This run left no results.")
    raise NotPossible("The results are not there yet: no task has ended.")


def pictures(bridge: Bridge, run: Run, tasks: Sequence[Task]) -> Iterator[Picture]:
    """The first picture of each of these tasks that has ended and left one."""
    files = bridge.paths.run(run)
    for task in tasks if run.removed_at is None else ():
        if not task.state.ended:
            continue
        listed, _ = read_manifest(bridge.storage, files.task(task.index).manifest) or ((), ())
        paths = (file.path for file in listed)
        found = next((path for path in paths if path.lower().endswith(PICTURES)), None)
        if found:
            yield Picture(task, found)


def table(view: SweepView) -> str:
    """The tasks as CSV; a text that a spreadsheet would take for a formula is made plain."""
    out = io.StringIO()
    writer = csv.writer(out)
    head = ["task", "state", "seconds", "exit_code", "node"]
    writer.writerow([*head, *map(_plain, view.parameters), *map(_plain, view.metrics)])
    for task in view.tasks:
        report = task.report
        writer.writerow(
            [
                task.index,
                task.state,
                task.seconds,
                report.exit_code if report else None,
                report.nodes if report else None,
                *(_plain(task.parameters.get(name)) for name in view.parameters),
                *(task.metrics.get(name) for name in view.metrics),
            ]
        )
    return out.getvalue()


def folder_name(task: Task, tasks: int) -> str:
    """A task's folder in the zip: its index, and its parameters as far as they fit."""
    width = len(str(tasks - 1))
    told = ",".join(f"{name}={value}" for name, value in task.parameters.items())
    safe = re.sub(r"[^A-Za-z0-9._=,+-]+", "_", told)[:FOLDER_MAX].rstrip("._,=")
    return f"{task.index:0{width}}-{safe}"


def _members(storage: Storage, files: RunPaths, folder: str) -> Iterator[zipstream.Part]:
    def opened() -> Opened:
        return storage.open_beneath(files.folder, layout.RESULTS)

    try:
        with opened() as file:
            modified = file.info.modified
            members = zipreader.members(file, FILES_MAX)
    except (NotFound, OSError, zipreader.ZipError):
        return  # the task has not ended, or its code has spoilt what was collected
    for member in members:
        try:
            inner = names.parts(names.decode(member, "cp437"))
        except names.BadName:
            continue
        if inner and not member.encrypted:
            yield zipstream.member("/".join((folder, *inner)), member, modified, opened)


def _find(bridge: Bridge, run_id: int, index: int) -> tuple[Run, Task, RunPaths]:
    run = _sweep(bridge, run_id)
    return run, bridge.store.task(run.id, index), bridge.paths.run(run).task(index)


def _sweep(bridge: Bridge, run_id: int) -> Run:
    run = desk.find(bridge, run_id)
    if not run.tasks:
        raise NotFound("This run is a single job: it has no tasks.")
    return run


def _unwell(task: Task) -> bool:
    return task.state.ended and task.state is not JobState.COMPLETED


def _plain(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in tuple("=+-@\t\r") else cell
