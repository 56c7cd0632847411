"""What the node made of a run's results to look at: previews, file by file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nias_bridge.domain import Run
from nias_bridge.errors import NotFound
from nias_bridge.node import layout
from nias_bridge.reach import Opened
from nias_bridge.services import desk
from nias_bridge.services.bridge import Bridge

INDEX_MAX_BYTES = 3 * 1024 * 1024 // 2
TEXT_MAX_BYTES = 256 * 1024
PIECE = re.compile(r"[0-9]{4,6}-[a-z]{1,2}\.(?:png|svg|txt)")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a notebook; pictures by their names among the previews."""

    type: str
    text: str
    output: str = ""
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Preview:
    """One file of the results as the node saw it.

    kind: image, audio, array, table, notebook, json, text, pdf, html …, or other; summary: facts,
    those of a part with its “name”; plots and text: names of pieces; rows: the head of a table,
    column names first; error: why there is no more.
    """

    kind: str
    summary: tuple[Mapping[str, Any], ...] = ()
    plots: tuple[str, ...] = ()
    error: str = ""
    text: str = ""
    rows: tuple[tuple[str, ...], ...] = ()
    cells: tuple[Cell, ...] = ()


_PREVIEW = TypeAdapter(Preview)


def previews(bridge: Bridge, run: Run, task: int | None = None) -> dict[str, Preview]:
    """The previews of a run, or of a task of a sweep, by the paths of the files; {} where there are
    none (yet).

    What stands on the job's side of shared storage is not trusted: an entry that is not as it
    should be counts as none.
    """
    try:
        index = _in(layout.PREVIEW_INDEX)
        with bridge.storage.open_beneath(_folder(bridge, run, task), index) as file:
            listed = json.loads(file.read(INDEX_MAX_BYTES))["files"]
        return {path: found for path, told in listed.items() if (found := _preview(told))}
    except (NotFound, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def preview(bridge: Bridge, run_id: int, path: str, task: int | None = None) -> Preview:
    """That of one file of the results. Raises NotFound."""
    run = desk.find(bridge, run_id)
    found = previews(bridge, run, task).get(path)
    if found is None:
        raise NotFound(f"There is no preview of “{path}”.")
    return found


def piece(bridge: Bridge, run_id: int, name: str, task: int | None = None) -> Opened:
    """A picture or text of a preview by its name, opened. Raises NotFound."""
    run = desk.find(bridge, run_id)
    if not PIECE.fullmatch(name):
        raise NotFound("There is no such piece of a preview.")
    return bridge.storage.open_beneath(_folder(bridge, run, task), _in(name))


def text(bridge: Bridge, run_id: int, found: Preview, task: int | None = None) -> str:
    """The text of a preview, "" where it has none."""
    if not found.text:
        return ""
    with piece(bridge, run_id, found.text, task) as file:
        return file.read(TEXT_MAX_BYTES).decode("utf-8", "replace")


def _folder(bridge: Bridge, run: Run, task: int | None) -> PurePosixPath:
    files = bridge.paths.run(run)
    return files.folder if task is None else files.task(task).folder


def _preview(told: Any) -> Preview | None:
    try:
        found = _PREVIEW.validate_python(told)
    except (ValidationError, RecursionError):
        return None
    named = (*found.plots, *(name for cell in found.cells for name in cell.pictures))
    return found if all(PIECE.fullmatch(name) for name in named) else None


def _in(name: str) -> str:
    return f"{layout.PREVIEWS}/{name}"
