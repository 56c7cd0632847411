"""Look at a long signal once, block by block: its facts, and what a plot of it needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

COLUMNS = 1000  # of a plot
CHANNELS = 8  # drawn as lines; a matrix with more both ways is drawn as a picture
BLOCK = 4_000_000  # values held at once
_EXACT = 2**53

Read = Callable[[int, int], NDArray[Any]]


@dataclass
class Look:
    """What was seen of `seen` samples (along time) of each channel.

    lower, upper: least and greatest finite value in each of the plot's columns (NaN where there
    is none), one row a column, one column a channel; step: samples in one column. Of more than
    CHANNELS channels the extremes are those of all together, and the columns are no longer even.
    """

    seen: int
    nan: int
    inf: int
    mean: Optional[float]
    rms: Optional[float]
    step: int
    lower: NDArray[Any]
    upper: NDArray[Any]

    def facts(self, whole: bool) -> dict[str, Any]:
        """NaN and infinite values counted; minimum, mean, maximum of the finite ones.

        whole: the values are whole numbers, so that the extremes are too.
        """
        finite = self.lower.size and not np.isnan(self.lower).all()
        return {
            "nan": self.nan,
            "inf": self.inf,
            "min": _number(np.nanmin(self.lower), whole) if finite else None,
            "mean": self.mean,
            "max": _number(np.nanmax(self.upper), whole) if finite else None,
        }


def look(read: Read, length: int, channels: int, until: float) -> Look:
    """Look at a signal: read(start, stop) gives rows of samples, one column a channel.

    A read may come back short: the signal then ends there. until: by time.monotonic(), when to
    be content with what was seen; a first block is looked at in any case.
    """
    length = min(length, COLUMNS * BLOCK)
    step = max(1, -(-length // COLUMNS))
    rows = max(1, BLOCK // channels // step) * step
    if channels > CHANNELS:  # not drawn by columns, and a block of that many may not fit
        step = rows = max(1, BLOCK // channels)
    seen = nan = inf = count = 0
    total = squares = 0.0
    lower, upper = [], []
    for start in range(0, length, rows):
        block = as_floats(read(start, min(length, start + rows)))
        if not len(block) or (start and time.monotonic() > until):
            break
        seen += len(block)
        finite = np.isfinite(block)
        good = int(finite.sum())
        if good < block.size:
            missing = int(np.isnan(block).sum())
            nan += missing
            inf += block.size - good - missing
            block = np.where(finite, block, np.nan)
        count += good
        with np.errstate(over="ignore"):
            total += float(np.nansum(block))
            squares += float(np.nansum(np.square(block)))
        columns = np.arange(0, len(block), step)
        least = np.fmin.reduceat(block, columns, axis=0)
        greatest = np.fmax.reduceat(block, columns, axis=0)
        if channels > CHANNELS:
            least = np.fmin.reduce(least, axis=1, keepdims=True)
            greatest = np.fmax.reduce(greatest, axis=1, keepdims=True)
        lower.append(least)
        upper.append(greatest)
    empty = np.empty((0, 1))
    return Look(
        seen=seen,
        nan=nan,
        inf=inf,
        mean=_finite(total / count) if count else None,
        rms=_finite((squares / count) ** 0.5) if count else None,
        step=step,
        lower=np.concatenate(lower) if lower else empty,
        upper=np.concatenate(upper) if upper else empty,
    )


def as_floats(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers of any type as float64; of complex ones the magnitude."""
    if values.dtype.kind == "c":
        values = np.abs(values)
    floats: NDArray[Any] = values.astype(np.float64)
    return floats


def is_numeric(dtype: np.dtype[Any]) -> bool:
    """True of types that can be drawn."""
    return dtype.kind in "biufc"


def _number(value: float, whole: bool) -> float:
    return int(value) if whole and abs(value) < _EXACT else float(value)


def _finite(value: float) -> Optional[float]:
    return value if np.isfinite(value) else None
