"""A project's folder becomes the zip that is uploaded."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from nias_bridge.domain import Scalar
from nias_bridge.errors import BadUpload
from nias_bridge.node import archive, layout, projectfile, toml

# What programs leave beside a project: it is made anew where it is needed.
LEFT_OUT = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", "__pycache__", ".ipynb_checkpoints", "node_modules",
     ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".nox", ".idea", ".vscode",
     ".DS_Store", "Thumbs.db"}
)  # fmt: skip
_ENVIRONMENT = "pyvenv.cfg"  # the mark of a virtual environment, whatever it is called
_LEVEL = 1  # signals compress little more at the others, and several times slower

Sweep = Mapping[str, Sequence[Scalar]]


@contextmanager
def packed(project: str | Path, sweep: Sweep | None = None) -> Iterator[Path]:
    """The zip of a project: itself where it is one, else of the folder, for as long as it is used.

    sweep: values by parameter, of which each combination is a task; it becomes the project's
    [sweep]. Raises BadUpload.
    """
    path = Path(project).expanduser().resolve()
    if path.is_file():
        if sweep is not None:
            raise BadUpload(f"{project} is a zip: a sweep can be given for a folder only.")
        yield path
    elif path.is_dir():
        with TemporaryDirectory(prefix="nias-") as beside:
            made = Path(beside) / f"{path.name or 'project'}.zip"
            _pack(path, made, sweep)
            yield made
    else:
        raise BadUpload(f"There is no folder or zip “{project}”.")


def _pack(folder: Path, target: Path, sweep: Sweep | None) -> None:
    if not any((folder / name).is_file() for name in (archive.CODE, archive.PROJECT_FILE)):
        raise BadUpload(
            f"{folder} has no {archive.CODE}. Name the project's folder, or make one of it with "
            "“nias init”."
        )
    added = {} if sweep is None else {projectfile.FILE: _swept(folder, sweep)}
    with zipfile.ZipFile(
        target, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL, strict_timestamps=False
    ) as made:
        # One of an earlier run, here, would come back as a result of the next.
        made.writestr(f"{folder.name}/{layout.OUTPUT}/", "")
        for file in files(folder):
            path = file.relative_to(folder).as_posix()
            if path not in added:
                made.write(file, f"{folder.name}/{path}")
        for path, text in added.items():
            made.writestr(f"{folder.name}/{path}", text)


def files(folder: Path) -> Iterator[Path]:
    """The files of a project that are sent: neither earlier output nor what tools left there."""
    for within, folders, names in os.walk(folder, onerror=_unreadable):
        here = Path(within)
        folders[:] = sorted(each for each in folders if _wanted(here / each))
        if here == folder and layout.OUTPUT in folders:
            folders.remove(layout.OUTPUT)
        for name in sorted(names):
            if name not in LEFT_OUT and not name.endswith(".pyc"):
                yield here / name


def _wanted(folder: Path) -> bool:
    if folder.name in LEFT_OUT or (folder / _ENVIRONMENT).is_file():
        return False
    if folder.is_symlink():
        raise BadUpload(
            f"{folder} is a link to a folder. Put the folder itself there, or leave the link out."
        )
    return True


def _unreadable(error: OSError) -> None:
    raise BadUpload(f"{error.filename} can't be read: {error.strerror}.") from None


def _swept(folder: Path, sweep: Sweep) -> str:
    file = folder / projectfile.FILE
    text = file.read_text(encoding="utf-8-sig") if file.is_file() else ""
    try:
        said = toml.loads(text)
    except toml.TomlError as error:
        raise BadUpload(f"{projectfile.FILE} {error}.") from None
    if "sweep" in said:
        raise BadUpload(f"{projectfile.FILE} has a [sweep] already; take it out, or give none.")
    # JSON writes texts, numbers and truths as TOML does.
    grid = ", ".join(f"{_json(name)} = {_json(list(values))}" for name, values in sweep.items())
    return f"{text}\n[sweep]\ngrid = {{ {grid} }}\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    # numpy's numbers, as numpy.arange gives them.
    item = getattr(value, "item", None)
    if item is None:
        raise BadUpload(f"{value!r} can't be a value of a sweep; use texts, numbers and truths.")
    return item()
