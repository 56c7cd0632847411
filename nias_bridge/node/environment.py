"""The environment of a set of requirements: built once, then reused in milliseconds."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Optional

from . import layout, requirements, sandbox, soundness
from .interpreter import base_python, site_packages

FORMAT = 2  # of what is made here; a new number leaves all older environments alone
CACHE = "cache"  # what every run finds in ~/.cache
LOCK, USE = ".lock", ".use"  # files beside an environment, by its key
BUILDING = ".building-"
LEFT_SECONDS = 24 * 3600  # after which what is being built is a leftover


class BuildFailed(Exception):
    """The environment can't be built; `details` are the installer's own last words."""

    def __init__(self, message: str, details: str) -> None:
        self.details = details
        super().__init__(message)


class OnlySource(BuildFailed):
    """Some packages exist only as source: to install them is to run their code."""

    def __init__(self, packages: Sequence[str], details: str) -> None:
        self.packages = tuple(packages)
        told = ", ".join(self.packages)
        super().__init__(
            f"{told}: there is only source code for this Python, no wheel, and this site does not "
            "build packages from source. Ask for a version that has a wheel, or ask the "
            "administrator.",
            details,
        )


class Wish(NamedTuple):
    """What an environment is to be: for these requirements, of this owner's run.

    variables: the environment of the installing step (indexes, proxies, certificates);
    source: whether what exists only as source may be built, for this owner alone; walls: what
    code of packages is confined by while they are built; alone: every environment is this owner's
    alone, because jobs run as their owners' accounts; home: a folder of the owner's own that has
    them all, of a job by plain sbatch.
    """

    requirements: tuple[str, ...]
    owner: str
    variables: Mapping[str, str]
    source: bool = True
    walls: sandbox.Walls = sandbox.STANDING
    alone: bool = False
    home: Optional[Path] = None


class Place(NamedTuple):
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


class Environment(NamedTuple):
    """A virtual environment that is ready to run.

    built: made just now (False: reused); complete: False as long as `complete` has something to do;
    seconds: what obtaining it took; packages: how many are installed in it; hold: the descriptor of
    a lock that says "in use" on every node, until `release` or the end of this process, however
    that comes.
    """

    place: Place
    built: bool
    complete: bool
    seconds: float
    packages: int
    hold: int

    @property
    def key(self) -> str:
        """Names it."""
        return self.place.key

    @property
    def folder(self) -> Path:
        return self.place.folder

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


def obtain(root: Path, wish: Wish, say: Callable[[str], None]) -> Environment:
    """The environment of these requirements under `root` (shared storage, as seen from here).

    `say` is told in a sentence what takes long. Raises BuildFailed, and OSError for the disk.
    """
    started = time.monotonic()
    everybodys, own = _places(root, wish)
    found, built = in_use(everybodys) or in_use(own), False
    if found is None:
        from . import building  # noqa: PLC0415  # hardly any run builds, and it is much to import

        found, built = building.build_once(root, everybodys, own, wish, say)
    return _environment(found, built, started)


def obtain_again(root: Path, wish: Wish, lock: str, say: Callable[[str], None]) -> Environment:
    """As `obtain`, but with what `lock` names: the same environment where it is there and still
    holds just that, else one that is built from the lock."""
    started = time.monotonic()
    for place in _places(root, wish):
        found = in_use(place)
        if found is None:
            continue
        made = _environment(found, False, started)
        if made.lock == lock:
            return made
        made.release()
    locked = tuple(requirements.parse(lock)[0])
    made = obtain(root, wish._replace(requirements=locked), say)
    if made.lock != lock:
        say("The packages are those of the earlier run; the Python or the system is another now.")
    return made


def there(root: Path, wish: Wish) -> Optional[Environment]:
    """The environment of these requirements that everybody has, None where nobody built it yet."""
    started = time.monotonic()
    found = in_use(_places(root, wish)[0])
    return found and _environment(found, False, started)


@contextmanager
def lent(root: Path, wish: Wish) -> Iterator[None]:
    """Within this block our own process can import these packages, if they are built already."""
    found = there(root, wish)
    if found is None:
        yield
        return
    packages = str(site_packages(found.folder))
    sys.path.append(packages)  # behind the standard library, which none of them can stand in for
    try:
        yield
    finally:
        sys.path.remove(packages)
        found.release()


def place(root: Path, wish: Wish) -> Path:
    """The folder in which such an environment is, or is going to be."""
    return _places(root, wish)[0].environments


def put_aside(folder: Path) -> Path:
    """Take an environment from its place at once; discard the folder that is returned."""
    aside = folder.with_name(f"{BUILDING}{folder.name}-{os.urandom(4).hex()}")
    folder.rename(aside)
    return aside


def _places(root: Path, wish: Wish) -> tuple[Place, Place]:
    if wish.home:
        here, cache = wish.home / layout.ENVIRONMENTS, wish.home / layout.CACHE
        return Place(here, cache, _key(wish)), Place(here, cache, _key(wish, wish.owner))
    everybodys = (root / layout.ENVIRONMENTS, root / layout.CACHE)
    owners = (
        everybodys[0] / layout.PRIVATE / wish.owner,
        everybodys[1] / layout.PRIVATE / wish.owner,
    )
    wheels = Place(*(owners if wish.alone else everybodys), _key(wish))
    return wheels, Place(*owners, _key(wish, wish.owner))


def _key(wish: Wish, owner: str = "") -> str:
    asked = [
        FORMAT,
        list(requirements.normalise(wish.requirements)),
        [sys.implementation.name, sys.version_info[:3], base_python()],
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


Found = tuple[Place, dict[str, Any], int]  # where, its record, and what holds it


def _environment(found: Found, built: bool, started: float) -> Environment:
    place, record, held = found
    return Environment(
        place=place,
        built=built,
        complete=soundness.LATER not in record,
        seconds=time.monotonic() - started,
        packages=len(record["installed"]),
        hold=held,
    )


def in_use(place: Place) -> Optional[Found]:
    """The environment that is there and sound, marked as in use before it was looked at."""
    if not place.folder.is_dir():
        return None
    held = hold(place)
    record = soundness.record_of(place.folder)
    if record is None:
        os.close(held)
        return None
    return place, record, held


def hold(place: Place) -> int:
    """A lock that says "in use" until its descriptor is closed; its time is the last use."""
    # Shared by all who use it; a prune that wants it alone passes on.
    held = os.open(place.beside(USE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    fcntl.flock(held, fcntl.LOCK_SH)
    with suppress(OSError):
        os.utime(held)
    return held
