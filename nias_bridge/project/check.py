"""What the gateway would refuse a project for, or warn of, found without one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from nias_bridge.naming import project_name
from nias_bridge.node import archive, imports, needs, projectfile, requirements, sources

# As a site has them unless it says otherwise.
LIMITS = archive.Limits(unpacked_bytes=20 * 1024**3, files=20_000, ratio=200)
UPLOAD_MAX_BYTES = 2 * 1024**3
TASKS_MAX = 1000
READ_MAX_BYTES = 4 * 1024**2  # of requirements.txt, nias.toml and their like


@dataclass(frozen=True)
class Found:
    """One thing that is wrong: a sentence, and the line to write instead or to add where known."""

    sentence: str
    mend: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What was found; requirements: what would be installed, by `source` (“requirements.txt”, …).

    With problems the gateway refuses the project; warnings stop nobody.
    """

    project: str
    files: int
    unpacked_bytes: int
    source: str
    requirements: tuple[str, ...]
    tasks: int
    problems: tuple[Found, ...]
    warnings: tuple[Found, ...]

    @property
    def good(self) -> bool:
        return not self.problems


def check(zipped: Path) -> Verdict:
    """Judge a project's zip by the code that gateway and nodes judge it by.

    What only the site knows (its own limits, partitions, Pythons, names already taken) is not
    looked at.
    """
    with zipped.open("rb") as file:
        try:
            inventory = archive.judge(file, zipped.name, LIMITS)
        except archive.ArchiveError as error:
            return Verdict("", 0, 0, "", (), 0, (Found(str(error)),), ())
        return _verdict(file, inventory, list(_of_the_whole(zipped, inventory.name)))


def _verdict(file: BinaryIO, inventory: archive.Inventory, problems: list[Found]) -> Verdict:
    read = partial(_read, file, inventory)
    said = projectfile.ProjectFile()
    try:
        text = read(projectfile.FILE)
        if text is not None:
            said = projectfile.read(text.decode("utf-8", "replace"), read, most_tasks=TASKS_MAX)
            if nothing := projectfile.nothing_to_run(said.job, read):
                problems.append(Found(nothing))
    except projectfile.ProjectFileError as error:
        problems += map(Found, error.problems)
    except archive.ArchiveError as error:
        problems.append(Found(str(error)))
    try:
        needed = needs.read(read, said.job.main)
    except (needs.NeedsError, archive.ArchiveError) as error:
        needed = needs.Needs("", "")
        problems.append(Found(str(error)))
    lines, wrong = requirements.parse(needed.text)
    problems += [
        Found(f"{needed.source}, line {each.line}: “{each.text}”: {each.why}", each.mend)
        for each in wrong
    ]
    named = [*lines, *(each.text for each in wrong)]
    program = imports.read(sources.read(file, inventory), said.job.main)
    return Verdict(
        project=inventory.name,
        files=len(inventory.entries),
        unpacked_bytes=inventory.unpacked_size,
        source=needed.source,
        requirements=tuple(line.partition(" --hash")[0] for line in lines),
        tasks=len(said.sweep.tasks) if said.sweep else 0,
        problems=tuple(problems),
        warnings=tuple(_foreseen(program, named)),
    )


def _read(file: BinaryIO, inventory: archive.Inventory, path: str) -> bytes | None:
    return archive.read_member(file, inventory, path, READ_MAX_BYTES)


def _of_the_whole(zipped: Path, name: str) -> Iterator[Found]:
    size = zipped.stat().st_size
    if size > UPLOAD_MAX_BYTES:
        yield Found(f"The zip has {size:,} bytes; sites take at most {UPLOAD_MAX_BYTES:,}.")
    try:
        project_name(name)
    except ValueError as error:
        yield Found(f"The project's name “{name}” {error}. Rename the folder.")


def missing(path: str, line: int, module: str, package: str) -> Found:
    """A module that nothing brings; package: that which has it, "" where none is certain."""
    where = f"{path}, line {line}: import {module}"
    if package:
        return Found(f"{where} needs a line in requirements.txt.", package)
    return Found(f"{where} is neither in the project nor known to come with a package.")


def foreign(path: str, line: int, text: str) -> Found:
    """A path of somebody's own machine."""
    return Found(
        f"{path}, line {line}: “{text}” is a path of one machine; put the file into the project "
        "and name it from there."
    )


def _foreseen(program: imports.Program, named: list[str]) -> Iterator[Found]:
    for each in imports.missing_in_all(program, named, imports.ANY_PYTHON):
        yield missing(each.path, each.line, each.module, each.package)
    for path in imports.foreign_paths(program):
        yield foreign(path.path, path.line, path.text)
