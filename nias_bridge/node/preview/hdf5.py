"""HDF5: the tree of a file and its datasets; whatever points into another file is only named."""

from __future__ import annotations

from typing import Any, BinaryIO

import h5py

from . import arrays
from .record import Desk, Preview

_DEPTH_MAX = 16
_CACHE = 256 * 1024 * 1024  # bytes of unpacked chunks: blocks seldom end where chunks do


def preview(file: BinaryIO, desk: Desk) -> Preview:
    """The datasets of an HDF5 file."""
    made = Preview(desk.kind)
    show(file, made, desk)
    return made


def show(file: BinaryIO, made: Preview, desk: Desk) -> None:
    """Add the datasets of an HDF5 file to a preview; also of a MAT file from version 7.3 on."""
    # By its descriptor: the file that was judged is the one that is read, whatever its name is.
    with h5py.File(
        f"/proc/self/fd/{file.fileno()}", "r", locking=False, rdcc_nbytes=_CACHE
    ) as opened:
        _walk(opened, "", {h5py.h5o.get_info(opened.id).addr}, made, desk)


def _walk(group: h5py.Group, above: str, seen: set[Any], made: Preview, desk: Desk) -> None:
    for name in group:
        if len(made.summary) >= arrays.LISTED_MAX:
            return
        path = f"{above}/{name}" if above else name
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            made.summary.append({"name": path, "note": "a link, which is not followed"})
            continue
        item = group[name]
        address = h5py.h5o.get_info(item.id).addr
        if address in seen:
            continue
        seen.add(address)
        if isinstance(item, h5py.Group):
            if path.count("/") < _DEPTH_MAX:
                _walk(item, path, seen, made, desk)
        elif isinstance(item, h5py.Dataset):
            _show(path, item, made, desk)


def _show(path: str, dataset: h5py.Dataset, made: Preview, desk: Desk) -> None:
    facts = {"name": path, "shape": list(dataset.shape or ()), "dtype": str(dataset.dtype)}
    if dataset.is_virtual or dataset.external:
        made.summary.append({**facts, "note": "its values lie in another file"})
    elif dataset.shape is None or dataset.dtype.kind == "O":
        made.summary.append(facts)
    else:
        try:
            arrays.show(path, dataset, made, desk, _unit(dataset))
        except OSError as error:  # packed by a filter that is not here, or broken
            made.summary[-1]["note"] = f"its values can't be read here: {error}"[:200]


def _unit(dataset: h5py.Dataset) -> str:
    for name in ("units", "unit"):
        value = dataset.attrs.get(name)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        if isinstance(value, str):
            return value[:20]
    return ""
