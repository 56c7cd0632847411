"""Questions that nearly each request asks: put into words once, and read anew each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sqlalchemy import Engine, Select

from nias_bridge.store.engine import first_row

KEPT = 1000
T = TypeVar("T")


class Recurring(Generic[T]):
    """A statement of which one row at most comes, and what such a row means.

    The row is read each time. The same row means the same, so that what was made of the last one
    is given again while it is as it was.
    """

    def __init__(
        self, engine: Engine, statement: Select[Any], noun: Callable[[tuple[Any, ...]], T]
    ) -> None:
        dialect = engine.dialect
        compiled = statement.compile(dialect=dialect)
        self._engine, self._noun = engine, noun
        self._text, self._places = compiled.string, compiled.positiontup
        self._readers = [
            column.type.dialect_impl(dialect).result_processor(dialect, None)
            for column in statement.selected_columns
        ]
        self._kept: dict[tuple[Any, ...], tuple[Any, T]] = {}

    def ask(self, **asked: int | str) -> T | None:
        """The noun of the row for these parameters, which are as the driver takes them."""
        named = asked if self._places is None else tuple(asked[name] for name in self._places)
        row = first_row(self._engine, self._text, named)
        if row is None:
            return None
        about = tuple(asked.values())
        before = self._kept.get(about)
        if before is not None and before[0] == row:
            return before[1]
        made = self._noun(
            tuple(
                read(value) if read else value
                for read, value in zip(self._readers, row, strict=True)
            )
        )
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[about] = row, made
        return made
