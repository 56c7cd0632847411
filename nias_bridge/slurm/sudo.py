"""Runs submitted and cancelled as their owners' accounts, by the one program that sudo allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nias_bridge.slurm.answers import Output


@dataclass(frozen=True)
class SudoAs:
    """Hands over a run's folder, and calls sbatch and scancel, as whom it is told.

    run: starts a program as LocalRunner does; program: what sudo may run (identity/run_as.py);
    runs: the folder of all runs.
    """

    run: Callable[[Sequence[str]], Output]
    program: Path
    runs: PurePosixPath

    def submit(self, user: str, script: PurePosixPath, *, name: str, log: PurePosixPath) -> Output:
        """What sbatch said, or why it did not come to that."""
        folder = str(script.parent.relative_to(self.runs))
        given = self._call("hand-over", user, folder)
        return given if given.status else self._call("submit", user, folder, name, log.name)

    def cancel(self, user: str, job_id: int, *, name: str) -> Output:
        """What scancel said."""
        return self._call("cancel", user, name, str(job_id))

    def cancel_tasks(self, user: str, job_id: int, tasks: Sequence[int]) -> Output:
        """What scancel said."""
        return self._call("cancel-tasks", user, str(job_id), ",".join(map(str, tasks)))

    def _call(self, *words: str) -> Output:
        return self.run(["sudo", "--non-interactive", str(self.program), *words])
