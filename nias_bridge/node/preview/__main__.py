"""Make the previews of a folder: the files in it, the most telling first, each in a child."""

from __future__ import annotations

import importlib
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from nias_bridge.node import files, layout

from . import ALL_SECONDS_MAX, FILES_MAX, guard
from .kinds import KINDS, Kind, kind_of
from .record import Desk, NoPreview, Preview

INDEX = layout.PREVIEW_INDEX
_SEEN_MAX = 20_000  # files among which the most telling are chosen
_ALWAYS = ("kind", "summary", "plots", "error")
_WRITE_EVERY = 2.0  # seconds: what is killed on the way leaves what it had


class _Found(NamedTuple):
    path: str
    kind: Kind
    size: int


def make(output: Path, previews: Path, seconds: float = ALL_SECONDS_MAX) -> dict[str, Any]:
    """Look into the files of `output`; writes index.json into `previews` and returns it.

    seconds: after which no further file is begun.
    """
    until = time.monotonic() + seconds
    guard.no_new_privileges()
    previews.mkdir(exist_ok=True)
    found = sorted(_found(output), key=lambda f: (KINDS.index(f.kind), -f.size, f.path))
    index: dict[str, Any] = {"files": {}, "left_out": len(found)}
    written = time.monotonic()
    for number, file in enumerate(found[:FILES_MAX], 1):
        if time.monotonic() > until:
            break
        desk = Desk(previews, number, file.kind.name)
        index["files"][file.path] = _entry(output, file, desk, until - time.monotonic())
        index["left_out"] -= 1
        if time.monotonic() - written > _WRITE_EVERY:
            files.write_json(previews / INDEX, index)
            written = time.monotonic()
    files.write_json(previews / INDEX, index)
    return index


def _found(output: Path) -> Iterator[_Found]:
    seen = 0
    for folder, _, names, descriptor in os.fwalk(output, follow_symlinks=False):
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), output)  # noqa: PTH118
            try:
                path.encode()
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except (OSError, UnicodeEncodeError):
                continue
            if stat.S_ISREG(status.st_mode):
                seen += 1
                yield _Found(path, kind_of(path), status.st_size)
            if seen >= _SEEN_MAX:
                return


def _entry(output: Path, found: _Found, desk: Desk, seconds: float) -> dict[str, Any]:
    preview = Preview(found.kind.name, [{"size": found.size}])
    if found.kind.module is not None:
        try:
            # Here, not in the child: an import is paid for once.
            reader = importlib.import_module(f"{__package__}.{found.kind.module}")
            with _opened(output, found.path) as file:
                size = os.fstat(file.fileno()).st_size
                answer: dict[str, Any] = guard.guarded(
                    lambda: _compact(_looked_into(reader, file, desk)), seconds, size
                )
                return answer
        except guard.Failed as failed:
            preview = Preview("other", [{"size": found.size}], error=str(failed))
        except OSError as error:
            preview = Preview("other", [{"size": found.size}], error=error.strerror or str(error))
        except ImportError as error:
            why = f"no tool to look into it is installed here ({error.name})"
            preview = Preview("other", [{"size": found.size}], error=why)
        desk.clear()
    return _compact(preview)


def _looked_into(reader: Any, file: BinaryIO, desk: Desk) -> Preview:
    # In the child. What a library says is passed on, less its names for a file that it was handed.
    try:
        preview: Preview = reader.preview(file, desk)
    except (NoPreview, MemoryError):
        raise
    except Exception as error:
        said = str(error) or type(error).__name__
        for name in (repr(file), f"/proc/self/fd/{file.fileno()}"):
            said = said.replace(name, "it")
        raise NoPreview(f"it can't be read as {desk.kind}: {said}") from None
    return preview


def _compact(preview: Preview) -> dict[str, Any]:
    return {k: v for k, v in asdict(preview).items() if v or k in _ALWAYS}


def _opened(output: Path, path: str) -> BinaryIO:
    # Folder by folder, so that none of them can be swapped for a link on the way.
    descriptor = os.open(output, files.FOLDER)
    *folders, name = path.split("/")
    for part, how in [*((folder, files.FOLDER) for folder in folders), (name, files.FILE)]:
        try:
            inner = os.open(part, how, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError("it is not a plain file any more")
    return file


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status."""
    if len(arguments) not in (2, 3):
        print("usage: python -m nias_bridge.node.preview OUTPUT_DIR PREVIEWS_DIR [SECONDS]",
              file=sys.stderr)  # fmt: skip
        return 2
    # One thread for each library, before any is imported: children are forked from here on.
    os.environ.update(
        OPENBLAS_NUM_THREADS="1",
        OMP_NUM_THREADS="1",
        ARROW_DEFAULT_MEMORY_POOL="system",
        HDF5_USE_FILE_LOCKING="FALSE",
        HDF5_PLUGIN_PRELOAD="::",  # no filter is loaded from anywhere
    )
    make(Path(arguments[0]), Path(arguments[1]), *map(float, arguments[2:]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
