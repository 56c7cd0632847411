"""An upload that arrives in pieces: what is here stays, whatever breaks off, until it is whole."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from nias_bridge.errors import BadUpload, NoSpace, NotFound, NotPossible, OverQuota
from nias_bridge.services import held, intake, quotas
from nias_bridge.services.bridge import Bridge

ALGORITHMS = ("sha1", "sha256", "sha512", "md5")
UNFINISHED_MOST = 20  # of one person
NAME_MOST = 255
_ANNOUNCED = ".coming"
_ASIDE = ".piece"
_TOLD_MAX_BYTES = 64 * 1024
_TOUCH_SECONDS = 60.0  # between two signs that an upload is still coming, each good for a day
_GONE = "This upload is no longer here. Begin it anew."
PROJECT, DATASET = "project", "dataset"  # what an upload is to be
Part = bytes | memoryview  # of a piece, good until the next one is asked for


class WrongOffset(NotPossible):
    """A piece does not begin where the upload ends; `offset` is where that is, in bytes."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        super().__init__(f"{offset:,} bytes are here: go on from there.")


class Damaged(BadUpload):
    """A piece is not what its checksum says; nothing of it was kept."""


@dataclass(frozen=True, kw_only=True)
class Arriving:
    """An upload as it was announced (size) and as far as it is here (offset), in bytes.

    metadata: the sender's own words, given back as they came; kind: PROJECT or DATASET.
    """

    id: str
    filename: str
    metadata: str
    size: int
    offset: int
    expires_at: datetime
    kind: str = PROJECT


@dataclass(frozen=True)
class Checksum:
    """What a piece is to be; the algorithm is one of ALGORITHMS."""

    algorithm: str
    digest: bytes


def most_of(bridge: Bridge, kind: str) -> int:
    """The largest upload of this kind that is taken of the caller, in bytes."""
    if kind == DATASET:
        return bridge.settings.dataset_max_bytes
    return quotas.largest_upload(bridge)


def begin(
    bridge: Bridge, size: int, filename: str, metadata: str = "", kind: str = PROJECT
) -> Arriving:
    """Make place for an upload of so many bytes. Raises BadUpload, OverQuota, NoSpace."""
    quotas.check_upload(bridge, size, most_of(bridge, kind))
    if len(filename) > NAME_MOST:
        raise BadUpload(f"The file's name is longer than {NAME_MOST} characters.")
    waiting = _unfinished(bridge)
    if waiting >= UNFINISHED_MOST:
        raise OverQuota(
            f"{waiting} of your uploads are unfinished. Finish or end one of them first; "
            "what is left alone goes within a day."
        )
    if size > bridge.storage.space(bridge.paths.uploads).free:
        raise NoSpace("The shared storage has no room for this. Please tell the administrator.")
    part = held.new_part(bridge)
    bridge.storage.create(part)
    owner = bridge.person.handle
    told = {"owner": owner, "filename": filename, "metadata": metadata, "size": size}
    told["kind"] = kind
    bridge.storage.write(_announced(part), json.dumps(told))
    return find(bridge, part.stem)


def find(bridge: Bridge, upload_id: str) -> Arriving:
    """An upload that was begun and not yet held. Raises NotFound, for another's too."""
    part = held.part_of(bridge, upload_id)
    announced = _announced(part)
    (told,) = map(_told, bridge.storage.contents([announced], _TOLD_MAX_BYTES))
    here, touched = bridge.storage.infos([part, announced])
    if here is None or touched is None or told.pop("owner", None) != bridge.person.handle:
        raise NotFound(_GONE)
    expires_at = datetime.fromtimestamp(touched.modified + held.HELD_SECONDS, UTC)
    return Arriving(id=upload_id, offset=here.size, expires_at=expires_at, **told)


def known(bridge: Bridge, upload_id: str) -> Arriving | None:
    """As `find`, None where there is no such upload."""
    try:
        return find(bridge, upload_id)
    except NotFound:
        return None


def append(bridge: Bridge, upload_id: str, offset: int, body: Iterable[Part]) -> Arriving:
    """Keep what comes, from this offset on, each part of it as soon as it is here.

    Whoever writes holds the file's lock for one part only: a sender whose connection hangs keeps
    nobody from going on in another, and finds out then that the upload has moved on. There is no
    fsync: after a power cut the sender is told how far the file goes. Raises NotFound, WrongOffset,
    BadUpload past the announced size.
    """
    coming, part = find(bridge, upload_id), held.part_of(bridge, upload_id)
    with _still_here():
        _expect(*bridge.storage.append(part, offset, b""))
    due = time.monotonic()
    for piece in body:
        _refuse_more(coming, offset + len(piece))
        with _still_here():
            _expect(*bridge.storage.append(part, offset, piece))
        offset += len(piece)
        if time.monotonic() >= due:
            bridge.storage.touch(_announced(part))
            due = time.monotonic() + _TOUCH_SECONDS
    return find(bridge, upload_id)


