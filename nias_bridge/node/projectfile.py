"""Read nias.toml: what a project says of its job, and the tasks of its sweep."""

from __future__ import annotations

import difflib
import itertools
import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from . import catalogue, sweeptable, toml
from .sweeptable import Scalar

FILE = "nias.toml"
_TIME = re.compile(r"(?:\d{1,4}-\d{1,2}(?::\d{1,2}){0,2}|\d{1,7}(?::\d{1,2}){0,2})", re.ASCII)
_MEMORY = re.compile(r"\d{1,9}[KMGT]?B?", re.ASCII | re.IGNORECASE)
PARTITION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_PYTHON = re.compile(r"3\.\d{1,2}(?:\.\d{1,2})?", re.ASCII)
_DATASET = re.compile(catalogue.WORD, re.ASCII)
_PROBLEMS_TOLD = 20
_MOST_ARGS = 200
_MOST_PARAMETERS = 100
_MOST_CHARACTERS = 4096


class ProjectFileError(Exception):
    """nias.toml, or a file that it names, can't be used; every problem is told at once.

    problems: one sentence each, with file, key and what is allowed.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(self.problems))


@dataclass(frozen=True)
class Job:
    """What the project asks for its job; None leaves it to the upload form and the site.

    time and memory in Slurm's formats; cpus and gpus are counts; main: path within the project.
    """

    time: Optional[str] = None
    cpus: Optional[int] = None
    memory: Optional[str] = None
    gpus: Optional[int] = None
    partition: Optional[str] = None
    python: Optional[str] = None
    main: str = "code.py"
    args: tuple[str, ...] = ()
    requeue: Optional[bool] = None
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sweep:
    """The tasks of a sweep, in order: the parameters of each, all with the same names."""

    parameters: tuple[str, ...]
    tasks: tuple[Mapping[str, Scalar], ...]
    max_parallel: Optional[int] = None


@dataclass(frozen=True)
class ProjectFile:
    """All that nias.toml says."""

    job: Job = field(default_factory=Job)
    sweep: Optional[Sweep] = None


class _NotAllowed(Exception):
    """A value that can't be; says what is allowed."""


def read(
    text: str, read_file: Callable[[str], Optional[bytes]], *, most_tasks: int = 10_000
) -> ProjectFile:
    """What the text of a nias.toml says.

    read_file: gives a file of the project by its path within it, or None. most_tasks: the largest
    sweep that is taken. Raises ProjectFileError with all problems at once.
    """
    if not toml.READABLE:
        raise ProjectFileError([f"{FILE} can only be read by Python 3.11 or newer on the node."])
    try:
        content = toml.loads(text.lstrip("\ufeff"))
    except toml.TomlError as error:
        raise ProjectFileError([f"{FILE} {error}."]) from None
    problems: list[str] = []
    _refuse_unknown("", content, ("job", "sweep"), problems)
    job = _table("job", content, problems)
    sweep = _table("sweep", content, problems)
    asked = _read_job(job or {}, read_file, problems)
    swept = None if sweep is None else _read_sweep(sweep, read_file, most_tasks, problems)
    if problems:
        raise ProjectFileError(problems)
    return ProjectFile(asked, swept)


def nothing_to_run(job: Job, read_file: Callable[[str], Optional[bytes]]) -> str:
    """A sentence where the project has no file that would be run, else ""."""
    if job.main != Job.main or read_file(job.main) is not None:
        return ""
    return f"{FILE}: there is no {Job.main}; name the file to run as job.main."


def _table(name: str, content: Mapping[str, Any], problems: list[str]) -> Optional[dict[str, Any]]:
    found = content.get(name)
    if found is None or isinstance(found, dict):
        return found
    problems.append(f"{FILE}: {name} is {_shown(found)}; write it as a table, [{name}].")
    return None


