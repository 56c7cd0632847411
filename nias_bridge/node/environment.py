"""The environment of a set of requirements: built once, then reused in milliseconds."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from . import files, layout, requirements

FORMAT = 1  # of what is made here; a new number leaves all older environments alone
RECORD = "nias-environment.json"
STANDARD_CODE = "nias-bridge.pth"
CACHE = "cache"  # what every run finds in ~/.cache
_WORDS_KEPT = 40
# Modules that no program imports in its ordinary life: compiling them would take as long again.
_NOT_COMPILED = r"/(tests?|testing/tests|idle_test)/"


class BuildFailed(Exception):
    """The environment can't be built; `details` are the installer's own last words."""

    def __init__(self, message: str, details: str) -> None:
        self.details = details
        super().__init__(message)


@dataclass(frozen=True)
class Environment:
    """A virtual environment that is ready to run.

    key names it; built: made just now (False: reused); seconds: what obtaining it took; packages:
    how many are installed in it.
    """

    key: str
    folder: Path
    built: bool
    seconds: float
    packages: int

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"


def obtain(
    root: Path,
    wanted: Sequence[str],
    variables: Mapping[str, str],
    say: Callable[[str], None],
) -> Environment:
    """The environment of these requirements under `root` (shared storage, as seen from here).

    variables: the environment of the installing step (indexes, proxies, certificates). `say` is
    told in a sentence what takes long. Raises BuildFailed, and OSError for the disk.
    """
    started = time.monotonic()
    normal = requirements.normalise(wanted)
    key = _key(normal, variables)
    environments = root / layout.ENVIRONMENTS
    folder = environments / key
    record = _sound(folder)
    built = False
    if record is None:
        environments.mkdir(parents=True, exist_ok=True)
        with _lock(environments / f"{key}.lock", say):
            record = _sound(folder)  # another job may have built it while we waited
            if record is None:
                _clear_leftovers(environments, key)
                record = _build(root, key, wanted, variables)
                built = True
    with suppress(OSError):
        os.utime(folder / RECORD)  # in use: what is unused for long can be removed
    return Environment(
        key, folder, built, time.monotonic() - started, len(record.get("installed", ()))
    )


@contextmanager
def lent(root: Path, wanted: Sequence[str], variables: Mapping[str, str]) -> Iterator[None]:
    """Within this block our own process can import these packages, if they are built already."""
    folder = root / layout.ENVIRONMENTS / _key(requirements.normalise(wanted), variables)
    if _sound(folder) is None:
        yield
        return
    packages = str(_site_packages(folder))
    sys.path.append(packages)  # behind the standard library, which none of them can stand in for
    try:
        yield
    finally:
        sys.path.remove(packages)


def _key(normal: Sequence[str], variables: Mapping[str, str]) -> str:
    asked = [
        FORMAT,
        list(normal),
        [sys.implementation.name, sys.version_info[:3], _base_python()],
        [sys.platform, os.uname().machine, _libc()],
        sorted((k, v) for k, v in variables.items() if "_INDEX" in k or k.endswith("_FIND_LINKS")),
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:24]


def _libc() -> Optional[str]:
    name = "CS_GNU_LIBC_VERSION"
    return os.confstr(name) if name in os.confstr_names else None


def _base_python() -> str:
    # Where this runs in a virtual environment itself, the Python that it was made from.
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _sound(folder: Path) -> Optional[dict[str, Any]]:
    # Without running anything: a reuse must cost next to nothing.
    if not os.access(folder / "bin" / "python", os.X_OK):
        return None
    record: Optional[dict[str, Any]] = files.read_json(folder / RECORD)
    return record


@contextmanager
def _lock(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    # The kernel releases it when the builder dies; the file stays, or two could hold "it".
    with path.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another job is building this environment; waiting for it.")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _clear_leftovers(environments: Path, key: str) -> None:
    # Of builders that died, and an environment that is there but does not work.
    broken = environments / key
    if os.path.lexists(broken):
        broken.rename(environments / f".building-{key}-{os.urandom(4).hex()}")
    for leftover in environments.glob(f".building-{key}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _build(
    root: Path, key: str, wanted: Sequence[str], variables: Mapping[str, str]
) -> dict[str, Any]:
    started = time.monotonic()
    environments = root / layout.ENVIRONMENTS
    building = environments / f".building-{key}-{os.urandom(4).hex()}"
    building.mkdir()
    try:
        wish = building / "requirements.txt"
        files.write_text(wish, "".join(f"{line}\n" for line in wanted))
        uv = _uv(root)
        made = building / "venv"
        if uv:
            _install_with_uv(uv, root, made, wish, variables)
        else:
            _install_with_pip(made, wish, variables, published=environments / key)
        site = _site_packages(made)
        # code.py has the name of a standard module that pdb, doctest and numpy.testing import.
        # Site processing comes before the program's folder is on sys.path, so that the standard
        # module is the one in memory: nothing then runs the researcher's program a second time.
        files.write_text(site / STANDARD_CODE, "import code\n")
        _compile(made, site)
        _list_fonts(made, site)
        record = {
            "key": key,
            "requirements": list(wanted),
            "python": sys.version.split()[0],
            "installed": _installed(site),
            "built_at": time.time(),
            "seconds": round(time.monotonic() - started, 3),
            "installer": "uv" if uv else "pip",
        }
        files.write_json(made / RECORD, record)
        made.rename(environments / key)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return record


def _uv(root: Path) -> Optional[str]:
    shipped = root / layout.BIN / layout.UV
    return str(shipped) if os.access(shipped, os.X_OK) else shutil.which("uv")


def _install_with_uv(
    uv: str, root: Path, made: Path, wish: Path, variables: Mapping[str, str]
) -> None:
    own = {
        "UV_CACHE_DIR": str(root / layout.UV_CACHE),  # on the same filesystem, for hard links
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "UV_LINK_MODE": "hardlink",  # uv copies where it can't
    }
    _run([uv, "venv", "--quiet", "--relocatable", "--python", _base_python(), str(made)],
         made.parent, {**own, **variables})  # fmt: skip
    if wish.stat().st_size:
        _run([uv, "pip", "install", "--python", str(made / "bin" / "python"), "-r", str(wish)],
             made.parent, {**own, **variables})  # fmt: skip


def _install_with_pip(
    made: Path, wish: Path, variables: Mapping[str, str], published: Path
) -> None:
    _run([_base_python(), "-m", "venv", str(made)], made.parent, variables)
    if wish.stat().st_size:
        command = [str(made / "bin" / "python"), "-m", "pip", "install", "--no-compile"]
        quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_PROGRESS_BAR": "off"}
        _run([*command, "-r", str(wish)], made.parent, {**quiet, **variables})
    # A venv names its own place in its scripts: they must name where it will be.
    for script in (made / "bin").iterdir():
        if script.is_file() and not script.is_symlink():
            content = script.read_bytes()
            script.write_bytes(content.replace(os.fsencode(made), os.fsencode(published)))


def _run(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> None:
    own = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(folder), "TMPDIR": str(folder)}
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**own, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            told, _ = process.communicate()
        except BaseException:  # the job is being stopped: so is all that the installer started
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            raise
    if process.returncode:
        words = told.decode(errors="replace").replace(str(folder) + os.sep, "").splitlines()
        raise BuildFailed(
            "The environment could not be built: the packages of requirements.txt can't be "
            "installed together on this cluster.",
            "\n".join(words[-_WORDS_KEPT:]),
        )


def _site_packages(made: Path) -> Path:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return made / "lib" / version / "site-packages"


def _compile(made: Path, site: Path) -> None:
    # Half the time of a first import is compiling; here it is done once, on all cores.
    cores = str(len(os.sched_getaffinity(0)))
    command = [str(made / "bin" / "python"), "-m", "compileall", "-qq", "-j", cores]
    # What does not compile is a template or for another Python: whoever imports it will be told.
    subprocess.run(
        [*command, "-x", _NOT_COMPILED, "."],
        cwd=site,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )


def _list_fonts(made: Path, site: Path) -> None:
    # matplotlib looks through all fonts when it finds no list of them in HOME: 0.3 s in every run.
    if (site / "matplotlib").is_dir():
        variables = {"MPLCONFIGDIR": str(made / CACHE / "matplotlib"), "HOME": str(made.parent)}
        subprocess.run(
            [str(made / "bin" / "python"), "-c", "import matplotlib.font_manager"],
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )


def _installed(site: Path) -> list[str]:
    names = (folder.name[: -len(".dist-info")] for folder in site.glob("*.dist-info"))
    return sorted("==".join(name.split("-", 1)) for name in names)
