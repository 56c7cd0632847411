"""What a run is to ask of Slurm: nias.toml, the form over it, and the site's limits to both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from nias_bridge.amounts import memory_bytes, time_limit_seconds
from nias_bridge.cluster import ClusterView
from nias_bridge.domain import Filter, JobState, Program, Resources
from nias_bridge.errors import BadProjectFile, BadRequest
from nias_bridge.node import projectfile
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.evidence import peak_memory, read_evidence
from nias_bridge.settings import Settings

MIB = 1024**2
# A suggestion from earlier runs: their peak times this, and never less than so much.
ROOM = 1.5
LEAST_MEMORY = 256 * MIB
LEAST_SECONDS = 600
RUNS_LOOKED_AT = 10
# States of a partition in which Slurm queues what is submitted to it.
_TAKES_JOBS = ("UP", "DOWN")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a project says of its run; sweep is None where it is a single job.

    datasets: those that it names, as it writes them.
    """

    resources: Resources
    program: Program
    sweep: projectfile.Sweep | None = None
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """What earlier runs of a project would have needed, with the peaks that it was taken from.

    elapsed in seconds, max_rss in bytes; runs: how many were looked at.
    """

    time: str
    memory: str | None
    elapsed: int
    max_rss: int | None
    runs: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that may be asked for; None where there is no limit. time in seconds, memory bytes.

    partition: whose limits these are, None where it is not known; partitions and pythons: those
    there are; empty partitions: none is known.
    """

    time: int | None = None
    memory: int | None = None
    cpus: int | None = None
    gpus: int | None = None
    partition: str | None = None
    partitions: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()


def read(
    read_file: Callable[[str], bytes | None],
    limits_in: Callable[[str | None], Limits],
    most_tasks: int,
) -> Wish:
    """What nias.toml says, and the files that it names. Raises BadProjectFile with all problems.

    limits_in: a partition, or None, to the limits there.
    """
    text = read_file(projectfile.FILE)
    if text is None:
        return Wish(resources=Resources(), program=Program())
    try:
        said = projectfile.read(text.decode("utf-8", "replace"), read_file, most_tasks=most_tasks)
    except projectfile.ProjectFileError as error:
        raise BadProjectFile(error.problems) from None
    job = said.job
    resources = Resources(
        time=job.time,
        cpus=job.cpus,
        memory=job.memory,
        gpus=job.gpus,
        partition=job.partition,
        requeue=bool(job.requeue),
    )
    limits = limits_in(resources.partition)
    problems = [
        f"{projectfile.FILE}: job.{key} is {value}; {allowed}"
        for key, value, allowed in beyond(resources, limits)
    ]
    if job.python is not None and job.python not in limits.pythons:
        there = f"this site has {', '.join(limits.pythons)}" if limits.pythons else "leave it out"
        problems.append(
            f"{projectfile.FILE}: job.python is {job.python}, which this site does not have; "
            f"{there}."
        )
    if nothing := projectfile.nothing_to_run(job, read_file):
        problems.append(nothing)
    if problems:
        raise BadProjectFile(tuple(problems))
    program = Program(main=job.main, args=job.args, python=job.python)
    return Wish(resources=resources, program=program, sweep=said.sweep, datasets=job.datasets)


def over(asked: Resources, said: Resources) -> Resources:
    """What the form asks for, and where it leaves something open, what the project says."""
    return Resources(
        time=asked.time or said.time,
        cpus=asked.cpus or said.cpus,
        memory=asked.memory or said.memory,
        gpus=said.gpus if asked.gpus is None else asked.gpus,
        partition=asked.partition or said.partition,
        requeue=asked.requeue or said.requeue,
    )


def settle(
    settings: Settings, cluster: ClusterView, asked: Resources, said: Resources
) -> Resources:
    """What a run asks for: the form over the file, within the limits of its partition.

    Where neither names a time and the site's own is more than the partition allows, all that it
    allows. Raises BadRequest for the first value that is beyond.
    """
    wanted = over(asked, said)
    limits = limits_of(settings, cluster, wanted.partition)
    for key, value, allowed in beyond(wanted, limits):
        raise BadRequest(f"{key} is {value}; {allowed}", key)
    if wanted.time is None and limits.time and limits.time < time_limit_seconds(settings.time):
        return replace(wanted, time=slurm_time(limits.time))
    return wanted


def limits_of(settings: Settings, cluster: ClusterView, partition: str | None = None) -> Limits:
    """The site's limits to a job: its settings, what Slurm says of the partition, its largest node.

    partition None: the one that a job gets which names none.
    """
    told = {each.name: each for each in cluster.partitions}
    usual = settings.partition or next((name for name in told if told[name].default), None)
    name = partition or usual
    nodes = [node for node in cluster.nodes if name is None or name in node.partitions]
    return Limits(
        time=_least(
            time_limit_seconds(settings.time_max) if settings.time_max else None,
            told[name].max_time if name in told else None,
        ),
        memory=_least(
            memory_bytes(settings.memory_max) if settings.memory_max else None,
            max((node.memory for node in nodes), default=None),
        ),
        cpus=_least(settings.cpus_max, max((node.cpus for node in nodes), default=None)),
        gpus=_least(
            settings.gpus_max,
            max((node.gpus for node in nodes if node.gpus is not None), default=None),
        ),
        partition=name,
        partitions=_partitions(settings, cluster),
        pythons=tuple(settings.pythons),
    )


def beyond(asked: Resources, limits: Limits) -> Iterator[tuple[str, str, str]]:
    """Of each value that is too much: its key, how it was written, and what is allowed."""
    where = f"in partition {limits.partition}" if limits.partition else "here"
    if asked.time and limits.time and time_limit_seconds(asked.time) > limits.time:
        yield "time", asked.time, f"a job {where} may take at most {slurm_time(limits.time)}."
    if asked.memory and limits.memory and memory_bytes(asked.memory) > limits.memory:
        yield "memory", asked.memory, f"a job {where} has at most {limits.memory // MIB}M."
    if asked.cpus and limits.cpus and asked.cpus > limits.cpus:
        yield "cpus", str(asked.cpus), f"a job {where} has at most {limits.cpus}."
    if asked.gpus and limits.gpus is not None and asked.gpus > limits.gpus:
        most = f"at most {limits.gpus}" if limits.gpus else "none"
        yield "gpus", str(asked.gpus), f"a job {where} has {most}."
    if asked.partition and limits.partitions and asked.partition not in limits.partitions:
        yield "partition", asked.partition, f"there is {', '.join(limits.partitions)}."


def suggest(bridge: Bridge, owner: str, project: str, said: Resources) -> Suggestion | None:
    """What this project's runs that ended well used says of the next one.

    None where there is no such run. Never more than the site allows or less than LEAST_…: a quick
    run's figures say little of the next one with more data.
    """
    wanted = Filter(
        owners=frozenset({owner}),
        project=project,
        states=frozenset({JobState.COMPLETED}),
        per_page=RUNS_LOOKED_AT,
    )
    figures = [
        (
            run.report.elapsed,
            peak_memory(run.report, read_evidence(bridge.storage, bridge.paths.run(run))),
        )
        for run in bridge.store.runs(wanted).runs
        if run.report and run.report.elapsed is not None
    ]
    if not figures:
        return None
    elapsed = max(seconds for seconds, _ in figures)
    peak = max(seen.bytes if seen else 0 for _, seen in figures)
    limits = limits_of(bridge.settings, bridge.store.cluster(), said.partition)
    seconds = max(LEAST_SECONDS, math.ceil(ROOM * elapsed / 60) * 60)
    memory = max(LEAST_MEMORY, math.ceil(ROOM * peak / (16 * MIB)) * 16 * MIB)
    return Suggestion(
        time=slurm_time(min(seconds, limits.time or seconds)),
        memory=f"{min(memory, limits.memory or memory) // MIB}M" if peak else None,
        elapsed=elapsed,
        max_rss=peak or None,
        runs=len(figures),
    )


def filled(said: Resources, suggestion: Suggestion | None) -> Resources:
    """What the project says, with time and memory as suggested where it says nothing of them."""
    if suggestion is None:
        return said
    return replace(said, time=said.time or suggestion.time, memory=said.memory or suggestion.memory)


def slurm_time(seconds: int) -> str:
    """Seconds as Slurm writes a time limit: 02:00:00, 1-12:00:00."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours:02}:{minutes:02}:{rest:02}"
    return f"{days}-{clock}" if days else clock


def _partitions(settings: Settings, cluster: ClusterView) -> tuple[str, ...]:
    """Those that may be asked for: the site's, or all that Slurm tells of; none that is closed."""
    told = {each.name: each.state in _TAKES_JOBS for each in cluster.partitions}
    known = {name for node in cluster.nodes for name in node.partitions} | set(told)
    named = [n for n in settings.partitions if not known or (n in known and told.get(n, True))]
    return tuple(named or [n for n in sorted(told or known) if told.get(n, True)])


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)
