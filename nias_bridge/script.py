"""A run becomes the text of its sbatch script."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import PurePosixPath

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nias_bridge.amounts import time_limit_seconds
from nias_bridge.assets import asset
from nias_bridge.domain import SBATCH_JOB_NAME, Resources, Run
from nias_bridge.paths import SharedPaths
from nias_bridge.settings import Settings

TEMPLATE = "run.sbatch.j2"
FOR_LOGIN_NODES = "nias.sbatch.j2"
PROBE = "probe.sbatch.j2"
PROBE_MEMORY = "500M"


def render(run: Run, shared: SharedPaths, settings: Settings, nice: int = 0) -> str:
    """The sbatch script of a run; every value in it is quoted for the shell.

    nice: by how much Slurm is to put it behind others.
    """
    time = run.resources.time or settings.time
    return (
        _templates()
        .get_template(TEMPLATE)
        .render(
            number=run.number,
            project=run.project,
            owner=run.owner,
            slug=run.slug,
            token=run.token,
            job_name=run.job_name,
            folder=str(shared.run(run).folder_on_cluster),
            shared=str(shared.on_cluster),
            node_program=str(shared.node_program_on_cluster),
            python=_python(run, settings),
            program=[run.program.main, *run.program.args],
            time=time,
            array=_array(run),
            nice=nice,
            log="slurm-%A_%a.out" if run.tasks else "slurm-%j.out",
            slot=slot_options(run.resources, settings),
            signal_seconds=_signal_seconds(time, settings),
        )
    )


def render_for_login_nodes(shared: SharedPaths, settings: Settings) -> str:
    """The script that people on a login node give to sbatch, with a project."""
    return (
        _templates()
        .get_template(FOR_LOGIN_NODES)
        .render(
            script=str(shared.login_script_on_cluster),
            job_name=SBATCH_JOB_NAME,
            folder=str(shared.sbatch_on_cluster),
            shared=str(shared.on_cluster),
            node_program=str(shared.node_program_on_cluster),
            python=settings.python,
            url=settings.public_url,
            time=settings.time,
            slot=slot_options(Resources(), settings),
            signal_seconds=_signal_seconds(settings.time, settings),
        )
    )


def render_wish(asked: Resources, settings: Settings) -> str:
    """A script that asks for the same slot and time as a run would, and does nothing."""
    options = [f"--time={asked.time or settings.time}", *slot_options(asked, settings)]
    directives = "".join(f"#SBATCH {shlex.quote(option)}\n" for option in options)
    return f"#!/bin/bash\n#SBATCH --nodes=1\n#SBATCH --ntasks=1\n{directives}"


def render_probe(
    folder: PurePosixPath,
    token: str,
    partition: str | None,
    shared: SharedPaths,
    settings: Settings,
) -> str:
    """The script of a small job that tells of its node, in the folder as the nodes see it."""
    asked = Resources(cpus=1, memory=PROBE_MEMORY, partition=partition or None)
    small = settings.model_copy(update={"slot_cpus": 1})
    return (
        _templates()
        .get_template(PROBE)
        .render(
            job_name=f"nias-doctor-{token}",
            token=token,
            folder=str(folder),
            shared=str(shared.on_cluster),
            program=shared.node_program_on_cluster.name,
            python=settings.python,
            time="00:05:00",
            slot=slot_options(asked, small),
            signal_seconds=1,
        )
    )


def slot_options(asked: Resources, settings: Settings) -> list[str]:
    """The sbatch options of a slot: a whole node, unless the site or the run names less."""
    cpus = asked.cpus or settings.slot_cpus
    memory = asked.memory or settings.slot_memory
    partition = asked.partition or settings.partition
    whole_node = settings.slot_cpus is None
    options = {
        "--exclusive": whole_node,
        "--cpus-per-task": cpus,
        "--mem": memory or ("0" if whole_node else None),  # 0: all that the node has
        "--gres": asked.gpus and f"gpu:{asked.gpus}",
        "--partition": partition,
        "--account": settings.account,
        "--qos": settings.qos,
        "--requeue": asked.requeue,
        "--no-requeue": not asked.requeue,
    }
    return [
        name if value is True else f"{name}={value}" for name, value in options.items() if value
    ]


def _array(run: Run) -> str | None:
    if not run.tasks:
        return None
    at_once = f"%{run.max_parallel}" if run.max_parallel else ""
    return f"0-{run.tasks - 1}{at_once}"


def _python(run: Run, settings: Settings) -> str:
    asked = run.program.python
    return settings.python if asked is None else settings.pythons.get(asked, settings.python)


def _signal_seconds(time: str, settings: Settings) -> int:
    # Slurm may send the signal half a minute early: a short job keeps most of its time.
    return min(settings.collect_seconds, max(1, time_limit_seconds(time) // 4))


@cache
def _templates() -> Environment:
    # The result is a shell script, not HTML: quoting is the `sh` filter's work.
    templates = Environment(  # noqa: S701
        loader=FileSystemLoader(asset("sbatch_templates")),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    templates.filters["sh"] = shlex.quote
    return templates
