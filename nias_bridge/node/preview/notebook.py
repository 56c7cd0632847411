"""Notebooks: the text of the cells, what they printed and the pictures they drew, no HTML."""

from __future__ import annotations

import base64
import io
import json
from typing import Any, BinaryIO

from .pictures import thumbnail
from .record import Desk, NoPreview, Preview
from .texts import SHOWN, plain

_SIZE_MAX = 50_000_000  # bytes of the file
_CELLS_MAX = 200
_PICTURES_MAX = 20


def preview(file: BinaryIO, desk: Desk) -> Preview:
    """The cells of a notebook."""
    content = file.read(_SIZE_MAX + 1)
    if len(content) > _SIZE_MAX:
        raise NoPreview("it is too large to be shown")
    try:
        cells = [_cell(cell) for cell in json.loads(content)["cells"]]
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        raise NoPreview("it is not a notebook of version 4") from None
    made = Preview(desk.kind, [{"cells": len(cells)}])
    room = SHOWN
    for cell, pictures in cells[:_CELLS_MAX]:
        for part in ("text", "output"):
            cell[part] = plain(cell[part])[:room]
            room -= len(cell[part])
        for encoded in pictures:
            if len(made.plots) < _PICTURES_MAX:
                drawn, _, _ = thumbnail(io.BytesIO(base64.b64decode(encoded)))
                made.plots.append(desk.keep(drawn, ".png"))
                cell["pictures"].append(made.plots[-1])
        made.cells.append(cell)
        if room <= 0:
            break
    return made


def _cell(cell: Any) -> tuple[dict[str, Any], list[str]]:
    printed, pictures = [], []
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        printed.append(_joined(output.get("text", data.get("text/plain", ""))))
        printed.append(_joined(output.get("evalue", "")))
        if "image/png" in data:
            pictures.append(_joined(data["image/png"]))
    shown = {
        "type": str(cell["cell_type"])[:20],
        "text": _joined(cell["source"]),
        "output": "\n".join(filter(None, printed)),
        "pictures": [],
    }
    return shown, pictures


def _joined(text: Any) -> str:
    return text if isinstance(text, str) else "".join(text)
