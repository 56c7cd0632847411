"""Slurm by pyslurm, for what it does as well as the commands and sooner: submit, queue, nodes.

libslurm ends the process that it is in where it can't go on, knows no deadline, and hands the
environment to the jobs: pyslurm is imported in a process of its own (worker.py), by functions
that stand below and nowhere else. What pyslurm can't say exactly is left to the commands: of an id
that was given twice `db.Jobs` hides the earlier job, `Job.cancel` tells tasks that wait from no
others, and a script with an option that is not in OPTIONS is submitted by sbatch.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from nias_bridge.amounts import time_limit_seconds
from nias_bridge.cluster import NodeReport, PartitionReport
from nias_bridge.domain import JobState, SlurmReport, Usage
from nias_bridge.errors import SubmissionUnclear, Unreachable
from nias_bridge.slurm import commands, values
from nias_bridge.slurm.answers import Output, known, state_of
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.slurm.cluster import MIB
from nias_bridge.slurm.local import LocalRunner
from nias_bridge.slurm.refusals import refusal
from nias_bridge.slurm.worker import Lost, Worker, serve

log = logging.getLogger(__name__)

T = TypeVar("T")

MODULE = "nias_bridge.slurm.native"
DIRECTIVE = "#SBATCH "

# The options of our scripts, and what each is in a pyslurm.JobSubmitDescription. What identifies a
# submission is given beside the script, and goes before these.
OPTIONS: dict[str, str] = {
    "--account": "account",
    "--array": "array",
    "--chdir": "working_directory",
    "--comment": "comment",
    "--cpus-per-task": "cpus_per_task",
    "--gres": "gres_per_node",
    "--job-name": "name",
    "--mem": "memory_per_node",
    "--nodes": "nodes",
    "--ntasks": "ntasks",
    "--output": "standard_output",
    "--partition": "partitions",
    "--qos": "qos",
    "--signal": "signal",
    "--time": "time_limit",
}
FLAGS: dict[str, tuple[str, object]] = {
    "--exclusive": ("resource_sharing", "no"),
    "--no-requeue": ("is_requeueable", False),
    "--requeue": ("is_requeueable", True),
}
# Those that are not given as they are written.
CONVERTED: dict[str, Callable[[str], object]] = {
    "cpus_per_task": int,
    "ntasks": int,
    "partitions": lambda value: value.split(","),
    "time_limit": lambda value: _whole_minutes(time_limit_seconds(value)),
    # pyslurm knows a signal by its number or as Python has it.
    "signal": lambda value: re.sub(r"\b(?:SIG)?(?=[A-Z]\w+)", "SIG", value),
}


def description(script: str) -> dict[str, object] | None:
    """The options of a script by their names in pyslurm; None where one can't be said by it."""
    told: dict[str, object] = {}
    for line in _directives(script):
        for word in shlex.split(line, comments=True):
            option, given, value = word.partition("=")
            if not given and option in FLAGS:
                name, setting = FLAGS[option]
                told[name] = setting
            elif given and option in OPTIONS and (option, value) != ("--mem", "0"):
                name = OPTIONS[option]
                told[name] = CONVERTED.get(name, str)(value)
            else:
                return None
    return told