def _refuse_unknown(
    table: str, content: Mapping[str, Any], known: Collection[str], problems: list[str]
) -> None:
    unknown = [name for name in content if name not in known]
    for name in unknown[:_PROBLEMS_TOLD]:
        close = difflib.get_close_matches(name[:80].lower(), known, 1, 0.6)
        mend = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}."
        place = f"the key {table}.{name[:80]}" if table else f"the entry {name[:80]}"
        if not table and name in _JOB:
            mend = "write it under [job]."
        problems.append(f"{FILE}: {place} is not known; {mend}")
    if len(unknown) > _PROBLEMS_TOLD:
        problems.append(f"{FILE}: {len(unknown) - _PROBLEMS_TOLD:,} more entries are not known.")


def _read_job(
    content: Mapping[str, Any],
    read_file: Callable[[str], Optional[bytes]],
    problems: list[str],
) -> Job:
    _refuse_unknown("job", content, _JOB, problems)
    taken: dict[str, Any] = {}
    for name, check in _JOB.items():
        if name in content:
            try:
                taken[name] = check(content[name])
            except _NotAllowed as allowed:
                problems.append(f"{FILE}: job.{name} is {_shown(content[name])}; {allowed}")
    if "main" in taken and read_file(taken["main"]) is None:
        named = _shown(taken["main"])
        problems.append(f"{FILE}: job.main is {named}; the project has no such file.")
    return Job(**taken)


def _read_sweep(
    content: Mapping[str, Any],
    read_file: Callable[[str], Optional[bytes]],
    most_tasks: int,
    problems: list[str],
) -> Optional[Sweep]:
    before = len(problems)
    _refuse_unknown("sweep", content, ("file", "grid", "max_parallel"), problems)
    max_parallel = content.get("max_parallel")
    if max_parallel is not None:
        try:
            _count(1, 4)(max_parallel)
        except _NotAllowed as allowed:
            problems.append(f"{FILE}: sweep.max_parallel is {_shown(max_parallel)}; {allowed}")
    names: tuple[str, ...] = ()
    tasks: list[Mapping[str, Scalar]] = []
    if ("file" in content) == ("grid" in content):
        problems.append(f"{FILE}: [sweep] needs either file or grid, and not both.")
    elif "file" in content:
        names, tasks = _tasks_of_file(content["file"], read_file, most_tasks, problems)
    else:
        names, tasks = _tasks_of_grid(content["grid"], most_tasks, problems)
    return Sweep(names, tuple(tasks), max_parallel) if len(problems) == before else None


def _tasks_of_file(
    path: object,
    read_file: Callable[[str], Optional[bytes]],
    most_tasks: int,
    problems: list[str],
) -> tuple[tuple[str, ...], list[Mapping[str, Scalar]]]:
    try:
        name = _path(".csv", "sweep.csv")(path)
    except _NotAllowed as allowed:
        problems.append(f"{FILE}: sweep.file is {_shown(path)}; {allowed}")
        return (), []
    data = read_file(name)
    if data is None:
        problems.append(f"{FILE}: sweep.file is {_shown(name)}; the project has no such file.")
        return (), []
    table = sweeptable.read(data, most_rows=most_tasks)
    problems += [f"{name}: {problem}" for problem in table.problems]
    return table.names, [dict(zip(table.names, row)) for row in table.rows]


def _tasks_of_grid(
    grid: object, most_tasks: int, problems: list[str]
) -> tuple[tuple[str, ...], list[Mapping[str, Scalar]]]:
    if not isinstance(grid, dict) or not grid:
        problems.append(
            f"{FILE}: sweep.grid is {_shown(grid)}; write lists by name, as in "
            "grid = { cutoff = [10, 20], window = ['hann'] }."
        )
        return (), []
    before = len(problems)
    if len(grid) > _MOST_PARAMETERS:
        problems.append(
            f"{FILE}: sweep.grid has {len(grid):,} names; at most {_MOST_PARAMETERS} are taken."
        )
        return (), []
    names, wrong = sweeptable.parameter_names(list(grid))
    problems += [f"{FILE}: sweep.grid: {problem}" for problem in wrong]
    for written, values in grid.items():
        allowed = _values_problem(values)
        if allowed:
            problems.append(f"{FILE}: sweep.grid.{written[:80]} is {_shown(values)}; {allowed}")
    if len(problems) > before:
        return (), []
    count = math.prod(len(values) for values in grid.values())
    if count > most_tasks:
        problems.append(
            f"{FILE}: sweep.grid makes {count:,} tasks; at most {most_tasks:,} are taken."
        )
        return (), []
    rows = itertools.product(*grid.values())
    return names, [dict(zip(names, row)) for row in rows]


