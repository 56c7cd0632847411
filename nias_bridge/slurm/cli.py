"""Slurm reached by its own commands, wherever these are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Protocol

from nias_bridge.cluster import NodeReport, PartitionReport
from nias_bridge.domain import SlurmReport, Usage
from nias_bridge.errors import Unreachable
from nias_bridge.slurm import cluster, commands
from nias_bridge.slurm.answers import Output


class AsUser(Protocol):
    """Who submits and cancels for another Unix account, by whatever way."""

    def submit(self, user: str, script: PurePosixPath, *, name: str, log: PurePosixPath) -> Output:
        """What sbatch said, or a refusal; the script's folder is the user's from then on."""
        ...

    def cancel(self, user: str, job_id: int, *, name: str) -> Output:
        """What scancel said."""
        ...

    def cancel_tasks(self, user: str, job_id: int, tasks: Sequence[int]) -> Output:
        """What scancel said."""
        ...


@dataclass
class CliScheduler:
    """A ports.Scheduler. `run` starts a program with SLURM_TIME_FORMAT=%s and gives its Output;
    it raises Unreachable only where the program surely was not started. as_user: by which jobs of
    other accounts are submitted and cancelled; what asks is `run` for all of them."""

    run: Callable[[Sequence[str]], Output]
    as_user: AsUser | None = None

    def submit(
        self, script: PurePosixPath, *, name: str, log: PurePosixPath, user: str | None = None
    ) -> int:
        """Raises Rejected, TryLater, Unreachable or SubmissionUnclear."""
        if user is None:
            output = self.run(commands.submit_argv(script, name=name, log=log))
        else:
            output = self._others().submit(user, script, name=name, log=log)
        return commands.parse_submit(output)

    def queue(self) -> list[SlurmReport]:
        """Raises Unreachable."""
        return commands.parse_queue(self.run(commands.queue_argv()))

    def accounting(
        self, *, since: datetime, job_ids: Sequence[int] = (), names: Sequence[str] = ()
    ) -> list[SlurmReport]:
        """Raises Unreachable.

        A job that ended within five seconds of its start may have its record, end and all, before
        it has its name there: name is "" then, and id and submitted_at, the same as in squeue,
        say whose it is. An end on record is the job's end only if squeue does not have the job
        again: between a node's failure and the new attempt the last record is NODE_FAIL. A job
        that was never eligible to start (held, or to begin later) has no record.
        """
        asked = commands.accounting_argvs(since=since, job_ids=job_ids, names=names)
        reports: dict[tuple[int, tuple[int, ...], str, str], SlurmReport] = {}
        for argv in asked:
            for report in commands.parse_accounting(self.run(argv)):
                reports[report.job_id, report.array_tasks, report.name, report.user] = report
        return list(reports.values())

    def cancel(
        self, job_id: int, *, name: str, tasks: Sequence[int] = (), user: str | None = None
    ) -> None:
        """Raises Unreachable."""
        if tasks:
            mine = [r for r in self.queue() if (r.job_id, r.name) == (job_id, name)]
            alive = {task for r in mine if not r.state.ended for task in r.array_tasks}
            if meant := sorted(alive.intersection(tasks)):
                commands.parse_cancel(self._cancel_tasks(job_id, meant, user))
        elif user is None:
            commands.parse_cancel(self.run(commands.cancel_argv(job_id, name=name)))
        else:
            commands.parse_cancel(self._others().cancel(user, job_id, name=name))

    def commands(self, job_ids: Sequence[int]) -> dict[int, str]:
        """Raises Unreachable. Of a job younger than some seconds the arguments can be missing."""
        told = commands.parse_command_lines(self.run(commands.command_lines_argv(job_ids)))
        typed: dict[int, str] = {}
        if told:
            with suppress(Unreachable):  # the accounting is away: they are not known now
                typed = commands.parse_submit_lines(self.run(commands.submit_lines_argv(told)))
        return {
            job_id: commands.with_arguments(command, typed.get(job_id, ""))
            for job_id, command in told.items()
        }

    def estimate(self, script: PurePosixPath) -> datetime | None:
        """Raises Rejected, TryLater or Unreachable."""
        return commands.parse_estimate(self.run(commands.estimate_argv(script)))

    def usage(self, job_ids: Sequence[int]) -> dict[int, Usage]:
        """Raises Unreachable.

        Slurm asks the node of each job in turn, some 10 ms each; a dead one keeps it waiting.
        """
        used: dict[int, Usage] = {}
        for argv in commands.usage_argvs(job_ids):
            used |= commands.parse_usage(self.run(argv))
        return used

    def nodes(self) -> list[NodeReport]:
        """Raises Unreachable."""
        return cluster.parse_nodes(self.run(cluster.nodes_argv()))

    def partitions(self) -> list[PartitionReport]:
        """Raises Unreachable."""
        return cluster.parse_partitions(self.run(cluster.partitions_argv()))

    def _cancel_tasks(self, job_id: int, tasks: Sequence[int], user: str | None) -> Output:
        if user is None:
            return self.run(commands.cancel_tasks_argv(job_id, tasks))
        return self._others().cancel_tasks(user, job_id, tasks)

    def _others(self) -> AsUser:
        if self.as_user is None:
            raise Unreachable("This way to Slurm has no means to be another account.")
        return self.as_user
