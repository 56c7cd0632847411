"""The record of a run: all that somebody needs to understand it, or to do it again, years later.

It is put together when it is asked for, from the row, what the node wrote, and the files of the
run, so that it is never older than Slurm's verdict. docs/record.md describes each key.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any

from nias_bridge.domain import Run
from nias_bridge.errors import NotFound, NotPossible
from nias_bridge.node import layout
from nias_bridge.paths import RunPaths
from nias_bridge.services import datasets, desk, intake, seeds
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.evidence import read_evidence, read_json, words
from nias_bridge.tasks import Task

FORMAT = 1  # a new number where a key changes its meaning or goes
_TEXT_MAX = 4 * 1024 * 1024  # bytes of a text file that are taken into the record
_OF_SLURM = (
    *("job_id", "user", "workdir", "partition", "nodes"),
    *("submitted_at", "started_at", "ended_at", "elapsed", "time_limit", "restarts"),
    *("cpus", "cpu_time", "memory_asked", "max_rss", "exit_code", "signal"),
)


def record(bridge: Bridge, run_id: int) -> dict[str, Any]:
    """The record of a run, as far as it has come. Raises NotFound."""
    view = desk.show(bridge, run_id)
    run, files = view.run, bridge.paths.run(view.run)
    node = node_files(bridge, run)
    lock, evidence = text(bridge, node.folder, layout.LOCK), read_evidence(bridge.storage, node)
    told = read_json(bridge.storage, node.exit)
    return {
        "format": FORMAT,
        "id": run.id,
        "project": run.project,
        "number": run.number,
        "owner": run.owner,
        "state": run.state.value,
        "note": run.note,
        "exit_code": _exit_code(run, evidence.exit_code),
        "message": evidence.message,
        "input": {
            "file": layout.ARCHIVE,
            "size": run.contents.size,
            "sha256": run.contents.sha256,
            "unpacked_size": run.contents.unpacked_size,
            "files": run.contents.files,
        },
        "datasets": [
            {
                "name": seen.mount.name,
                "owner": seen.mount.owner,
                "sha256": seen.mount.sha256,
                "deleted": seen.gone,
            }
            for seen in datasets.seen(bridge, run)
        ],
        "program": asdict(run.program),
        "resources": asdict(run.resources),
        "requirements": {
            "asked": list(run.contents.requirements),
            "installed": installed(lock),
            "lock": lock or None,
            "exactly": bridge.storage.is_plain(files.exact_lock),
        },
        "environment": asdict(evidence.environment) if evidence.environment else None,
        "script": text(bridge, files.folder, layout.SCRIPT) or None,
        "python": words(told.get("python")) or None,
        "platform": words(told.get("platform")) or None,
        "slurm_version": words(told.get("slurm")) or None,
        "node": evidence.node or None,
        "peak_memory": asdict(view.peak_memory) if view.peak_memory else None,
        "seeds": {
            "hash_seed": words(told.get("hash_seed")) or None,
            "found": [asdict(seed) for seed in seeds.find(intake.sources_of(bridge, run))],
        },
        "times": {
            "uploaded": _instant(run.created_at),
            "submitted": _instant(run.submitted_at),
            "started": _instant(run.report.started_at if run.report else None),
            "ended": _instant(run.report.ended_at if run.report else None),
            "seconds": dict(evidence.timings),
        },
        "slurm": _slurm(run),
        "tasks": [_task(task) for task in bridge.store.tasks(run.id)] if run.tasks else [],
        "outputs": {
            "files": [asdict(file) for file in view.files],
            "left_out": [asdict(left) for left in view.left_out],
            "removed_at": _instant(run.removed_at),
        },
        "bridge": {"node": words(told.get("bridge")) or None, "record": version("nias-bridge")},
    }


def again_exactly(bridge: Bridge, run_id: int) -> Run:
    """A new run of the same zip with the same packages and resources. Raises NotFound, NotPossible.

    The node takes the same environment, or builds it anew from the run's lock.
    """
    run = desk.with_archive(bridge, run_id)
    lock = text(bridge, node_files(bridge, run).folder, layout.LOCK)
    if not lock:
        raise NotPossible(
            "This run has no list of what was installed for it, so it can't be run exactly again. "
            "Run it again as it is."
        )
    return intake.repeat(bridge, run, lock=lock)


def node_files(bridge: Bridge, run: Run) -> RunPaths:
    """Where the node wrote of a run; of a sweep, in its first task's folder: all have the same."""
    files = bridge.paths.run(run)
    return files.task(0) if run.tasks else files


def installed(lock: str) -> list[str]:
    """What a lock names, as name==version."""
    lines = (line.split() for line in lock.splitlines() if line[:1] not in ("", " ", "#"))
    return [words[0] for words in lines if words]


def text(bridge: Bridge, folder: PurePosixPath, name: str) -> str:
    """A text file in a run's folder, "" where it is not there."""
    try:
        with bridge.storage.open_beneath(folder, name) as file:
            return file.read(_TEXT_MAX).decode("utf-8", "replace")
    except NotFound:
        return ""


def _exit_code(run: Run, told: int | None) -> int | None:
    if run.state.ended and run.report and run.report.exit_code is not None:
        return run.report.exit_code
    return told


def _slurm(run: Run) -> dict[str, Any] | None:
    if run.report is None:
        return None
    told = {key: getattr(run.report, key) for key in _OF_SLURM}
    return {
        "job_name": run.job_name,
        **{k: _instant(v) if isinstance(v, datetime) else v for k, v in told.items()},
    }


def _task(task: Task) -> dict[str, Any]:
    return {
        "index": task.index,
        "parameters": dict(task.parameters),
        "state": task.state.value,
        "exit_code": task.report.exit_code if task.report else None,
        "seconds": task.seconds,
        "metrics": dict(task.metrics),
    }


def _instant(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
