"""The gateway's dealings with shared storage: what nodes need there, and safe reading."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from uv import find_uv_bin

from nias_bridge.errors import NotFound
from nias_bridge.node import layout, ship
from nias_bridge.script import render_for_login_nodes
from nias_bridge.services.bridge import Bridge

LISTING_MAX = 2000
_REPLACED = " (deleted)"  # as the kernel writes behind the path of a file that was renamed over
_SECRET_NAME = re.compile(r"(?i)pass|secret|token|credential|(?:^|_)key")
_SECRET_VALUE = re.compile(r"://[^/\s]*@")


def install(bridge: Bridge) -> None:
    """Put the node program, uv and the site's settings for nodes on shared storage.

    Each is replaced by rename, and only where it changed: running jobs are not disturbed.
    """
    root = bridge.paths.root
    for folder in (layout.BIN, layout.ENVIRONMENTS, layout.CACHE, layout.UPLOADS, layout.RUNS):
        (root / folder).mkdir(parents=True, exist_ok=True)
    bridge.paths.dataset_contents.mkdir(parents=True, exist_ok=True)
    _change_mode(root / layout.DATASETS, lambda mode: mode & ~0o007)
    if bridge.settings.identity == "unix":
        _open_to_passers(root)
    ship.build(root / layout.BIN)
    _copy_if_new(Path(find_uv_bin()), root / layout.BIN / layout.UV)
    settings = bridge.settings
    site: dict[str, Any] = {
        "version": version("nias-bridge"),
        "python": settings.python,
        "build_variables": dict(settings.build_variables),
        "previews": settings.previews,
        "source_builds": settings.source_builds,
        "identity": settings.identity,
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
    if settings.identity == "unix":
        (root / layout.BIN / layout.SITE).chmod(0o644)
    if settings.login_nodes:
        for_all = {**site, "pythons": dict(settings.pythons)}
        for kind in ("build_variables", "run_variables"):
            for_all[kind] = {k: v for k, v in site[kind].items() if not _is_secret(k, v)}
        write(root / layout.BIN / layout.SITE_FOR_ALL, json.dumps(for_all, indent=1), 0o644)
        script = render_for_login_nodes(bridge.paths, settings)
        write(root / layout.BIN / layout.LOGIN_SCRIPT, script, 0o644)
        if settings.identity == "service":
            _close_to_passers(root)
        _open_to_login_nodes(root)


def _is_secret(name: str, value: str) -> bool:
    """Whether a variable may hold what not every account is to know."""
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))


def _open_to_login_nodes(root: Path) -> None:
    """Let every account read bin/ and make a folder in sbatch/.

    There the setgid bit gives all that is made to the gateway's group, which may read it; the
    sticky bit keeps accounts from each other's, and nobody can list what there is.
    """
    _change_mode(root / layout.BIN, lambda mode: mode | 0o055)
    sbatch = root / layout.SBATCH
    sbatch.mkdir(exist_ok=True)
    os.chown(sbatch, -1, os.getegid())
    _change_mode(sbatch, lambda _: 0o3733)
    _change_mode(root, lambda mode: mode | 0o011)


def _close_to_passers(root: Path) -> None:
    """Let no account but the bridge's, as which jobs run, come to what is theirs."""
    for closed in (layout.ENVIRONMENTS, layout.CACHE, layout.UPLOADS, layout.RUNS):
        _change_mode(root / closed, lambda mode: mode & ~0o007)


def _change_mode(folder: Path, change: Callable[[int], int]) -> None:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if change(mode) != mode:
        folder.chmod(change(mode))


def write(file: Path, text: str, mode: int = 0o640) -> None:
    """Publish a small text file by rename, readable by its owner and group alone or by `mode`."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.chmod(mode)
    beside.replace(file)


def open_plain(file: Path) -> BinaryIO:
    """The plain file of just this path: no part of it, from shared storage on, may be a link.

    What is below a run's folder its job may have put there: to follow a link of the job's would be
    to read for its owner what is another's. Raises OSError.
    """
    opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    really = os.readlink(f"/proc/self/fd/{opened}")  # noqa: PTH115  # it may be no text
    plain = stat.S_ISREG(os.fstat(opened).st_mode)
    if not plain or really not in (str(file), f"{file}{_REPLACED}"):
        os.close(opened)
        raise OSError(errno.ELOOP, "it is not a plain file, or a link leads to it", str(file))
    return os.fdopen(opened, "rb")


def take(source: Path, target: Path) -> None:
    """Have a plain file, where it is there, a second time: as a link if it is ours, else a copy."""
    try:
        opened = open_plain(source)
    except OSError:
        return
    with opened:
        if os.fstat(opened.fileno()).st_uid == os.geteuid():
            os.link(source, target)
        else:
            with target.open("wb") as copy:
                shutil.copyfileobj(opened, copy)


def listing(root: Path, inside: Path) -> Iterator[tuple[str, int]]:
    """Path and size of the plain files below the folder `inside` of `root`, folder by folder.

    At most LISTING_MAX entries are looked at; none where links lead to that folder.
    """
    top = root / inside
    try:
        if top.resolve() != top:
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
    """A plain file below `root`, to which no link from outside leads. Raises NotFound.

    A link within `root` is followed by its name; one put in place of a folder meanwhile is not,
    nor is `root` where it is one.
    """
    try:
        inside = (root / path).resolve(strict=True).relative_to(root)
        return open_plain(root / inside)
    except (OSError, RuntimeError, ValueError):  # RuntimeError: links in a circle
        raise NotFound(f"There is no plain file “{path}”.") from None


def _open_to_passers(root: Path) -> None:
    """Let the accounts that jobs run as come through to what is theirs, and see nothing on the way.

    What was written before for the bridge's own jobs is closed to them.
    """
    for folder in (layout.ENVIRONMENTS, layout.CACHE):
        (root / folder / layout.PRIVATE).mkdir(exist_ok=True)
        (root / folder / layout.PRIVATE).chmod(0o711)
    for folder in (".", layout.ENVIRONMENTS, layout.CACHE, layout.RUNS):
        (root / folder).chmod(0o711)
    (root / layout.BIN).chmod(0o755)
    (root / layout.UPLOADS).chmod(0o700)
    for owners in (root / layout.RUNS).iterdir():
        mode = stat.S_IMODE(owners.stat().st_mode)
        if mode & 0o007:
            owners.chmod(mode & ~0o007)


def _copy_if_new(source: Path, target: Path) -> None:
    if target.exists() and target.stat().st_size == source.stat().st_size:
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, beside)
    beside.chmod(0o755)
    beside.replace(target)
