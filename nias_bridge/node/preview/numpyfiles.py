"""NPY and NPZ: arrays as NumPy saves them; pickled objects are named, never loaded."""

from __future__ import annotations

import zipfile
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from . import MEMORY_MAX, arrays
from .record import Desk, NoPreview, Preview

_ZIP = b"PK\x03\x04"
_MEMBER_MAX = MEMORY_MAX // 3  # bytes of one array of an NPZ, which has to be unpacked whole


def preview(file: BinaryIO, desk: Desk) -> Preview:
    """The arrays of an NPY or NPZ file."""
    made = Preview(desk.kind)
    if file.read(4) == _ZIP:
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist()[: arrays.LISTED_MAX]:
                if info.filename.endswith(".npy"):
                    with archive.open(info) as member:
                        _show_member(info, member, made, desk)
    else:
        file.seek(0)
        shape, fortran, dtype = _header(file)
        if dtype.hasobject:
            _name_only("", shape, dtype, made)
        else:
            arrays.show("", _mapped(file, shape, fortran, dtype), made, desk)
        made.summary[0].pop("name")
    return made


def _show_member(info: zipfile.ZipInfo, member: Any, made: Preview, desk: Desk) -> None:
    name = info.filename[: -len(".npy")]
    shape, fortran, dtype = _header(member)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if dtype.hasobject or size > _MEMBER_MAX:
        _name_only(name, shape, dtype, made)
        return
    content = np.frombuffer(member.read(size), np.uint8)
    if len(content) < size:
        raise NoPreview(f"“{name}” is shorter than its header says")
    array = content.view(dtype).reshape(shape, order="F" if fortran else "C")
    arrays.show(name, array, made, desk)


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise NoPreview("its format is newer than can be shown here")


def _mapped(
    file: BinaryIO, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]
) -> NDArray[Any]:
    if 0 in shape:
        return np.empty(shape, dtype)
    order: Any = "F" if fortran else "C"
    try:
        return np.memmap(file, dtype, "r", file.tell(), shape, order)
    except (ValueError, OverflowError):
        raise NoPreview("it is shorter than its header says") from None


def _name_only(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], made: Preview) -> None:
    made.summary.append({"name": name, "shape": list(shape), "dtype": str(dtype)})
