"""Compiled modules: each wheel's are made once, and linked into every environment with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import MAGIC_NUMBER
from pathlib import Path

from . import installer

# Modules that no program imports in its ordinary life: compiling them would take as long again.
NOT_COMPILED = r"/(tests?|testing/tests|idle_test)/"
_PYCACHE = "__pycache__"


def provide(site: Path, cache: Path, wheels: Mapping[str, str]) -> None:
    """Compile what is in `site`, taking from the cache what is known there.

    wheels: the SHA-256 of each wheel by its .dist-info's name. The bytecode is not compared with
    its source, as it belongs to a wheel by that hash, and to environments that nobody writes to.
    """
    known = {name: cache / _ours() / sha256 for name, sha256 in wheels.items()}
    lacking = [f.name for f in site.glob("*.dist-info")
               if not (f.name in known and _link(known[f.name], site))]  # fmt: skip
    tops = sorted({top for name in lacking for top in _tops(site / name)})
    if not tops:
        return
    cores = str(len(os.sched_getaffinity(0)))
    # Without `site`, so that no .pth file of a package is obeyed. What does not compile is a
    # template or for another Python: whoever imports it will be told.
    subprocess.run(
        [installer.base_python(), "-I", "-S", "-m", "compileall", "-qq", "-j", cores,
         "--invalidation-mode", "unchecked-hash", "-x", NOT_COMPILED, *tops],
        cwd=site,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip
    for name in lacking:
        if name in known:
            with suppress(OSError):  # a cache is a convenience
                _keep(site, site / name, known[name])


def _ours() -> str:
    return f"{sys.implementation.cache_tag}-{MAGIC_NUMBER.hex()}"


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


def _keep(site: Path, dist_info: Path, kept: Path) -> None:
    beside = kept.with_name(f".{kept.name}.{os.urandom(4).hex()}")
    beside.mkdir(parents=True)
    try:
        for source in _modules(dist_info):
            compiled = (
                source.parent / _PYCACHE / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
            )
            if (site / compiled).is_file():
                (beside / compiled.parent).mkdir(parents=True, exist_ok=True)
                os.link(site / compiled, beside / compiled)
        beside.rename(kept)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _modules(dist_info: Path) -> Iterator[Path]:
    for line in (dist_info / "RECORD").read_text(encoding="utf-8").splitlines():
        path = line.split(",", 1)[0]
        if path.endswith(".py") and not path.startswith(("/", "..")) and '"' not in path:
            yield Path(path)


def _tops(dist_info: Path) -> set[str]:
    return {module.parts[0] for module in _modules(dist_info)}
