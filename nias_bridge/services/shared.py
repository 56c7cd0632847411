"""The gateway's dealings with shared storage: what nodes need there, and safe reading."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from uv import find_uv_bin

from nias_bridge.errors import NotFound
from nias_bridge.node import layout, ship
from nias_bridge.services.bridge import Bridge

LISTING_MAX = 2000


def install(bridge: Bridge) -> None:
    """Put the node program, uv and the site's settings for nodes on shared storage.

    Each is replaced by rename, and only where it changed: running jobs are not disturbed.
    """
    root = bridge.paths.root
    for folder in (layout.BIN, layout.ENVIRONMENTS, layout.CACHE, layout.UPLOADS, layout.RUNS):
        (root / folder).mkdir(parents=True, exist_ok=True)
    ship.build(root / layout.BIN)
    _copy_if_new(Path(find_uv_bin()), root / layout.BIN / layout.UV)
    settings = bridge.settings
    site = {
        "version": version("nias-bridge"),
        "python": settings.python,
        "build_variables": dict(settings.build_variables),
        "previews": settings.previews,
        "source_builds": settings.source_builds,
        "run_variables": dict(settings.run_variables),
        "sandbox": settings.sandbox,
        "sandbox_readonly": [str(folder) for folder in settings.sandbox_readonly],
        "job_network": settings.job_network,
        "limits": {
            "unpacked_bytes": settings.unpacked_max_bytes,
            "files": settings.unpacked_max_files,
            "ratio": settings.unpacked_max_ratio,
        },
    }
    write(root / layout.BIN / layout.SITE, json.dumps(site, indent=1))


def write(file: Path, text: str) -> None:
    """Publish a small text file by rename, readable by its owner and group."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.chmod(0o640)
    beside.replace(file)


def listing(root: Path, inside: Path) -> Iterator[tuple[str, int]]:
    """Path and size of the plain files below the folder `inside` of `root`, folder by folder.

    At most LISTING_MAX entries are looked at; none where links lead to that folder.
    """
    top = root / inside
    try:
        if top.resolve() != root.resolve() / inside:
            return
    except RuntimeError:  # links in a circle
        return
    left, folders = LISTING_MAX, [top]
    while folders and left > 0:
        folder = folders.pop()
        below = []
        for path in _first_entries(folder, left):
            left -= 1
            try:
                info = path.lstat()
            except OSError:
                continue  # it is a live folder: what was there a moment ago can be gone
            if stat.S_ISDIR(info.st_mode):
                below.append(path)
            elif stat.S_ISREG(info.st_mode):
                yield path.relative_to(top).as_posix(), info.st_size
        folders.extend(reversed(below))


def _first_entries(folder: Path, most: int) -> list[Path]:
    # Not all of a million, nor those whose names are no text.
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, most)]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if name.isprintable()]


def is_plain(file: Path) -> bool:
    """Whether there is a file of this name that is neither a link nor anything special."""
    try:
        return stat.S_ISREG(file.lstat().st_mode)
    except OSError:
        return False


def open_beneath(root: Path, path: str) -> BinaryIO:
    """A plain file below `root`, opened step by step so that no link leads out. Raises NotFound.

    A link within `root` is followed by its name; one put in place of a folder meanwhile is not.
    """
    try:
        inside = (root / path).resolve(strict=True).relative_to(root.resolve(strict=True))
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in inside.parts[:-1]:
                deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = deeper
            file = os.open(
                inside.parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder
            )
        finally:
            os.close(folder)
    except (OSError, RuntimeError, ValueError, IndexError):  # RuntimeError: links in a circle
        raise NotFound(f"There is no file “{path}”.") from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise NotFound(f"“{path}” is not a plain file.")
    return os.fdopen(file, "rb")


def _copy_if_new(source: Path, target: Path) -> None:
    if target.exists() and target.stat().st_size == source.stat().st_size:
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, beside)
    beside.chmod(0o755)
    beside.replace(target)
