"""Anything shaped like an array: its facts, and the plot that suits its shape."""

from __future__ import annotations

from typing import Any, Optional, Protocol

import numpy as np
from numpy.typing import NDArray

from . import measure, svg
from .record import Desk, Preview

PLOTS_MAX = 8  # of one file
LISTED_MAX = 200  # arrays of one file
_CELLS = 512  # of a picture, each way
_READ_WHOLE = 64_000_000  # values of a matrix that is drawn as a picture


class Array(Protocol):
    """What NumPy's arrays, memory maps and HDF5's datasets have in common."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, key: Any) -> Any: ...


def show(name: str, array: Array, preview: Preview, desk: Desk, unit: str = "") -> None:
    """Add an array's facts to the preview and, while there is room, its plot."""
    facts: dict[str, Any] = {"name": name, "shape": list(array.shape), "dtype": str(array.dtype)}
    preview.summary.append(facts)
    size = int(np.prod(array.shape, dtype=object)) if array.shape else 1
    if not size or not measure.is_numeric(array.dtype):
        return
    whole = array.dtype.kind in "biu"
    if size == 1:
        value = np.asarray(array[(0,) * len(array.shape)])
        facts["value"] = str(value)
        return
    read, length, channels = _by_samples(array)
    look = measure.look(read, length, channels, array.dtype.itemsize)
    facts.update(look.facts(whole))
    if look.seen < length:
        facts["looked_at"] = look.seen * channels
    label = "magnitude" if array.dtype.kind == "c" else ""
    if len(preview.plots) < PLOTS_MAX:
        drawn = _drawn(name, array, look, channels, label or unit)
        if drawn:
            preview.plots.append(desk.keep(drawn, ".svg"))
            facts["plot"] = preview.plots[-1]


def _by_samples(array: Array) -> tuple[measure.Read, int, int]:
    # The long axis of a vector or a handful of channels is time; else the first axis is.
    wide = [n for n, extent in enumerate(array.shape) if extent > 1]
    if len(wide) <= 2:
        lengths = [array.shape[n] for n in wide]
        along = wide[int(np.argmax(lengths))] if min(lengths) <= measure.CHANNELS else wide[0]
    else:
        along = wide[0]
    length = array.shape[along]
    channels = int(np.prod(array.shape, dtype=object)) // length

    def read(start: int, stop: int) -> NDArray[Any]:
        key = tuple(
            slice(start, stop) if n == along else slice(None) for n in range(len(array.shape))
        )
        taken: NDArray[Any] = np.moveaxis(np.asarray(array[key]), along, 0)
        return taken.reshape(len(taken), channels)

    return read, length, channels


def _drawn(
    name: str, array: Array, look: measure.Look, channels: int, unit: str
) -> Optional[bytes]:
    wide = [n for n in array.shape if n > 1]
    if not look.seen or len(wide) > 2:
        return None
    if channels <= measure.CHANNELS:
        each = "column" if wide[0] >= wide[-1] else "row"
        labels = [""] if channels == 1 else [f"{each} {n}" for n in range(channels)]
        panels = [
            svg.Line(look.lower[:, n], look.upper[:, n], label or name, unit)
            for n, label in enumerate(labels)
        ]
        return svg.lines(panels, svg.Axis("sample", 0, max(1, look.seen - 1)), look.step)
    if wide[0] * wide[1] > _READ_WHOLE:
        return None
    matrix = measure.as_floats(np.asarray(array[...])).reshape(wide)
    down, across = svg.Axis("row", wide[0], 0), svg.Axis("column", 0, wide[1])
    return svg.picture(_fewer_cells(matrix), across, down, unit)


def _fewer_cells(matrix: NDArray[Any]) -> NDArray[Any]:
    # The mean of the cells that fall together; infinite ones count as missing.
    matrix = np.where(np.isfinite(matrix), matrix, np.nan)
    for axis in (0, 1):
        by = -(-matrix.shape[axis] // _CELLS)
        if by > 1:
            starts = np.arange(0, matrix.shape[axis], by)
            there = np.add.reduceat((~np.isnan(matrix)).astype(float), starts, axis=axis)
            total = np.add.reduceat(np.nan_to_num(matrix), starts, axis=axis)
            with np.errstate(invalid="ignore", divide="ignore"):
                matrix = np.where(there, total / there, np.nan)
    return matrix
