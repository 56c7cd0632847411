"""Read the table of a sweep: one row a task, its header the names of the parameters."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Union

from .requirements import decode

Scalar = Union[str, int, float, bool]

_SEPARATORS = ",;\t"
_WHOLE = re.compile(r"[+-]?(?:0|[1-9]\d{0,17})", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_LEADING_ZERO = re.compile(r"[+-]?0\d", re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
_VALUE_MAX = 4096
_FILE_MAX_BYTES = 4 * 1024 * 1024
_CELLS_MAX = 1000  # of a row
_PROBLEMS_TOLD = 20


@dataclass(frozen=True)
class Table:
    """The rows of a table in order; when there are problems, names and rows are empty."""

    names: tuple[str, ...] = ()
    rows: tuple[tuple[Scalar, ...], ...] = ()
    problems: tuple[str, ...] = ()


def read(data: bytes, *, most_rows: int) -> Table:
    """The table in a CSV file as people's programs write it.

    In whatever encoding; separated by commas, semicolons or tabs. Cells that read as numbers are
    numbers; where semicolons separate, a decimal comma is read as a point.
    """
    if len(data) > _FILE_MAX_BYTES:
        return Table(problems=(f"it is larger than {_FILE_MAX_BYTES // 1024**2} MB.",))
    text = decode(data)
    told = re.match(r"""sep=([^\w\s"\0]|\t)(?=\n)""", text)  # Excel's own way to say it
    if told:
        text = text[told.end() :]
    header = next((line for line in io.StringIO(text) if line.strip()), "")
    separator = told[1] if told else max(_SEPARATORS, key=header.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    try:
        rows = list(itertools.islice(_rows(reader), most_rows + 2))
    except csv.Error as error:
        return Table(problems=(f"line {reader.line_num}: it can't be read as a table ({error}).",))
    if len(rows) < 2:
        why = "it needs a first line with the names of the parameters, and then one line a task."
        return Table(problems=(why,))
    if len(rows) - 1 > most_rows:
        return Table(
            problems=(f"it has more tasks than are taken; these are at most {most_rows:,}.",)
        )
    names, problems = parameter_names(rows[0][1])
    for line, cells in rows[1:]:
        problems += [f"line {line}: {problem}" for problem in _row_problems(cells, rows[0][1])]
    if problems:
        more = len(problems) - _PROBLEMS_TOLD
        further = [f"and {more:,} more problems."] if more > 0 else []
        return Table(problems=(*problems[:_PROBLEMS_TOLD], *further))
    values = (tuple(_value(cell, separator) for cell in cells) for _, cells in rows[1:])
    return Table(names, tuple(values))


def _rows(reader: Any) -> Iterator[tuple[int, list[str]]]:
    # Those that are not blank, with their lines.
    for row in reader:
        if len(row) > _CELLS_MAX:
            raise csv.Error(f"more than {_CELLS_MAX:,} cells")
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield reader.line_num, cells


def parameter_names(written: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The names as programs can use them (“Fs (Hz)” -> Fs_Hz), and what is wrong with them."""
    names: list[str] = []
    problems = []
    seen: dict[str, str] = {}
    for column, text in enumerate(written, 1):
        plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
        name = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")
        if not text.strip():
            problems.append(f"column {column} has no name.")
        elif not _NAME.fullmatch(name):
            problems.append(
                f"“{text[:80]}” can't be a parameter's name; begin with a letter from a to z, then "
                "letters, digits and _, at most 64."
            )
        elif name.upper() in seen:
            problems.append(
                f"“{text[:80]}” and “{seen[name.upper()][:80]}” would both be "
                f"NIAS_PARAM_{name.upper()}; rename one."
            )
        else:
            seen[name.upper()] = text
        names.append(name)
    return tuple(names), problems


def unfit(value: str) -> str:
    """What keeps a text from being a value, as a sentence; "" when nothing does."""
    if len(value) > _VALUE_MAX:
        return f"a value has at most {_VALUE_MAX:,} characters."
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in value):
        return "a value can't have line breaks or control characters."
    return ""


def _row_problems(cells: Sequence[str], header: Sequence[str]) -> list[str]:
    if len(cells) != len(header):
        return [f"it has {len(cells)} cells; the first line has {len(header)}."]
    empty = [f"“{name}” is empty." for name, cell in zip(header, cells) if not cell]
    return empty + [unfit(cell) for cell in cells if unfit(cell)]


def _value(cell: str, separator: str) -> Scalar:
    if _WHOLE.fullmatch(cell):
        return int(cell)
    if _LEADING_ZERO.match(cell):
        return cell  # 007 is a name
    number = cell.replace(",", ".") if separator == ";" else cell
    if _NUMBER.fullmatch(number) and math.isfinite(float(number)):
        return float(number)
    return cell
