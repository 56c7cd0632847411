"""Compiled modules: each wheel's are made once, and linked into every environment with it.

Compiling takes longer than all else of a build. So a build links what is known already and notes
what lacks; that is compiled when the run that waited for the environment has its results.

The bytecode is not compared with its source when it is imported. It belongs to a wheel by that
one's SHA-256, to environments that nobody writes to, and it is made of sources that are what the
wheel's RECORD says, as it was before any program ran.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import marshal
import os
import re
import shutil
import signal
import stat
import struct
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from .soundness import NOT_COMPILED

_PYCACHE = "__pycache__"
_NICER = 10  # than programs, whose cores these may be
_UNCHECKED = 1  # in the head of a .pyc: it is told by a hash of its source, which nobody compares


class Lacking(NamedTuple):
    """A package whose modules are not compiled: its .dist-info's name, the SHA-256 of the RECORD in
    it, and of the wheel that it is from ("" for what was built from source)."""

    dist_info: str
    record: str
    wheel: str


class _Module(NamedTuple):
    path: Path  # in site-packages
    sha256: str  # as a RECORD writes it

    @property
    def compiled(self) -> Path:
        name = f"{self.path.stem}.{sys.implementation.cache_tag}.pyc"
        return self.path.parent / _PYCACHE / name


def provide(site: Path, cache: Path, wheels: Mapping[str, str]) -> list[Lacking]:
    """Link what the cache knows into `site`; returns what lacks, for `complete`.

    wheels: the SHA-256 of each wheel by its .dist-info's name. The folders of what lacks are made,
    so that from here on nothing changes but what is in them.
    """
    lacking = []
    for dist_info in sorted(site.glob("*.dist-info")):
        wheel = wheels.get(dist_info.name, "")
        if wheel and _link(cache / _ours() / wheel, site):
            continue
        with suppress(FileNotFoundError):  # without a RECORD nobody knows which modules are its own
            record = (dist_info / "RECORD").read_bytes()
            for folder in {module.compiled.parent for module in _modules(record)}:
                with suppress(OSError):
                    (site / folder).mkdir(exist_ok=True)
            lacking.append(Lacking(dist_info.name, hashlib.sha256(record).hexdigest(), wheel))
    return lacking


def complete(site: Path, cache: Path, lacking: Sequence[Lacking]) -> int:
    """Compile what lacked, keep it for other environments, and link it into `site`.

    Returns how many bytes it is. What does not compile is a template or for another Python:
    whoever imports it will be told. Raises OSError.
    """
    making = cache / _ours() / f".{os.urandom(8).hex()}"
    making.mkdir(parents=True)
    try:
        work = []
        for each in lacking:
            record = (site / each.dist_info / "RECORD").read_bytes()
            if hashlib.sha256(record).hexdigest() == each.record:
                (making / each.dist_info).mkdir()
                work += [(making / each.dist_info, module) for module in _modules(record)]
        if not _on_all_cores(work, lambda one: _compile(site, *one)):
            return 0  # what is half made is not used
        return sum(_publish(making / each.dist_info, site, cache, each.wheel) for each in lacking)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _ours() -> str:
    return f"{sys.implementation.cache_tag}-{importlib.util.MAGIC_NUMBER.hex()}"


def _link(kept: Path, site: Path) -> bool:
    """Put a wheel's compiled modules in their places; False when they are not all there."""
    if not kept.is_dir():
        return False
    try:
        for folder, _, names in os.walk(kept):
            if names:
                place = site / Path(folder).relative_to(kept)
                place.mkdir(exist_ok=True)
                for name in names:
                    os.link(Path(folder, name), place / name)
    except OSError:  # another environment's prune, a filesystem without links
        return False
    return True


def _modules(record: bytes) -> Iterator[_Module]:
    """The modules that programs import, by a RECORD's lines."""
    for line in record.decode("utf-8", "replace").splitlines():
        path, _, rest = line.partition(",")
        kind, _, sha256 = rest.partition(",")[0].partition("=")
        if (
            path.endswith(".py")
            and kind == "sha256"
            and not path.startswith(("/", "..", '"'))
            and not re.search(NOT_COMPILED, f"/{path}")
        ):
            yield _Module(Path(path), sha256)


def _compile(site: Path, kept: Path, module: _Module) -> None:
    source = (site / module.path).read_bytes()
    if base64.urlsafe_b64encode(hashlib.sha256(source).digest()).decode().rstrip("=") != (
        module.sha256
    ):
        return
    code = compile(source, str(module.path), "exec", dont_inherit=True, optimize=0)
    target = kept / module.compiled
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(
        importlib.util.MAGIC_NUMBER
        + struct.pack("<L", _UNCHECKED)
        + importlib.util.source_hash(source)
        + marshal.dumps(code)
    )
    target.chmod(0o444)


_One = tuple[Path, _Module]


def _on_all_cores(work: Sequence[_One], do: Callable[[_One], None]) -> bool:
    """Do it to each, in as many processes as there are cores; False when one of them died."""
    cores = len(os.sched_getaffinity(0))
    children: list[int] = []
    try:
        for number in range(cores):
            child = os.fork()
            if child == 0:
                _do_share(work[number::cores], do)
            children.append(child)
        ended = [os.waitpid(child, 0)[1] for child in children]
        children.clear()
    finally:
        for child in children:  # the job is being stopped
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(child, 0)
    return not any(ended)


def _do_share(share: Sequence[_One], do: Callable[[_One], None]) -> NoReturn:
    # In the child. Nothing of the parent's may run on in here: every way out is os._exit.
    try:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.nice(_NICER)
        warnings.simplefilter("ignore")
        for one in share:
            with suppress(Exception):
                do(one)
        os._exit(0)
    except BaseException:
        os._exit(1)


def _publish(made: Path, site: Path, cache: Path, wheel: str) -> int:
    size = 0
    for folder, _, names in os.walk(made):
        place = site / Path(folder).relative_to(made)
        if not names or not place.is_dir():
            continue
        mode = stat.S_IMODE(place.stat().st_mode)
        place.chmod(mode | stat.S_IWUSR)
        try:
            for name in names:
                size += _put(Path(folder, name), place / name)
        finally:
            place.chmod(mode)
    if wheel:
        with suppress(OSError):  # another job kept it in the meantime; a cache is a convenience
            made.rename(cache / _ours() / wheel)
    return size


def _put(source: Path, place: Path) -> int:
    # By rename: a program may be importing it, and as root Python has left one of its own there.
    beside = place.with_name(f".{place.name}.{os.urandom(4).hex()}")
    try:
        os.link(source, beside)
    except OSError:  # a filesystem without links
        shutil.copy(source, beside)
    beside.replace(place)
    return place.stat().st_size
