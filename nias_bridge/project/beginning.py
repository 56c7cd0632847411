"""A folder or a notebook becomes a project: code.py, requirements.txt and output/."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nias_bridge.errors import BadUpload
from nias_bridge.naming import project_name
from nias_bridge.node import archive, imports, layout, modules, needs, projectfile, requirements
from nias_bridge.project import notebook, packing

NOTEBOOK = ".ipynb"
# Asked of any Python from 3.10 on: for each module the packages that bring it, with versions.
_INSTALLED = """
import importlib.metadata as known, json
found = known.packages_distributions()
print(json.dumps({name: {d: known.version(d) for d in dists} for name, dists in found.items()}))
"""
_Installed = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Begun:
    """What was made: paths within the project's folder, and the lines of requirements.txt.

    unknown: modules that the code imports and that come with no package known here.
    """

    folder: Path
    made: tuple[str, ...]
    requirements: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class _Program:
    """What is run: the file, new ones to write (name -> text), packages that its cells install."""

    main: str
    new: Mapping[str, str]
    asked: tuple[str, ...] = ()


def begin(source: Path, python: str = "") -> Begun:
    """Make a project of a folder, in it, or of a notebook, in a folder beside it.

    python: the one whose packages tell the versions; that of the active environment where none is
    named. Nothing is written over. Raises BadUpload for what can't become a project.
    """
    source = source.expanduser().resolve()
    if source.is_dir():
        folder, program = source, _of_folder(source)
    elif source.is_file() and source.suffix == NOTEBOOK:
        folder = source.with_suffix("")
        if (folder / archive.CODE).exists():
            raise BadUpload(f"{folder / archive.CODE} is there already; nothing was changed.")
        program = _of_notebook(source)
    else:
        raise BadUpload(f"{source} is neither a folder nor a notebook (*{NOTEBOOK}).")
    try:
        project_name(folder.name)
    except ValueError as error:
        raise BadUpload(f"The project's name “{folder.name}” {error}. Rename it.") from None
    new = dict(program.new)
    lines: list[str] = []
    unknown: list[str] = []
    if not any((folder / name).exists() for name in needs.FILES):
        texts = {**_modules(folder), **new}
        imported = imports.read({n: t for n, t in texts.items() if n.endswith(".py")}, program.main)
        lines, unknown = _needed(imported, program.asked, _installed(python or active_python()))
        new[needs.REQUIREMENTS] = "".join(f"{line}\n" for line in lines)
    folder.mkdir(exist_ok=True)
    for name, text in new.items():
        with (folder / name).open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    made = [*new]
    if not (folder / layout.OUTPUT).exists():
        (folder / layout.OUTPUT).mkdir()
        made.append(f"{layout.OUTPUT}/")
    return Begun(folder, tuple(made), tuple(lines), tuple(unknown))


def active_python() -> str:
    """The Python of the environment that is active in this shell, else the one that runs this."""
    program = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    for variable, place in (("VIRTUAL_ENV", program), ("CONDA_PREFIX", program[-1:])):
        if prefix := os.environ.get(variable):
            for where in (place, program):
                if (found := Path(prefix, *where)).is_file():
                    return str(found)
    return sys.executable


def _of_folder(folder: Path) -> _Program:
    if (folder / archive.CODE).is_file() or (folder / projectfile.FILE).is_file():
        return _Program(_main(folder), {})
    books, programs = sorted(folder.glob(f"*{NOTEBOOK}")), sorted(folder.glob("*.py"))
    if len(books) == 1 and not programs:
        return _of_notebook(books[0])
    if len(programs) == 1:
        # Left under its name, so that it still runs here as it did.
        name = programs[0].name
        return _Program(name, {projectfile.FILE: f"[job]\nmain = {json.dumps(name)}\n"})
    there = ", ".join(file.name for file in (*books, *programs)) or "no notebook and no program"
    raise BadUpload(
        f"{folder} has {there}: which is to be run is not clear. Name a notebook, or call the "
        f"program {archive.CODE}."
    )


def _of_notebook(file: Path) -> _Program:
    script = notebook.script(file.read_bytes(), file.name)
    return _Program(archive.CODE, {archive.CODE: script.text}, script.installed)


def _main(folder: Path) -> str:
    file = folder / projectfile.FILE
    if not file.is_file():
        return archive.CODE
    try:
        text = file.read_text(encoding="utf-8-sig", errors="replace")
        return projectfile.read(text, lambda path: _content(folder / path)).job.main
    except projectfile.ProjectFileError as error:
        raise BadUpload(str(error)) from None


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _modules(folder: Path) -> dict[str, str]:
    if not folder.exists():
        return {}
    return {
        file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8-sig", errors="replace")
        for file in packing.files(folder)
        if file.suffix == ".py"
    }


def _installed(python: str) -> _Installed:
    try:
        told = subprocess.run(
            [python, "-c", _INSTALLED], capture_output=True, check=True, timeout=60
        ).stdout
        return dict(json.loads(told))
    except (OSError, subprocess.SubprocessError, ValueError):
        raise BadUpload(
            f"{python} does not tell which packages it has; name a Python from 3.10 on."
        ) from None


def _needed(
    program: imports.Program, asked: tuple[str, ...], installed: _Installed
) -> tuple[list[str], list[str]]:
    # The lines of a requirements.txt, and the modules for which there is none.
    lines, unknown = dict.fromkeys(asked), []
    named = {modules.key(line) for line in asked}
    for each in imports.missing(program, (), sys.version_info[:2]):
        line = _line(each, installed)
        if not line:
            unknown.append(each.module)
        elif modules.key(line) not in named:
            named.add(modules.key(line))
            lines[line] = None
    # One computer's own builds (“+cu121”) are not to be had on the cluster.
    mended = requirements.mend("\n".join(lines))
    return [line for line in mended.split("\n") if line], unknown


def _line(each: imports.Missing, installed: _Installed) -> str:
    brought = installed.get(each.module.partition(".")[0], {})
    for name, version in brought.items():
        if len(brought) == 1 or modules.key(name) == modules.key(each.package):
            return f"{name}=={version}"
    return each.package
