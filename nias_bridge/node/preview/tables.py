"""CSV, TSV and Parquet: the first rows, and of each column of numbers its facts and a plot."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from . import measure, svg
from .record import Desk, NoPreview, Preview
from .texts import encoding_of, plain

ROWS = 20
_HEAD = 65536  # bytes of a text by which its form is judged
_COLUMNS_MAX = 200
_DRAWN_MAX = 12
_CELL_MAX = 80  # letters shown
_SHOWN_MAX = 40  # columns of the first rows
_BATCH = 65536  # rows
_VALUES_MAX = 50_000_000  # numbers held at once
_PARQUET = b"PAR1"
_EMPTY = ("", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "NULL", "null", "None", "-")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.I)


def preview(file: BinaryIO, desk: Desk) -> Preview:
    """The head of a table and its columns."""
    parquet = file.read(len(_PARQUET)) == _PARQUET
    file.seek(0)
    return _parquet(file, desk) if parquet else _text(file, desk)


def _parquet(file: BinaryIO, desk: Desk) -> Preview:
    made = Preview(desk.kind)
    table = pyarrow.parquet.ParquetFile(file)
    schema = table.schema_arrow
    made.summary.append({"rows": table.metadata.num_rows, "columns": len(schema)})
    head = next(table.iter_batches(batch_size=ROWS, use_threads=False), None)
    names = schema.names[:_SHOWN_MAX]
    cells = [] if head is None else [head.column(n).to_pylist() for n in range(len(names))]
    made.rows = _shortened([names, *zip(*cells)])
    types = {field.name: str(field.type) for field in list(schema)[:_COLUMNS_MAX]}
    numeric = [
        f.name for f in schema if pa.types.is_floating(f.type) or pa.types.is_integer(f.type)
    ]
    batches = table.iter_batches(batch_size=_BATCH, columns=numeric, use_threads=False)
    _show_columns(types, _numbers(numeric, batches), made, desk)
    return made


@dataclass(frozen=True)
class _Form:
    """How a table is written as text."""

    encoding: str
    delimiter: str
    decimal: str
    skip: int
    names: list[str]
    named: bool
    numeric: list[str]
    rows: list[list[str]]


def _text(file: BinaryIO, desk: Desk) -> Preview:
    made = Preview(desk.kind)
    form = _form(file.read(_HEAD))
    made.rows = _shortened([form.names, *form.rows[:ROWS]])
    facts: dict[str, Any] = {"columns": len(form.names)}
    made.summary.append(facts)
    file.seek(0)
    types = {n: "number" if n in form.numeric else "text" for n in form.names[:_COLUMNS_MAX]}
    stopped: list[str] = []
    numbers = _numbers(form.numeric, _batches(file, form, stopped))
    _show_columns(types, numbers, made, desk)
    if numbers:
        facts["rows"] = max(map(len, numbers.values()))
    if stopped:
        facts["note"] = f"the figures are of the rows before an unexpected one: {stopped[0]}"
    return made


def _form(head: bytes) -> _Form:
    encoding = encoding_of(head)
    lines = plain(head.decode(encoding, "replace")).split("\n")
    if len(head) == _HEAD:
        lines.pop()  # it is cut
    skip = 0
    while skip < len(lines) and lines[skip].startswith(("#", "%")):
        skip += 1
    body = [line for line in lines[skip:] if line.strip()][:200]
    if not body:
        raise NoPreview("it has no rows")
    delimiter = max(",;\t|", key=lambda mark: min(line.count(mark) for line in body[:20]) or
                    body[0].count(mark) / 1000)  # fmt: skip
    cells = list(csv.reader(io.StringIO("\n".join(body)), delimiter=delimiter))
    first = [cell.strip() for cell in cells[0]]
    named = not any(_NUMBER.fullmatch(cell) for cell in first)
    names = first if named else [f"column {n + 1}" for n in range(len(first))]
    commented = lines[skip - 1].lstrip("#% ").split(delimiter) if skip else []
    if not named and len(commented) == len(first):
        names = [cell.strip() for cell in commented]
    rows = cells[1:] if named else cells
    names = _unique(names)
    columns = {name: [r[n].strip() for r in rows if n < len(r)] for n, name in enumerate(names)}
    numeric = [name for name, column in columns.items() if _are_numbers(column)]
    comma = delimiter != "," and any("," in c for name in numeric for c in columns[name])
    return _Form(encoding, delimiter, "," if comma else ".", skip, names, named, numeric, rows)


def _are_numbers(column: list[str]) -> bool:
    told = [cell for cell in column if cell not in _EMPTY]
    return bool(told) and all(_NUMBER.fullmatch(cell) for cell in told)


def _unique(names: list[str]) -> list[str]:
    made: list[str] = []
    for number, given in enumerate(names, 1):
        name = given or f"column {number}"
        made.append(f"{name} ({number})" if name in made else name)
    return made


def _batches(file: BinaryIO, form: _Form, stopped: list[str]) -> Iterator[Any]:
    # Until the end, or a row that is not like the first ones: `stopped` then says why.
    if not form.numeric:
        return
    try:
        with pyarrow.csv.open_csv(
            file,
            pyarrow.csv.ReadOptions(
                use_threads=False,
                encoding=form.encoding,
                skip_rows=form.skip + form.named,
                column_names=form.names,
            ),
            pyarrow.csv.ParseOptions(
                delimiter=form.delimiter, invalid_row_handler=lambda _: "skip"
            ),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(form.numeric, pa.float64()),
                include_columns=form.numeric,
                null_values=list(_EMPTY),
                decimal_point=form.decimal,
            ),
        ) as reader:
            yield from reader
    except pa.ArrowInvalid as error:
        stopped.append(str(error)[:200])


def _numbers(names: list[str], batches: Iterable[Any]) -> dict[str, NDArray[Any]]:
    # The first columns, as far as memory goes.
    names = names[:_COLUMNS_MAX]
    pieces: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    room = _VALUES_MAX
    for batch in batches:
        for name in names:
            column = batch.column(name).cast(pa.float64(), safe=False)
            pieces[name].append(column.to_numpy(zero_copy_only=False))
            room -= len(column)
        if room < 0:
            break
    return {name: np.concatenate(all_) for name, all_ in pieces.items() if all_}


def _show_columns(
    types: dict[str, str], numbers: dict[str, NDArray[Any]], made: Preview, desk: Desk
) -> None:
    over = _evenly_rising(next(iter(types), ""), numbers)
    for name, kind in types.items():
        facts: dict[str, Any] = {"name": name, "type": kind}
        made.summary.append(facts)
        values = numbers.get(name, np.empty(0))
        if not len(values):
            continue

        def read(start: int, stop: int, values: NDArray[Any] = values) -> NDArray[Any]:
            return values[start:stop, None]

        look = measure.look(read, len(values), 1, desk.until)
        facts.update(look.facts(whole="int" in kind))
        if len(made.plots) < _DRAWN_MAX and len(values) > 1 and not (over and name == over.label):
            line = svg.Line(look.lower[:, 0], look.upper[:, 0], name)
            axis = over or svg.Axis("row", 0, len(values) - 1)
            a_row = (axis.stop - axis.start) / (len(values) - 1)
            drawn = svg.lines([line], axis, look.step * a_row)
            made.plots.append(desk.keep(drawn, ".svg"))
            facts["plot"] = made.plots[-1]


def _evenly_rising(first: str, numbers: dict[str, NDArray[Any]]) -> svg.Axis | None:
    """A table's first column as what the others are drawn over: a time or a frequency, say, which
    is nowhere half a row away from rising evenly."""
    values = numbers.get(first, np.empty(0))
    if len(numbers) < 2 or len(values) < 2 or not values[0] < values[-1]:
        return None
    away = np.linspace(values[0], values[-1], len(values))
    away -= values
    np.abs(away, out=away)
    half_a_row = (values[-1] - values[0]) / (len(values) - 1) / 2
    return svg.Axis(first, values[0], values[-1]) if away.max() < half_a_row else None


def _shortened(rows: Iterable[Iterable[Any]]) -> list[list[str]]:
    return [
        [plain("" if cell is None else str(cell))[:_CELL_MAX] for cell in list(row)[:_SHOWN_MAX]]
        for row in rows
    ]
