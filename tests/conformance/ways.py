"""A way to a Slurm, and how jobs come to their ends there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from nias_bridge.domain import JobState, SlurmReport
from nias_bridge.ports import Scheduler
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.slurm.fake import FakeScheduler

T = TypeVar("T")
SECONDS = 60.0


class Ending(StrEnum):
    """What a job does: its script on a real Slurm."""

    WELL = "env; echo done"
    EXIT_3 = "exit 3"
    NEVER = "sleep 600"


@dataclass
class Way:
    """A scheduler, and how jobs come to their ends there."""

    scheduler: Scheduler
    folder: Path
    play: Callable[[int, Ending], None]
    before_bad_partition: Callable[[], None]
    since: datetime
    well: str = "nias-t1-well-Análise"
    own: Callable[[Path], None] = lambda _folder: None
    tells_usage: bool = True

    def where(self, name: str) -> Path:
        """The folder of the run whose job has this name."""
        return self.folder / name.removeprefix("nias-t1-") / "1"

    def script(self, name: str, ending: Ending, *directives: str) -> PurePosixPath:
        folder = self.where(name)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        lines = ["#!/bin/sh", *(f"#SBATCH {directive}" for directive in directives), ending]
        script = folder / "job.sbatch"
        script.write_text("\n".join(lines) + "\n")
        self.own(folder)
        return PurePosixPath(script)

    def submit(self, name: str, ending: Ending) -> int:
        script = self.script(name, ending)
        job_id = self.scheduler.submit(script, name=name, log=script.parent / "slurm.out")
        self.play(job_id, ending)
        return job_id

    def queued(self, job_id: int) -> SlurmReport | None:
        return next((r for r in self.scheduler.queue() if r.job_id == job_id), None)

    def queued_as(self, job_id: int, state: JobState) -> SlurmReport:
        def found() -> SlurmReport | None:
            report = self.queued(job_id)
            return report if report and report.state is state else None

        return until(found)

    def record(self, job_id: int) -> SlurmReport:
        """The job's record once it has end and name; the job is asked for by its id."""

        def found() -> SlurmReport | None:
            records = self.scheduler.accounting(since=self.since, job_ids=[job_id])
            return next((r for r in records if r.state.ended and r.name), None)

        return until(found)


def until(found: Callable[[], T | None], seconds: float = SECONDS) -> T:
    """What `found` finds within the deadline."""
    deadline = time.monotonic() + seconds
    while (thing := found()) is None:
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.1)
    return thing


@dataclass
class AsOwner:
    """A scheduler whose jobs are all of one account, which is not the bridge's."""

    scheduler: CliScheduler
    user: str

    def submit(self, script: PurePosixPath, **how: Any) -> int:
        return self.scheduler.submit(script, **how, user=self.user)

    def cancel(self, job_id: int, **how: Any) -> None:
        self.scheduler.cancel(job_id, **how, user=self.user)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scheduler, name)


def fake(folder: Path) -> Way:
    scheduler = FakeScheduler()

    def play(job_id: int, ending: Ending) -> None:
        scheduler.start(job_id)
        match ending:
            case Ending.WELL:
                scheduler.end(job_id)
            case Ending.EXIT_3:
                scheduler.end(job_id, JobState.FAILED, exit_code=3)

    return Way(scheduler, folder, play, lambda: scheduler.next_submit("reject"), _now())


def real_one(folder: Path, scheduler: Scheduler, **more: Any) -> Way:
    return Way(scheduler, folder, lambda _job_id, _ending: None, lambda: None, _now(), **more)


def _now() -> datetime:
    # Slurm counts whole seconds. No longer ago, for the ways before had jobs of the same names.
    return datetime.now(UTC) - timedelta(seconds=1)