def _values_problem(values: object) -> str:
    if not isinstance(values, list) or not values:
        return "write a list of at least one value, as in [10, 20]."
    for value in values:
        if not isinstance(value, (str, int, float)):
            return "a list holds texts, numbers, true and false only."
        if isinstance(value, (int, float)) and not abs(value) < 2**63:
            return "a number that large (or inf, or nan) can't be a value."
        if isinstance(value, str) and sweeptable.unfit(value):
            return sweeptable.unfit(value)
    if len({(type(value), value) for value in values}) < len(values):
        return "it has the same value twice."
    return ""


def _matching(pattern: re.Pattern[str], allowed: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        raise _NotAllowed(allowed)

    return check


def _time(value: object) -> str:
    if isinstance(value, str) and _TIME.fullmatch(value) and re.search("[1-9]", value):
        return value
    raise _NotAllowed(
        'write a time in quotes, as in "30" (minutes), "02:00:00" or "1-12:00:00" (36 hours).'
    )


def _memory(value: object) -> str:
    if isinstance(value, str) and _MEMORY.fullmatch(value) and re.search("[1-9]", value):
        return value
    raise _NotAllowed('write a size in quotes, as in "500M" or "8G".')


def _count(least: int, example: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value < 100_000:
            return value
        raise _NotAllowed(f"write a whole number from {least}, as in {example}.")

    return check


def _yes_or_no(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _NotAllowed("write true or false, without quotes.")


def _path(ending: str, example: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if isinstance(value, str) and not sweeptable.unfit(value) and "\\" not in value:
            parts = [part for part in value.split("/") if part != "."]
            # A dash first would make it an option of Python's.
            inside = all(parts) and ".." not in parts and not re.match("[A-Za-z]:|-", value)
            if inside and parts and parts[-1].lower().endswith(ending):
                return "/".join(parts)
        raise _NotAllowed(
            f"write the path of a {ending} file within the project, with / and without .., "
            f'as in "{example}".'
        )

    return check


def _list_of(check: Callable[[object], str], allowed: str) -> Callable[[object], tuple[str, ...]]:
    def check_all(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > _MOST_ARGS:
            raise _NotAllowed(allowed)
        return tuple(check(each) for each in value)

    return check_all


def _argument(value: object) -> str:
    if isinstance(value, str) and len(value) <= _MOST_CHARACTERS and "\0" not in value:
        return value
    raise _NotAllowed(_ARGS)


def _shown(value: Any) -> str:
    try:
        text = _written(value)
    except (ValueError, RecursionError):  # thousands of digits, or of lists within lists
        text = "…"
    text = "".join(c if c.isprintable() else "�" for c in text[:81])
    return text if len(text) <= 80 else f"{text[:79]}…"


def _written(value: Any) -> str:
    if isinstance(value, str):
        return f"“{value}”"
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


_ARGS = 'write a list of texts in quotes, as in ["--fast", "3"].'
_DATASETS = (
    'write a list of datasets in quotes, each as NAME, OWNER/NAME or NAME@HASH, as in ["eeg-2024"].'
)

# key of [job] -> what checks its value
_JOB: dict[str, Callable[[object], Union[str, int, tuple[str, ...]]]] = {
    "time": _time,
    "cpus": _count(1, 4),
    "memory": _memory,
    "gpus": _count(0, 1),
    "partition": _matching(PARTITION, "write a partition's name in quotes."),
    "python": _matching(_PYTHON, 'write a version in quotes, as in "3.11".'),
    "main": _path(".py", "code.py"),
    "args": _list_of(_argument, _ARGS),
    "requeue": _yes_or_no,
    "datasets": _list_of(_matching(_DATASET, _DATASETS), _DATASETS),
}
