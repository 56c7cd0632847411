"""The environments on shared storage, told by their records: which there are, which may go."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nias_bridge.domain import Filter
from nias_bridge.node import environment, layout, soundness
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.evidence import read_evidence, read_json

log = logging.getLogger(__name__)

RUNS_LOOKED_AT = 100


@dataclass(frozen=True, kw_only=True)
class KeptEnvironment:
    """One environment: size in bytes (what others share with it counted too), owner "" for one that
    everybody's runs use; broken: a run found that files are missing."""

    key: str
    folder: Path
    owner: str
    requirements: tuple[str, ...]
    python: str
    size: int
    built_at: datetime
    used_at: datetime
    in_use: bool
    broken: bool


def kept(bridge: Bridge) -> list[KeptEnvironment]:
    """All environments, the least recently used first."""
    found = [
        one
        for owner, place in _places(bridge).items()
        for folder in _folders(place)
        if (one := _told(folder, owner))
    ]
    return sorted(found, key=lambda one: one.used_at)


def seen_by_caller(bridge: Bridge) -> list[KeptEnvironment]:
    """The environments that the caller's latest runs got; an administrator sees all."""
    if bridge.who.administers:
        return kept(bridge)
    mine = Filter(owners=frozenset({bridge.person.handle}), per_page=RUNS_LOOKED_AT)
    used = (
        read_evidence(bridge.paths.run(run)).environment for run in bridge.store.runs(mine).runs
    )
    keys = {use.key for use in used if use}
    own = ("", bridge.person.handle)
    return [one for one in kept(bridge) if one.key in keys and one.owner in own]


def prune(bridge: Bridge, size: int) -> list[KeptEnvironment]:
    """Remove the least recently used until all have no more than `size` bytes; returns them.

    One that a job uses, on whichever node, stays. What dead builders left goes after a day. Where
    environments are their owners' accounts', `size` is what each owner may have, and the files go
    when her next job builds one.
    """
    for place in _places(bridge).values():
        for leftover in place.glob(f"{environment.BUILDING}*"):
            if leftover.lstat().st_mtime < time.time() - environment.LEFT_SECONDS:
                _discard(leftover)
    there = kept(bridge)
    if bridge.settings.identity == "service":
        return _down_to(size, there)
    owners = dict.fromkeys(one.owner for one in there)
    return [
        gone
        for owner in owners
        for gone in _down_to(size, [one for one in there if one.owner == owner])
    ]


def _down_to(size: int, there: list[KeptEnvironment]) -> list[KeptEnvironment]:
    left = sum(one.size for one in there)
    removed = []
    for one in there:
        if left <= size:
            break
        if _remove(one):
            left -= one.size
            removed.append(one)
            log.info("Environment %s removed; last used %s.", one.key, one.used_at.date())
    return removed


def _places(bridge: Bridge) -> dict[str, Path]:
    root = bridge.paths.environments
    return {"": root, **{folder.name: folder for folder in _folders(root / layout.PRIVATE)}}


def _folders(place: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError, PermissionError):
        for folder in place.iterdir():
            if (
                folder.is_dir()
                and not folder.name.startswith(".")
                and folder.name != layout.PRIVATE
            ):
                yield folder


def _told(folder: Path, owner: str) -> KeptEnvironment | None:
    record = read_json(folder / soundness.RECORD)
    if folder.name.startswith(".") or not record:
        return None
    try:
        return _read(folder, owner, record)
    except (KeyError, TypeError, ValueError, OSError):
        return None  # it may be an account's own, who can write there what she likes


def _read(folder: Path, owner: str, record: Mapping[str, Any]) -> KeptEnvironment:
    use = folder.with_name(f"{folder.name}{environment.USE}")
    with _alone(use) as free:
        used_at = use.stat().st_mtime if use.exists() else record["built_at"]
    return KeptEnvironment(
        key=folder.name,
        folder=folder,
        owner=owner,
        requirements=tuple(map(str, record["requirements"])),
        python=str(record["python"]),
        size=int(record.get("bytes", 0)),
        built_at=datetime.fromtimestamp(record["built_at"], UTC),
        used_at=datetime.fromtimestamp(used_at, UTC),
        in_use=not free,
        broken=folder.with_name(f"{folder.name}{soundness.BROKEN}").exists(),
    )


def _remove(one: KeptEnvironment) -> bool:
    use = one.folder.with_name(f"{one.key}{environment.USE}")
    with _alone(use) as free:
        if not free:
            return False
        # Gone from its place within this lock: a job that comes now waits, and then builds it.
        try:
            doomed = environment.put_aside(one.folder)
        except PermissionError:
            return False
    _discard(doomed)
    return True


def _discard(folder: Path) -> None:
    # Another account's it could swap for a link meanwhile; nor could we remove it.
    if folder.lstat().st_uid == os.geteuid():
        environment.discard(folder)


@contextmanager
def _alone(use: Path) -> Iterator[bool]:
    """Within this block nobody begins to use the environment; False: somebody does already."""
    try:
        held = os.open(use, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        yield True
        return
    except OSError:
        yield False
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by somebody; or a storage without locks, where nobody can tell
        os.close(held)
        yield False
        return
    try:
        yield True
    finally:
        os.close(held)
