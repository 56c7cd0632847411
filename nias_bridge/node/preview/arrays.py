"""Anything shaped like an array: its facts, and the plot that suits its shape."""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import measure, svg
from .record import Desk, Preview

PLOTS_MAX = 8  # of one file
LISTED_MAX = 200  # arrays of one file
_CELLS = 512  # of a picture, each way


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
    look = measure.look(read, length, channels, desk.until)
    facts.update(look.facts(whole))
    if look.seen < length:
        facts["looked_at"] = look.seen * channels
    wide = [extent for extent in array.shape if extent > 1]
    if not look.seen or len(wide) > 2 or len(preview.plots) >= PLOTS_MAX:
        return
    unit = "magnitude" if array.dtype.kind == "c" else unit
    if channels <= measure.CHANNELS:
        each = "column" if wide[0] >= wide[-1] else "row"
        names = [name] if channels == 1 else [f"{each} {n}" for n in range(channels)]
        panels = [
            svg.Line(look.lower[:, n], look.upper[:, n], label, unit)
            for n, label in enumerate(names)
        ]
        drawn = svg.lines(panels, svg.Axis("sample", 0, max(1, look.seen - 1)), look.step)
    else:
        cells = _cells(read, length, channels, desk.until)
        cells = cells if wide[0] == length else cells.T
        across, down = svg.Axis("column", 0, wide[1]), svg.Axis("row", wide[0], 0)
        drawn = svg.picture(cells, across, down, unit)
    preview.plots.append(desk.keep(drawn, ".svg"))
    facts["plot"] = preview.plots[-1]


def _by_samples(array: Array) -> tuple[measure.Read, int, int]:
    # Time runs along the longest axis.
    along = int(np.argmax(array.shape))
    length = array.shape[along]
    channels = int(np.prod(array.shape, dtype=object)) // length

    def read(start: int, stop: int) -> NDArray[Any]:
        key = tuple(
            slice(start, stop) if n == along else slice(None) for n in range(len(array.shape))
        )
        taken: NDArray[Any] = np.moveaxis(np.asarray(array[key]), along, 0)
        return taken.reshape(len(taken), channels)

    return read, length, channels


def _cells(read: measure.Read, length: int, channels: int, until: float) -> NDArray[Any]:
    # A matrix as few enough cells, each the mean of its finite values; NaN where there is none.
    down, along = -(-length // _CELLS), -(-channels // _CELLS)
    rows = max(1, measure.BLOCK // channels // down) * down
    made = np.full((-(-length // down), -(-channels // along)), np.nan)
    for start in range(0, length, rows):
        if start and time.monotonic() > until:
            break
        # Where not even the rows of one cell fit, the first of them stand for it.
        stop = start + min(rows, max(1, measure.BLOCK // channels))
        block = measure.as_floats(read(start, min(length, stop)))
        there = np.isfinite(block)
        total, count = (
            np.add.reduceat(
                np.add.reduceat(values, np.arange(0, len(block), down), axis=0),
                np.arange(0, channels, along),
                axis=1,
            )
            for values in (np.where(there, block, 0.0), there.astype(np.int64))
        )
        with np.errstate(invalid="ignore"):
            made[start // down : start // down + len(total)] = total / count
    return made
