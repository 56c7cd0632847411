"""Build an environment under a lock, publish it whole, and complete it once nobody waits for it."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from . import bytecode, files, installer, sandbox, soundness
from .environment import (
    BUILDING,
    CACHE,
    LEFT_SECONDS,
    LOCK,
    Environment,
    Found,
    OnlySource,
    Place,
    Wish,
    hold,
    in_use,
    put_aside,
)
from .interpreter import site_packages

# code.py has the name of a standard module that pdb, doctest and numpy.testing import. Whoever
# imports that gets the standard one, so that nothing runs the researcher's program a second time.
# Imported at once it would be there as well, but take every start of Python 6 ms.
STANDARD_CODE = "nias-bridge.pth"
_STANDARD_CODE = (
    "import os, sys; from importlib.machinery import PathFinder; sys.meta_path.insert(0, type("
    "'StandardCode', (), {'find_spec': lambda name, path=None, target=None, "
    "find=PathFinder.find_spec, where=[os.path.dirname(os.__file__)]: "
    "find(name, where) if name == 'code' else None}))\n"
)
_FONTS = "matplotlib"  # the package, and what its list of fonts is called in CACHE


def build_once(
    root: Path, everybodys: Place, own: Place, wish: Wish, say: Callable[[str], None]
) -> tuple[Found, bool]:
    """The environment, and whether it was built here: another job may have been faster.

    Raises BuildFailed, OSError.
    """
    everybodys.environments.mkdir(parents=True, exist_ok=True)
    with _building(everybodys.beside(LOCK), say):
        found = in_use(everybodys) or in_use(own)
        if found is not None:
            return found, False
        return _made(root, everybodys, own, wish, say), True


def complete(root: Path, made: Environment, walls: sandbox.Walls = sandbox.STANDING) -> None:
    """Make what its build left for later: compiled modules, and matplotlib's list of fonts.

    walls: between which code of packages is run for it.

    Nothing is done where that is there, or where another job does it right now. Raises OSError.
    """
    with (made.place.environments / f"{made.key}{LOCK}").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        record = files.read_json(made.folder / soundness.RECORD) or {}
        later = record.pop(soundness.LATER, None)
        if later is None:
            return
        lacking = [bytecode.Lacking(*each) for each in later]
        site = site_packages(made.folder)
        record["bytes"] += bytecode.complete(site, made.place.cache / "compiled", lacking)
        with _writable(made.folder):
            _list_fonts(root, made, walls)
            _write_record(made.folder, record)


@contextmanager
def _building(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    # The kernel releases it when the builder dies; the file stays, or two could hold "it".
    with path.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another job is building this environment; waiting for it.")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _is_old(folder: Path) -> bool:
    with suppress(OSError):
        return folder.stat().st_mtime < time.time() - LEFT_SECONDS
    return False


def _made(
    root: Path, everybodys: Place, own: Place, wish: Wish, say: Callable[[str], None]
) -> Found:
    try:
        return _build(root, everybodys, wish, source=False)
    except OnlySource as refused:
        if not wish.source:
            raise
        say(f"{', '.join(refused.packages)}: there is no wheel, only source code. It is built for "
            "your runs alone.")  # fmt: skip
    return _build(root, own, wish, source=True)


def _build(root: Path, place: Place, wish: Wish, *, source: bool) -> Found:
    started = time.monotonic()
    place.environments.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(place.folder):
        put_aside(place.folder)  # it is there but does not work
    for leftover in place.environments.glob(f"{BUILDING}*"):
        # Its builder died; or it was put aside by the gateway, which can't remove what is another
        # account's.
        if leftover.name.startswith(f"{BUILDING}{place.key}-") or _is_old(leftover):
            files.discard(leftover)
    building = place.environments / f"{BUILDING}{place.key}-{os.urandom(4).hex()}"
    building.mkdir()
    try:
        job = installer.Job(
            made=building / "venv",
            published=place.folder,
            wanted=wish.requirements,
            variables=wish.variables,
            shared=root,
            cache=place.cache / "uv",
            source=source,
            walls=wish.walls,
        )
        tool, wheels = installer.install(job)
        files.write_text(job.site / STANDARD_CODE, _STANDARD_CODE)
        lacking = bytecode.provide(job.site, place.cache / "compiled", wheels)
        record = {
            "key": place.key,
            "requirements": list(wish.requirements),
            "python": sys.version.split()[0],
            "installed": _installed(job.site),
            "built_at": time.time(),
            "seconds": round(time.monotonic() - started, 3),
            "bytes": _seal(job.made),
            "installer": tool,
            "folders": soundness.watched(job.made),
            **_for_later(job.site, lacking),
        }
        _write_record(job.made, record)
        held = hold(place)
        job.made.rename(place.folder)
        place.folder.chmod(0o555 & stat.S_IMODE(place.folder.stat().st_mode))
        soundness.is_whole_again(place.folder)
    finally:
        files.discard(building)
    return place, record, held


def _for_later(site: Path, lacking: Sequence[bytecode.Lacking]) -> dict[str, Any]:
    return {soundness.LATER: lacking} if lacking or (site / _FONTS).is_dir() else {}


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    files.write_json(folder / soundness.RECORD, record)
    (folder / soundness.RECORD).chmod(0o444)


def _list_fonts(root: Path, made: Environment, walls: sandbox.Walls) -> None:
    # matplotlib looks through all fonts when it finds no list of them in HOME: 0.3 s in every run.
    if not (site_packages(made.folder) / _FONTS).is_dir():
        return
    aside = made.place.environments / f"{BUILDING}{made.key}-{os.urandom(4).hex()}"
    listed = aside / CACHE / _FONTS
    listed.mkdir(parents=True)
    try:
        command = [str(made.python), "-c", "import matplotlib.font_manager"]
        inside = walls.around(
            hidden=[root], readable=[made.folder], writable=[aside], network=False
        )
        subprocess.run(
            sandbox.confined(command, inside),
            env={"MPLCONFIGDIR": str(listed), "HOME": str(aside)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        _seal(aside / CACHE)
        with suppress(OSError):  # an earlier one that was broken off here
            (aside / CACHE).rename(made.folder / CACHE)
            (made.folder / CACHE).chmod(0o555)
    finally:
        files.discard(aside)


def _installed(site: Path) -> list[str]:
    names = (folder.name[: -len(".dist-info")] for folder in site.glob("*.dist-info"))
    return sorted("==".join(name.split("-", 1)) for name in names)


def _seal(made: Path) -> int:
    """Take the right to write from all that is below; returns how many bytes it is."""
    size = 0
    for folder, _, names in os.walk(made, topdown=False):
        for name in names:
            path = f"{folder}/{name}"
            info = os.lstat(path)
            size += info.st_size
            if stat.S_ISREG(info.st_mode) and info.st_mode & 0o222:
                os.chmod(path, stat.S_IMODE(info.st_mode) & ~0o222)  # noqa: PTH101
        if folder != str(made):  # this one is still to be renamed
            os.chmod(folder, stat.S_IMODE(os.stat(folder).st_mode) & ~0o222)  # noqa: PTH101, PTH116
    return size


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    mode = stat.S_IMODE(folder.stat().st_mode)
    folder.chmod(mode | stat.S_IWUSR)
    try:
        yield
    finally:
        folder.chmod(mode)
