"""Slurm reached by its own commands, wherever these are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from nias_bridge.domain import NodeReport, PartitionReport, SlurmReport, Usage
from nias_bridge.slurm import cluster, commands
from nias_bridge.slurm.commands import Output


@dataclass
class CliScheduler:
    """A ports.Scheduler. `run` starts a program with SLURM_TIME_FORMAT=%s and gives its Output;
    it raises Unreachable only where the program surely was not started."""

    run: Callable[[Sequence[str]], Output]

    def submit(self, script: PurePosixPath, *, name: str, log: PurePosixPath) -> int:
        """Raises Rejected, TryLater, Unreachable or SubmissionUnclear."""
        return commands.parse_submit(self.run(commands.submit_argv(script, name=name, log=log)))

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

    def cancel(self, job_id: int, *, name: str, tasks: Sequence[int] = ()) -> None:
        """Raises Unreachable."""
        argv = commands.cancel_argv(job_id, name=name)
        if tasks:
            mine = [r for r in self.queue() if (r.job_id, r.name) == (job_id, name)]
            alive = {task for r in mine if not r.state.ended for task in r.array_tasks}
            argv = commands.cancel_tasks_argv(job_id, sorted(alive.intersection(tasks)))
        if argv[1:]:
            commands.parse_cancel(self.run(argv))

    def commands(self, job_ids: Sequence[int]) -> dict[int, str]:
        """Raises Unreachable."""
        return commands.parse_command_lines(self.run(commands.command_lines_argv(job_ids)))

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
