"""An upload that arrives in pieces: what is here stays, whatever breaks off, until it is whole."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from nias_bridge.errors import BadUpload, NoSpace, NotFound, NotPossible, OverQuota
from nias_bridge.services import intake, quotas, shared
from nias_bridge.services.bridge import Bridge

ALGORITHMS = ("sha1", "sha256", "sha512", "md5")
UNFINISHED_MOST = 20  # of one person
NAME_MOST = 255
_ANNOUNCED = ".coming"
_READ_BYTES = 1024 * 1024
_GONE = "This upload is no longer here. Begin it anew."
Part = bytes | memoryview  # of a piece, good until the next one is asked for


PROJECT, DATASET = "project", "dataset"  # what an upload is to be


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
    if not size:
        raise BadUpload("The file is empty. Choose another one.")
    most = most_of(bridge, kind)
    if size > most:
        raise BadUpload(f"The file has {size:,} bytes; at most {most:,} are taken.")
    if len(filename) > NAME_MOST:
        raise BadUpload(f"The file's name is longer than {NAME_MOST} characters.")
    owner = bridge.person.handle
    waiting = [part for part in bridge.paths.uploads.glob(f"*{_ANNOUNCED}") if _of(part) == owner]
    if len(waiting) >= UNFINISHED_MOST:
        raise OverQuota(
            f"{len(waiting)} of your uploads are unfinished. Finish or end one of them first; "
            "what is left alone goes within a day."
        )
    if size > shutil.disk_usage(bridge.paths.uploads).free:
        raise NoSpace("The shared storage has no room for this. Please tell the administrator.")
    part = intake.new_part(bridge)
    part.touch(exist_ok=False)
    told = {"owner": owner, "filename": filename, "metadata": metadata, "size": size}
    told["kind"] = kind
    shared.write(_announced(part), json.dumps(told))
    return find(bridge, part.stem)


def find(bridge: Bridge, upload_id: str) -> Arriving:
    """An upload that was begun and not yet held. Raises NotFound, for another's too."""
    part = bridge.paths.upload(upload_id)
    if not intake.UPLOAD_ID.fullmatch(upload_id):
        raise NotFound(_GONE)
    try:
        told = json.loads(_announced(part).read_text(encoding="utf-8"))
        offset = part.stat().st_size
        touched = _announced(part).stat().st_mtime
    except FileNotFoundError:
        raise NotFound(_GONE) from None
    if told.pop("owner") != bridge.person.handle:
        raise NotFound(_GONE)
    expires_at = datetime.fromtimestamp(touched + intake.HELD_SECONDS, UTC)
    return Arriving(id=upload_id, offset=offset, expires_at=expires_at, **told)


def known(bridge: Bridge, upload_id: str) -> Arriving | None:
    """As `find`, None where there is no such upload."""
    try:
        return find(bridge, upload_id)
    except NotFound:
        return None


def append(bridge: Bridge, upload_id: str, offset: int, body: Iterable[Part]) -> Arriving:
    """Keep what comes, from this offset on, each part of it as soon as it is here.

    Whoever writes holds the lock for one part only: a sender whose connection hangs keeps nobody
    from going on in another, and finds out then that the upload has moved on. There is no fsync:
    after a power cut the sender is told how far the file goes. Raises NotFound, WrongOffset,
    BadUpload past the announced size.
    """
    coming = find(bridge, upload_id)
    with _opened(bridge, upload_id) as file:
        with _alone(file):
            _expect(file, offset)
        for part in body:
            if offset + len(part) > coming.size:
                raise BadUpload(f"More came than the {coming.size:,} bytes that were announced.")
            with _alone(file):
                _expect(file, offset)
                _write(file, part)
                with suppress(FileNotFoundError):  # its time was up
                    os.utime(_announced(Path(file.name)))
            offset += len(part)
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
    coming = find(bridge, upload_id)
    if offset != coming.offset:
        raise WrongOffset(coming.offset)
    hashed = hashlib.new(checksum.algorithm, usedforsecurity=False)
    with tempfile.TemporaryFile(dir=bridge.paths.uploads) as aside:
        for part in body:
            hashed.update(part)
            aside.write(part)
            if offset + aside.tell() > coming.size:
                raise BadUpload(f"More came than the {coming.size:,} bytes that were announced.")
        if hashed.digest() != checksum.digest:
            raise Damaged("This piece is not what its checksum says. Send it again.")
        aside.seek(0)
        return append(bridge, upload_id, offset, iter(partial(aside.read, _READ_BYTES), b""))


def end(bridge: Bridge, upload_id: str) -> None:
    """Forget an upload, finished or not. Raises NotFound."""
    find(bridge, upload_id)
    with _opened(bridge, upload_id) as file, _alone(file):
        part = Path(file.name)
        part.unlink(missing_ok=True)
        _announced(part).unlink(missing_ok=True)


def finish(bridge: Bridge, upload_id: str) -> None:
    """Judge an upload that is whole and hold it; one that is held already stays as it is.

    Raises NotFound, NotPossible where it is not whole, BadUpload (it is gone then).
    """
    try:
        coming = find(bridge, upload_id)
    except NotFound:
        intake.check_held(bridge, upload_id)
        return
    if coming.kind != PROJECT:
        raise NotPossible("This was sent as a dataset; it can't be run.")
    _check_whole(coming)
    part = bridge.paths.upload(upload_id)
    try:
        intake.keep(bridge, part, coming.filename)
    except BadUpload:
        end(bridge, upload_id)
        raise
    _announced(part).unlink(missing_ok=True)


def whole(bridge: Bridge, upload_id: str) -> Arriving:
    """An upload that was sent as a dataset and is all here. Raises NotFound, NotPossible."""
    coming = find(bridge, upload_id)
    if coming.kind != DATASET:
        raise NotPossible("This was sent as a project, not as a dataset: begin it anew.")
    _check_whole(coming)
    return coming


def taken(bridge: Bridge, upload_id: str) -> None:
    """An upload has become something else: nobody goes on with it, or ends it."""
    _announced(bridge.paths.upload(upload_id)).unlink(missing_ok=True)


def _check_whole(coming: Arriving) -> None:
    if coming.offset != coming.size:
        raise NotPossible(
            f"The upload is not complete: {coming.offset:,} of {coming.size:,} bytes are here."
        )


def _announced(part: Path) -> Path:
    return part.with_suffix(_ANNOUNCED)


def _of(announced: Path) -> str | None:
    """Whose unfinished upload this is; None where it has just gone, or its time is up."""
    try:
        if announced.stat().st_mtime < time.time() - intake.HELD_SECONDS:
            return None
        return str(json.loads(announced.read_text(encoding="utf-8"))["owner"])
    except FileNotFoundError:
        return None


@contextmanager
def _opened(bridge: Bridge, upload_id: str) -> Iterator[BinaryIO]:
    try:
        file = bridge.paths.upload(upload_id).open("r+b", buffering=0)
    except FileNotFoundError:
        raise NotFound(_GONE) from None
    with file:
        yield file


@contextmanager
def _alone(file: BinaryIO) -> Iterator[None]:
    """Nobody else, in this process or another, changes the upload meanwhile."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        if not os.fstat(file.fileno()).st_nlink:
            raise NotFound(_GONE)
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _expect(file: BinaryIO, offset: int) -> None:
    size = os.fstat(file.fileno()).st_size
    if size != offset:
        raise WrongOffset(size)


def _write(file: BinaryIO, part: Part) -> None:
    file.seek(0, os.SEEK_END)
    rest = memoryview(part)
    while rest:  # a disk that is almost full takes less than it was given
        rest = rest[file.write(rest) :]
