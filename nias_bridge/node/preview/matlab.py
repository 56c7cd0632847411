"""MAT files of every version: the arrays in them, those inside structures too."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
import scipy.io
from numpy.typing import NDArray

from . import MEMORY_MAX, arrays
from .record import Desk, Preview

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HDF5_AT = 512  # from version 7.3 on
_DEPTH_MAX = 4
_WIDEST = 16  # bytes of a value, at most
_CLASSES_LEFT = ("function", "opaque", "unknown", "object")


def preview(file: BinaryIO, desk: Desk) -> Preview:
    """The variables of a MAT file."""
    made = Preview(desk.kind)
    file.seek(_HDF5_AT)
    if file.read(len(_HDF5)) == _HDF5:
        from . import hdf5  # noqa: PLC0415  # few MAT files need it

        hdf5.show(file, made, desk)
        return made
    file.seek(0)
    room = MEMORY_MAX // 3
    for name, shape, kind in scipy.io.whosmat(file)[: arrays.LISTED_MAX]:
        size = int(np.prod(shape, dtype=object)) * _WIDEST
        if kind in _CLASSES_LEFT or size > room:
            made.summary.append({"name": name, "shape": list(shape), "dtype": kind})
            continue
        file.seek(0)
        value = scipy.io.loadmat(file, variable_names=[name])[name]
        _show(name, value, made, desk, 0)
    return made


def _show(name: str, value: Any, made: Preview, desk: Desk, depth: int) -> None:
    if not isinstance(value, np.ndarray):  # a sparse matrix, say
        shape = list(getattr(value, "shape", ()))
        made.summary.append({"name": name, "shape": shape, "dtype": type(value).__name__})
    elif value.dtype.names and value.size == 1 and depth < _DEPTH_MAX:
        for inner in value.dtype.names[: arrays.LISTED_MAX]:
            _show(f"{name}.{inner}", value.flat[0][inner], made, desk, depth + 1)
    elif value.dtype.kind == "U":
        made.summary.append({"name": name, "shape": list(value.shape), "dtype": "text",
                             "value": _words(value)})  # fmt: skip
    else:
        arrays.show(name, value, made, desk)


def _words(value: NDArray[Any]) -> str:
    return " ".join(str(v) for v in value.ravel()[:20])[:200]
