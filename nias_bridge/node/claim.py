"""Which job this is, and whether it is the one that may run the project."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Optional

from . import files, layout


class Job(NamedTuple):
    """One job: `run` is the run's folder, `work` where this job writes and has its claim.

    They differ for a task of a sweep, and when a person gave the run's script to sbatch by hand:
    such a job has a folder of its own and touches nothing of the run. job_id is the array's for a
    task, whose index is `task`. home: where its owner's environments are, of a job by plain sbatch.
    """

    run: Path
    work: Path
    shared: Path
    token: str
    job_id: Optional[int]
    node: str
    restarts: int
    by_hand: bool = False
    task: Optional[int] = None
    home: Optional[Path] = None

    @property
    def owner(self) -> str:
        """Whose run it is: its folder's place among the runs says so."""
        return self.run.parts[-3]

    @property
    def claim(self) -> Path:
        """The folder that says which job has the run."""
        return self.work / layout.CLAIMS / self.token


def this_job(run: Path, shared: Path, name: str, token: str, variables: Mapping[str, str]) -> Job:
    """The job that Slurm's variables tell of; `name` is the one that the bridge submits under."""
    job_id = _number(variables, "SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID")
    by_hand = variables.get("SLURM_JOB_NAME") != name
    work = run / f"by-hand-{job_id or os.getpid()}" if by_hand else run
    task = None
    if (run / layout.SWEEP).exists():
        task = _number(variables, "SLURM_ARRAY_TASK_ID") or 0
        work = work / layout.TASK_FOLDER.format(task)
    return Job(
        run=run,
        work=work,
        shared=shared,
        token=token,
        job_id=job_id,
        node=variables.get("SLURMD_NODENAME") or os.uname().nodename,
        restarts=int(variables.get("SLURM_RESTART_COUNT") or 0),
        by_hand=by_hand,
        task=task,
    )


def _number(variables: Mapping[str, str], *names: str) -> Optional[int]:
    """The number in the first of these variables that has one."""
    written = (variables.get(name, "") for name in names)
    return next((int(text) for text in written if text.isdigit()), None)


def claim(job: Job) -> Optional[str]:
    """Take the run for this job; None when it is taken, else why it may not run.

    The claim appears at once with the job's id in it, because a folder is renamed into its place.
    """
    if job.by_hand:
        job.work.mkdir(parents=True, exist_ok=True)
        return None
    place = job.claim
    if not os.path.lexists(place) and _take(place, job):
        return None
    holder = files.read_json(place / layout.CLAIMED_BY) or {}
    if job.restarts and job.job_id is not None and holder.get("job_id") == job.job_id:
        _begin_afresh(job)
        return None
    return f"Job {holder.get('job_id') or '?'} runs this already; nothing was done."


def _take(place: Path, job: Job) -> bool:
    prepared = place.with_name(f".{job.token}.{os.getpid()}.{os.urandom(4).hex()}")
    prepared.mkdir(parents=True)
    told = {"job_id": job.job_id, "node": job.node, "at": time.time()}
    files.write_json(prepared / layout.CLAIMED_BY, told)
    try:
        prepared.rename(place)
    except OSError as error:
        shutil.rmtree(prepared)
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False  # somebody was faster: a folder with a file in it stays
    return True


def _begin_afresh(job: Job) -> None:
    # Slurm requeued this job: what its earlier attempt left is not the result.
    shutil.rmtree(job.work / layout.PROJECT, ignore_errors=True)
    for name in (layout.RESULTS, layout.MANIFEST, layout.EXIT, layout.PROGRESS):
        with suppress(FileNotFoundError):
            (job.work / name).unlink()
