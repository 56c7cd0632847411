"""The environment of a set of requirements: built once, then reused in milliseconds."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from . import bytecode, files, installer, layout, requirements, sandbox, soundness
from .installer import BuildFailed, OnlySource

__all__ = ["BuildFailed", "Environment", "OnlySource", "Wish", "obtain"]

FORMAT = 2  # of what is made here; a new number leaves all older environments alone
STANDARD_CODE = "nias-bridge.pth"
CACHE = "cache"  # what every run finds in ~/.cache
LOCK, USE = ".lock", ".use"  # files beside an environment, by its key
BUILDING = ".building-"
LEFT_SECONDS = 24 * 3600  # after which what is being built is a leftover


@dataclass(frozen=True)
class Wish:
    """What an environment is to be: for these requirements, of this owner's run.

    variables: the environment of the installing step (indexes, proxies, certificates);
    source: whether what exists only as source may be built, for this owner alone; alone: every
    environment is this owner's alone, because jobs run as their owners' accounts.
    """

    requirements: tuple[str, ...]
    owner: str
    variables: Mapping[str, str]
    source: bool = True
    alone: bool = False


@dataclass(frozen=True)
class Environment:
    """A virtual environment that is ready to run.

    key names it; built: made just now (False: reused); seconds: what obtaining it took; packages:
    how many are installed in it; hold: the descriptor of a lock that says "in use" on every node,
    until `release` or the end of this process, however that comes.
    """

    key: str
    folder: Path
    built: bool
    seconds: float
    packages: int
    hold: int

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def lock(self) -> str:
        """What is installed in it, with hashes, as pip reads it."""
        return (self.folder / layout.LOCK).read_text(encoding="utf-8")

    def release(self) -> None:
        """It is no longer in use here."""
        os.close(self.hold)


@dataclass(frozen=True)
class _Place:
    """Where environments are: everybody's, or those with what one owner built from source.

    Each has its own caches: what an owner's build writes can reach nobody else.
    """

    environments: Path
    cache: Path
    key: str

    @property
    def folder(self) -> Path:
        return self.environments / self.key

    def beside(self, what: str) -> Path:
        return self.environments / f"{self.key}{what}"


def obtain(root: Path, wish: Wish, say: Callable[[str], None]) -> Environment:
    """The environment of these requirements under `root` (shared storage, as seen from here).

    `say` is told in a sentence what takes long. Raises BuildFailed, and OSError for the disk.
    """
    started = time.monotonic()
    everybodys, own = _places(root, wish)
    found = _in_use(everybodys) or _in_use(own)
    built = found is None
    if found is None:
        everybodys.environments.mkdir(parents=True, exist_ok=True)
        with _building(everybodys.beside(LOCK), say):
            # Another job may have built it while we waited.
            found = _in_use(everybodys) or _in_use(own)
            built = found is None
            if found is None:
                found = _made(root, everybodys, own, wish, say)
    place, record, hold = found
    seconds = time.monotonic() - started
    return Environment(place.key, place.folder, built, seconds, len(record["installed"]), hold)


def obtain_again(root: Path, wish: Wish, lock: str, say: Callable[[str], None]) -> Environment:
    """As `obtain`, but with what `lock` names: the same environment where it is there and still
    holds just that, else one that is built from the lock."""
    started = time.monotonic()
    for place in _places(root, wish):
        found = _in_use(place)
        if found is None:
            continue
        _, record, hold = found
        seconds = time.monotonic() - started
        made = Environment(place.key, place.folder, False, seconds, len(record["installed"]), hold)
        if made.lock == lock:
            return made
        made.release()
    locked = tuple(requirements.parse(lock)[0])
    made = obtain(root, replace(wish, requirements=locked), say)
    if made.lock != lock:
        say("The packages are those of the earlier run; the Python or the system is another now.")
    return made


@contextmanager
def lent(root: Path, wish: Wish) -> Iterator[None]:
    """Within this block our own process can import these packages, if they are built already."""
    found = _in_use(_places(root, wish)[0])
    if found is None:
        yield
        return
    place, _, hold = found
    packages = str(installer.site_packages(place.folder))
    sys.path.append(packages)  # behind the standard library, which none of them can stand in for
    try:
        yield
    finally:
        sys.path.remove(packages)
        os.close(hold)


def place(root: Path, wish: Wish) -> Path:
    """The folder in which such an environment is, or is going to be."""
    return _places(root, wish)[0].environments


def put_aside(folder: Path) -> Path:
    """Take an environment from its place at once; `discard` the folder that is returned."""
    aside = folder.with_name(f"{BUILDING}{folder.name}-{os.urandom(4).hex()}")
    folder.rename(aside)
    return aside


def discard(folder: Path) -> None:
    """Remove a folder of ours and all in it, what is read-only too."""
    for inner, _, _ in os.walk(folder):
        with suppress(OSError):
            os.chmod(inner, 0o700)  # noqa: PTH101  # it is read-only
    shutil.rmtree(folder, ignore_errors=True)


def _places(root: Path, wish: Wish) -> tuple[_Place, _Place]:
    everybodys = (root / layout.ENVIRONMENTS, root / layout.CACHE)
    owners = (
        everybodys[0] / layout.PRIVATE / wish.owner,
        everybodys[1] / layout.PRIVATE / wish.owner,
    )
    wheels = _Place(*(owners if wish.alone else everybodys), _key(wish))
    return wheels, _Place(*owners, _key(wish, wish.owner))


def _key(wish: Wish, owner: str = "") -> str:
    asked = [
        FORMAT,
        list(requirements.normalise(wish.requirements)),
        [sys.implementation.name, sys.version_info[:3], installer.base_python()],
        [sys.platform, os.uname().machine, _libc()],
        sorted(
            (k, v) for k, v in wish.variables.items() if "_INDEX" in k or k.endswith("_FIND_LINKS")
        ),
        owner,
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:24]


def _libc() -> Optional[str]:
    name = "CS_GNU_LIBC_VERSION"
    return os.confstr(name) if name in os.confstr_names else None


_Found = tuple[_Place, dict[str, Any], int]


def _in_use(place: _Place) -> Optional[_Found]:
    """The environment that is there and sound, marked as in use before it was looked at."""
    if not place.folder.is_dir():
        return None
    hold = _hold(place)
    record = soundness.record_of(place.folder)
    if record is None:
        os.close(hold)
        return None
    return place, record, hold


def _hold(place: _Place) -> int:
    # Shared by all who use it; a prune that wants it alone passes on. Its time is the last use.
    hold = os.open(place.beside(USE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    fcntl.flock(hold, fcntl.LOCK_SH)
    with suppress(OSError):
        os.utime(hold)
    return hold


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
    root: Path, everybodys: _Place, own: _Place, wish: Wish, say: Callable[[str], None]
) -> _Found:
    try:
        return _build(root, everybodys, wish, source=False)
    except OnlySource as refused:
        if not wish.source:
            raise
        where = "" if sandbox.works() else " (without a sandbox: bubblewrap does not work here)"
        say(f"{', '.join(refused.packages)}: there is no wheel, only source code. It is built for "
            f"your runs alone{where}.")  # fmt: skip
    return _build(root, own, wish, source=True)


def _build(root: Path, place: _Place, wish: Wish, *, source: bool) -> _Found:
    started = time.monotonic()
    place.environments.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(place.folder):
        put_aside(place.folder)  # it is there but does not work
    for leftover in place.environments.glob(f"{BUILDING}*"):
        # Its builder died; or it was put aside by the gateway, which can't remove what is another
        # account's.
        if leftover.name.startswith(f"{BUILDING}{place.key}-") or _is_old(leftover):
            discard(leftover)
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
        )
        tool, wheels = installer.install(job)
        # code.py has the name of a standard module that pdb, doctest and numpy.testing import.
        # Site processing comes before the program's folder is on sys.path, so that the standard
        # module is the one in memory: nothing then runs the researcher's program a second time.
        files.write_text(job.site / STANDARD_CODE, "import code\n")
        bytecode.provide(job.site, place.cache / "compiled", wheels)
        _list_fonts(job)
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
        }
        files.write_json(job.made / soundness.RECORD, record)
        (job.made / soundness.RECORD).chmod(0o444)
        hold = _hold(place)
        job.made.rename(place.folder)
        place.folder.chmod(0o555 & stat.S_IMODE(place.folder.stat().st_mode))
        soundness.is_whole_again(place.folder)
    finally:
        discard(building)
    return place, record, hold


def _list_fonts(job: installer.Job) -> None:
    # matplotlib looks through all fonts when it finds no list of them in HOME: 0.3 s in every run.
    if (job.site / "matplotlib").is_dir():
        folder = job.made.parent
        command = [str(job.python), "-c", "import matplotlib.font_manager"]
        subprocess.run(
            sandbox.confined(command, job.shared, [folder]),
            env={"MPLCONFIGDIR": str(job.made / CACHE / "matplotlib"), "HOME": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )


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