def append_checked(
    bridge: Bridge,
    upload_id: str,
    offset: int,
    body: Iterable[Part],
    *,
    checksum: Checksum,
) -> Arriving:
    """As `append`, but nothing is kept before all of it is here and has this checksum.

    Raises Damaged too.
    """
    coming, part = find(bridge, upload_id), held.part_of(bridge, upload_id)
    if offset != coming.offset:
        raise WrongOffset(coming.offset)
    hashed = hashlib.new(checksum.algorithm, usedforsecurity=False)
    aside = part.with_name(f".{upload_id}.{secrets.token_hex(4)}{_ASIDE}")
    bridge.storage.create(aside)
    try:
        size = 0
        for piece in body:
            _refuse_more(coming, offset + size + len(piece))
            hashed.update(piece)
            size, _ = bridge.storage.append(aside, size, piece)
        if hashed.digest() != checksum.digest:
            raise Damaged("This piece is not what its checksum says. Send it again.")
        with _still_here():
            _expect(*bridge.storage.join(part, offset, aside))
    finally:
        bridge.storage.remove(aside)
    bridge.storage.touch(_announced(part))
    return find(bridge, upload_id)


def end(bridge: Bridge, upload_id: str) -> None:
    """Forget an upload, finished or not. Raises NotFound."""
    find(bridge, upload_id)
    part = held.part_of(bridge, upload_id)
    with _still_here():
        bridge.storage.end(part, _announced(part))


def finish(bridge: Bridge, upload_id: str) -> None:
    """Judge an upload that is whole and hold it; one that is held already stays as it is.

    Raises NotFound, NotPossible where it is not whole, BadUpload (it is gone then).
    """
    try:
        coming = find(bridge, upload_id)
    except NotFound:
        held.find(bridge, upload_id)
        return
    if coming.kind != PROJECT:
        raise NotPossible("This was sent as a dataset; it can't be run.")
    _check_whole(coming)
    part = held.part_of(bridge, upload_id)
    try:
        intake.keep(bridge, part, coming.filename)
    except BadUpload:
        end(bridge, upload_id)
        raise
    taken(bridge, upload_id)


def whole(bridge: Bridge, upload_id: str) -> Arriving:
    """An upload that was sent as a dataset and is all here. Raises NotFound, NotPossible."""
    coming = find(bridge, upload_id)
    if coming.kind != DATASET:
        raise NotPossible("This was sent as a project, not as a dataset: begin it anew.")
    _check_whole(coming)
    return coming


def taken(bridge: Bridge, upload_id: str) -> None:
    """An upload has become something else: nobody goes on with it, or ends it."""
    bridge.storage.remove(_announced(held.part_of(bridge, upload_id)))


def _check_whole(coming: Arriving) -> None:
    if coming.offset != coming.size:
        raise NotPossible(
            f"The upload is not complete: {coming.offset:,} of {coming.size:,} bytes are here."
        )


def _announced(part: PurePosixPath) -> PurePosixPath:
    return part.with_suffix(_ANNOUNCED)


def _unfinished(bridge: Bridge) -> int:
    """How many uploads of the caller's are unfinished, whose time is not up."""
    uploads, since = bridge.paths.uploads, time.time() - held.HELD_SECONDS
    there = bridge.storage.entries(uploads, _ANNOUNCED).items()
    fresh = [uploads / name for name, info in there if info.modified >= since]
    told = map(_told, bridge.storage.contents(fresh, _TOLD_MAX_BYTES))
    return sum(one.get("owner") == bridge.person.handle for one in told)


def _told(announced: bytes | None) -> dict[str, Any]:
    """What was announced; {} where it has just gone."""
    return json.loads(announced) if announced else {}


@contextmanager
def _still_here() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:  # it was ended meanwhile, or its time was up
        raise NotFound(_GONE) from None


def _expect(size: int, added: bool) -> None:
    if not added:
        raise WrongOffset(size)


def _refuse_more(coming: Arriving, size: int) -> None:
    if size > coming.size:
        raise BadUpload(f"More came than the {coming.size:,} bytes that were announced.")
