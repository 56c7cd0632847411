"""Uploads that are not runs yet: where each lies, and what was found in it until it is one."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

from nias_bridge.domain import Caution
from nias_bridge.errors import NotFound
from nias_bridge.services import estimates
from nias_bridge.services.bridge import Bridge

HELD_SECONDS = 24 * 3600
TOLD_MAX_BYTES = 4 * 1024 * 1024
GONE = "This upload is no longer here. Choose the zip again."
_PART, _FOUND = ".part", ".json"
_ID = re.compile(r"[A-Za-z0-9_-]{22}")  # as token_urlsafe(16) makes them


@dataclass(frozen=True)
class Held:
    """An upload that is whole: its file, the name it was sent under, what its code was found to
    lack."""

    part: PurePosixPath
    filename: str
    cautions: tuple[Caution, ...]


def new_part(bridge: Bridge) -> PurePosixPath:
    """A new name for what a body is to be streamed into."""
    return bridge.paths.uploads / f"{secrets.token_urlsafe(16)}{_PART}"


def part_of(bridge: Bridge, upload_id: str) -> PurePosixPath:
    """Where the upload of this id lies. Raises NotFound for what is no id."""
    if not _ID.fullmatch(upload_id):
        raise NotFound(GONE)
    return bridge.paths.uploads / f"{upload_id}{_PART}"


def keep(bridge: Bridge, part: PurePosixPath, filename: str, cautions: Sequence[Caution]) -> None:
    """Hold an upload for the caller until she has seen what is in it."""
    told = {
        "owner": bridge.person.handle,
        "filename": filename,
        "cautions": [asdict(each) for each in cautions],
    }
    bridge.storage.write(part.with_suffix(_FOUND), json.dumps(told))


def find(bridge: Bridge, upload_id: str) -> Held:
    """A held upload of the caller's. Raises NotFound, for another's too."""
    part = part_of(bridge, upload_id)
    if not bridge.storage.is_plain(part):
        raise NotFound(GONE)
    (found,) = bridge.storage.contents([part.with_suffix(_FOUND)], TOLD_MAX_BYTES)
    if found is None:
        raise NotFound("This upload is not complete. Choose the zip again.")
    told = json.loads(found)
    if told.get("owner") != bridge.person.handle:
        raise NotFound(GONE)
    return Held(part, told["filename"], tuple(Caution(**each) for each in told["cautions"]))


def forget(bridge: Bridge, upload_id: str) -> None:
    """It is held no longer; its file is the caller's to see to."""
    bridge.storage.remove(part_of(bridge, upload_id).with_suffix(_FOUND))
    estimates.forget(bridge, upload_id)


def drop(bridge: Bridge, upload_id: str) -> None:
    """Remove a held upload. Raises NotFound."""
    found = find(bridge, upload_id)
    forget(bridge, upload_id)
    bridge.storage.remove(found.part)


def sweep(bridge: Bridge) -> None:
    """Remove uploads that nobody confirmed, or that broke off, within a day."""
    uploads, before = bridge.paths.uploads, time.time() - HELD_SECONDS
    waiting = {f"{version.upload}{_PART}" for version in bridge.store.datasets.waiting()}
    there = bridge.storage.entries(uploads).items()
    old = (uploads / name for name, info in there if info.modified < before and not info.folder)
    bridge.storage.remove(*(file for file in old if file.name not in waiting))
