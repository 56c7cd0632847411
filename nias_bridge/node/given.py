"""What a program is given beside its code: packages, datasets, the parameters of its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from . import claim, environment, files, layout, needs, parameters, requirements, sandbox


class NoSuchTask(Exception):
    """The job array has more tasks than the sweep: somebody gave it another --array by hand."""


class NoSuchDataset(Exception):
    """A dataset that the run is to see is not there."""


def with_datasets(
    job: claim.Job, walls: sandbox.Walls, private: Path
) -> tuple[sandbox.Walls, dict[str, str]]:
    """The walls with the run's datasets between them, and how the program is told where they are.

    Without walls they are links in a folder of the job's, and kept by their modes alone. Raises
    NoSuchDataset.
    """
    seen = files.read_json(job.run / layout.SEEN) or {}
    if not seen:
        return walls, {}
    place = job.shared / layout.DATASETS / layout.CONTENT
    data = sandbox.DATA if walls.standing else private / "data"
    if not walls.standing:
        data.mkdir()
    for name, sha256 in seen.items():
        content = place / sha256 / layout.CONTENT_FILES
        what = f"the dataset {name} ({sha256})"
        try:
            content.stat()
        except FileNotFoundError:
            raise NoSuchDataset(f"{what} is not on the shared storage") from None
        except PermissionError:
            raise NoSuchDataset(f"{what} can't be read by this job's account") from None
        if walls.standing:
            walls = walls._replace(readable=(*walls.readable, (content, data / name)))
        else:
            (data / name).symlink_to(content)
    return walls, {"NIAS_DATA": str(data)}


def of_task(job: claim.Job) -> dict[str, str]:
    """By what a task of a sweep is told which one it is. Raises NoSuchTask."""
    if job.task is None:
        return {}
    if job.home and not (job.run / layout.SWEEP).exists():
        return {"NIAS_TASK": str(job.task)}  # an array of one's own, not a sweep's
    tasks = files.read_json(job.run / layout.SWEEP)
    if not isinstance(tasks, list) or not job.task < len(tasks):
        raise NoSuchTask(f"{layout.SWEEP} has no task {job.task}")
    return {"NIAS_TASK": str(job.task), **parameters.variables(tasks[job.task])}


def wish(job: claim.Job, site: Mapping[str, Any], lines: Sequence[str]) -> environment.Wish:
    """The environment of these requirements, as the site has it."""
    return environment.Wish(
        requirements=tuple(lines),
        owner=job.owner,
        variables=site.get("build_variables", {}),
        source=site.get("source_builds") != "forbid",
        walls=sandbox.walls(site),
        alone=site.get("identity") == "unix",
        home=job.home,
    )


def wanted(job: claim.Job, project: Path, main: str, say: Callable[[str], None]) -> tuple[str, ...]:
    """The requirements of a project, by what it says of them. Raises environment.BuildFailed."""
    mended = job.run / layout.MENDED_REQUIREMENTS

    def read(name: str) -> Optional[bytes]:
        with suppress(OSError):
            return (project / name).read_bytes()
        return None

    try:
        needed = needs.read(read, main)
    except needs.NeedsError as error:
        if not mended.is_file():
            raise environment.BuildFailed(str(error), "") from None
        needed = needs.Needs("", "")
    if mended.is_file():
        needed = needed._replace(text=requirements.decode(mended.read_bytes()))
    if needed.source not in ("", needs.REQUIREMENTS):
        say(f"There is no {needs.REQUIREMENTS}: the packages are those that {needed.source} names.")
    lines, problems = requirements.parse(needed.text)
    if problems:
        raise environment.BuildFailed(
            f"{needed.source or needs.REQUIREMENTS} has lines that can't work on the cluster.",
            "\n".join(f"line {p.line}: {p.text}: {p.why}" for p in problems),
        )
    return tuple(lines)
