"""The environments on shared storage, told by their records: which there are, which may go."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from nias_bridge.domain import Filter
from nias_bridge.node import environment, layout, soundness
from nias_bridge.reach import Info
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.evidence import JSON_MAX_BYTES, parsed, read_evidence

log = logging.getLogger(__name__)

RUNS_LOOKED_AT = 100


@dataclass(frozen=True, kw_only=True)
class KeptEnvironment:
    """One environment: size in bytes (what others share with it counted too), owner "" for one that
    everybody's runs use; broken: a run found that files are missing."""

    key: str
    folder: PurePosixPath
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
    found = [one for owner, place in _places(bridge).items() for one in _kept(bridge, place, owner)]
    return sorted(found, key=lambda one: one.used_at)


def seen_by_caller(bridge: Bridge) -> list[KeptEnvironment]:
    """The environments that the caller's latest runs got; an administrator sees all."""
    if bridge.who.administers:
        return kept(bridge)
    mine = Filter(owners=frozenset({bridge.person.handle}), per_page=RUNS_LOOKED_AT)
    used = (
        read_evidence(bridge.storage, bridge.paths.run(run)).environment
        for run in bridge.store.runs(mine).runs
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
    before = time.time() - environment.LEFT_SECONDS
    for place in _places(bridge).values():
        for name, info in _entries(bridge, place).items():
            if name.startswith(environment.BUILDING) and info.modified < before:
                bridge.storage.discard(place / name)
    there = kept(bridge)
    if bridge.settings.identity == "service":
        return _down_to(bridge, size, there)
    owners = dict.fromkeys(one.owner for one in there)
    return [
        gone
        for owner in owners
        for gone in _down_to(bridge, size, [one for one in there if one.owner == owner])
    ]


def _down_to(bridge: Bridge, size: int, there: list[KeptEnvironment]) -> list[KeptEnvironment]:
    left = sum(one.size for one in there)
    removed = []
    for one in there:
        if left <= size:
            break
        lock = one.folder.with_name(f"{one.key}{environment.USE}")
        if bridge.storage.retire(one.folder, lock, environment.BUILDING):
            left -= one.size
            removed.append(one)
            log.info("Environment %s removed; last used %s.", one.key, one.used_at.date())
    return removed


def _places(bridge: Bridge) -> dict[str, PurePosixPath]:
    root = bridge.paths.environments
    private = root / layout.PRIVATE
    owners = _entries(bridge, private).items()
    return {"": root, **{name: private / name for name, info in owners if info.folder}}


def _entries(bridge: Bridge, place: PurePosixPath) -> dict[str, Info]:
    try:
        return bridge.storage.entries(place)
    except PermissionError:
        return {}


def _kept(bridge: Bridge, place: PurePosixPath, owner: str) -> list[KeptEnvironment]:
    """The environments of one place, by their records."""
    there = _entries(bridge, place)
    names = [n for n, info in there.items() if info.folder and n[0] != "." and n != layout.PRIVATE]
    records = bridge.storage.contents(
        [place / name / soundness.RECORD for name in names], JSON_MAX_BYTES
    )
    in_use = bridge.storage.held([place / f"{name}{environment.USE}" for name in names])
    found = []
    for name, record, held in zip(names, map(parsed, records), in_use, strict=True):
        used = there.get(f"{name}{environment.USE}")
        try:
            found.append(
                _told(
                    record,
                    key=name,
                    folder=place / name,
                    owner=owner,
                    used_at=used.modified if used else record["built_at"],
                    in_use=held,
                    broken=f"{name}{soundness.BROKEN}" in there,
                )
            )
        except (KeyError, TypeError, ValueError, OSError):
            continue  # it may be an account's own, who can write there what she likes
    return found


def _told(record: Mapping[str, Any], *, used_at: float, **known: Any) -> KeptEnvironment:
    return KeptEnvironment(
        requirements=tuple(map(str, record["requirements"])),
        python=str(record["python"]),
        size=int(record.get("bytes", 0)),
        built_at=datetime.fromtimestamp(record["built_at"], UTC),
        used_at=datetime.fromtimestamp(used_at, UTC),
        **known,
    )