def _whole_minutes(seconds: int) -> str:
    """Up, as Slurm does, in the one format that pyslurm reads without fail."""
    minutes = -(-seconds // 60)
    return f"{minutes // 1440}-{minutes // 60 % 24:02}:{minutes % 60:02}:00"


def _directives(script: str) -> Iterator[str]:
    """The lines that sbatch reads: those before the first that is neither empty nor a comment."""
    for line in script.split("\n"):
        if line.startswith(DIRECTIVE):
            yield line.removeprefix(DIRECTIVE)
        elif line.strip() and not line.startswith("#"):
            return


@dataclass
class PyslurmScheduler:
    """A ports.Scheduler. `worker` runs this module; `commands` does what pyslurm can't."""

    worker: Worker
    by_command: CliScheduler

    def submit(
        self, script: PurePosixPath, *, name: str, log: PurePosixPath, user: str | None = None
    ) -> int:
        """Raises Rejected, TryLater, Unreachable or SubmissionUnclear."""
        if user is not None:
            return self.by_command.submit(script, name=name, log=log, user=user)
        try:
            told = description(Path(script).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            told = None
        if told is None:
            return self.by_command.submit(script, name=name, log=log)
        this = {
            "name": name,
            "standard_output": str(log),
            "log_files_open_mode": "append",
            "working_directory": str(script.parent),
        }
        try:
            job_id: int | None = self.worker.call("submit", str(script), told | this)
        except Lost as lost:
            raise SubmissionUnclear(f"pyslurm was cut off before it answered: {lost}.") from None
        return self.by_command.submit(script, name=name, log=log) if job_id is None else job_id

    def queue(self) -> list[SlurmReport]:
        """Raises Unreachable."""
        return self._read("queue", self.by_command.queue)

    def nodes(self) -> list[NodeReport]:
        """Raises Unreachable."""
        return self._read("nodes", self.by_command.nodes)

    def partitions(self) -> list[PartitionReport]:
        """Raises Unreachable."""
        return self.by_command.partitions()

    def accounting(
        self, *, since: datetime, job_ids: Sequence[int] = (), names: Sequence[str] = ()
    ) -> list[SlurmReport]:
        """Raises Unreachable. See CliScheduler."""
        return self.by_command.accounting(since=since, job_ids=job_ids, names=names)

    def cancel(
        self, job_id: int, *, name: str, tasks: Sequence[int] = (), user: str | None = None
    ) -> None:
        """Raises Unreachable."""
        self.by_command.cancel(job_id, name=name, tasks=tasks, user=user)

    def commands(self, job_ids: Sequence[int]) -> dict[int, str]:
        """Raises Unreachable."""
        return self.by_command.commands(job_ids)

    def estimate(self, script: PurePosixPath) -> datetime | None:
        """Raises Rejected, TryLater or Unreachable."""
        return self.by_command.estimate(script)

    def usage(self, job_ids: Sequence[int]) -> dict[int, Usage]:
        """Raises Unreachable."""
        return self.by_command.usage(job_ids)

    def unfit(self) -> str:
        """Why pyslurm can't be used for this cluster, as a clause; "" where it can."""
        if find_spec("pyslurm") is None:
            return "pyslurm is not installed"
        try:
            cluster = _cluster_version(self.by_command.run(["scontrol", "show", "config"]))
            pyslurm: str = self.worker.call("version")
        except Unreachable as error:
            return str(error).rstrip(".")
        except Lost as lost:
            return f"pyslurm does not work here: {lost}"
        if values.release(pyslurm) != values.release(cluster):
            return f"pyslurm {pyslurm} is made for another Slurm than this cluster's {cluster}"
        return ""

    def _read(self, question: str, by_command: Callable[[], list[T]]) -> list[T]:
        try:
            told: list[T] = self.worker.call(question)
        except Lost as lost:
            # Of a job, say, that pyslurm can't read: the others must not be unknown for it.
            log.warning("pyslurm gave no answer (%s): the command is asked instead.", lost)
            return by_command()
        return told


def beside(commands_here: LocalRunner) -> PyslurmScheduler:
    """pyslurm with the settings of these commands, which do what it can't."""
    worker = Worker(MODULE, commands_here.environment(), commands_here.timeout)
    return PyslurmScheduler(worker, CliScheduler(commands_here))


def _cluster_version(config: Output) -> str:
    """slurmctld's own version: that of the commands here may be another."""
    told = re.search(r"^SLURM_VERSION\s*= (\S+)$", config.stdout, re.MULTILINE)
    if config.status != 0 or told is None:
        raise Unreachable(f"the cluster's version is not told now ({config.stderr.strip()})")
    return told[1]


# --- in the worker ---


def main(descriptor: int) -> None:
    """What the worker's process does."""
    serve(descriptor, {"submit": _submit, "queue": _queue, "nodes": _nodes, "version": _version})


def _pyslurm() -> Any:
    try:
        import pyslurm  # noqa: PLC0415
    except ImportError as error:
        raise Unreachable(f"pyslurm can't be imported: {error}") from None
    return pyslurm


def _version() -> str:
    return str(_pyslurm().__version__)


def _submit(script: str, options: Mapping[str, object]) -> int | None:
    """The job's id, or None where pyslurm could make no description of it, and sent nothing."""
    pyslurm = _pyslurm()
    try:
        job = _description(pyslurm)(
            script=script,
            script_args=[script],  # as sbatch does: the job's command is then told
            environment=_environment(options),
            **options,
        )
        return int(job.submit())
    except pyslurm.RPCError as error:
        raise refusal(str(error), killed=False) from None
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        log.warning("pyslurm can't describe %s: %s", script, error)
        return None


def _description(pyslurm: Any) -> Any:
    """The class of descriptions; 22.5's forgets the signal, which is then put beside the CPUs."""
    if not pyslurm.__version__.startswith("22."):
        return pyslurm.JobSubmitDescription

    class WithSignal(pyslurm.JobSubmitDescription):  # type: ignore[misc]
        def _set_min_cpus(self) -> None:
            super()._set_min_cpus()
            self._set_signal()

    return WithSignal


def _environment(options: Mapping[str, object]) -> dict[str, str]:
    """What the job gets: as sbatch makes it of the same clean environment."""
    umask = os.umask(0)
    os.umask(umask)
    cpus = options.get("cpus_per_task")
    return {
        **os.environ,
        **({"SLURM_CPUS_PER_TASK": str(cpus)} if cpus else {}),
        "SLURM_JOB_NAME": str(options["name"]),
        "SLURM_OPEN_MODE": "a",
        "SLURM_PRIO_PROCESS": str(os.getpriority(os.PRIO_PROCESS, 0)),
        "SLURM_SUBMIT_DIR": str(Path.cwd()),
        "SLURM_SUBMIT_HOST": socket.gethostname(),
        "SLURM_UMASK": f"{umask:04o}",
    }


def _queue() -> list[SlurmReport]:
    pyslurm = _pyslurm()
    try:
        jobs = pyslurm.Jobs.load()
    except pyslurm.RPCError as error:
        raise Unreachable(f"pyslurm gave no answer: {error}") from None
    told = ((job.priority or 0, _queued(job)) for job in jobs.values())
    return commands.placed((priority, report) for priority, report in told if report)


def _queued(job: Any) -> SlurmReport | None:
    told = str(job.id)
    if job.array_id:
        waiting, task = job.array_tasks_waiting, job.array_task_id or 0  # 0 is told as None
        told = f"{job.array_id}_{f'[{waiting}]' if waiting else task}"
    job_id, tasks = values.job(told)
    state = state_of(job.state, told)
    if job_id is None or state is None:
        return None
    start, nodes = _moment(job.start_time), job.allocated_nodes or ""
    waits = state is JobState.PENDING
    return SlurmReport(
        job_id=job_id,
        name=job.name or "",
        state=state,
        reason=known(job.state_reason or ""),
        user=_user(job),
        workdir=job.working_directory or "",
        partition=job.partition or "",
        nodes=nodes,
        submitted_at=_moment(job.submit_time),
        started_at=start if nodes and not waits else None,
        ended_at=_moment(job.end_time) if state.ended else None,
        expected_start=start if waits else None,
        elapsed=job.run_time or 0,
        time_limit=job.time_limit * 60 if job.time_limit else None,
        cpus=job.cpus,
        restarts=job.requeue_count or 0,
        array_tasks=tasks,
    )


def _user(job: Any) -> str:
    try:
        return job.user_name or ""
    except KeyError:  # 22.5's word for an account that is not known on this machine
        return str(job.user_id)


def _nodes() -> list[NodeReport]:
    pyslurm = _pyslurm()
    try:
        nodes = pyslurm.Nodes.load()
    except pyslurm.RPCError as error:
        raise Unreachable(f"pyslurm gave no answer: {error}") from None
    return [
        NodeReport(
            name=node.name,
            state=node.state,
            cpus=node.total_cpus or 0,
            cpus_used=node.allocated_cpus or 0,
            memory=(node.real_memory or 0) * MIB,
            memory_used=(node.allocated_memory or 0) * MIB,
            partitions=tuple(node.partitions or ()),
            reason=node.reason or "",
            gpus=sum(
                count
                for name, count in (node.configured_gres or {}).items()
                if name.partition(":")[0] == "gpu"
            ),
        )
        for node in nodes.values()
    ]


def _moment(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
