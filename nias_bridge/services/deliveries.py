"""An upload becomes a version of a dataset: accepted by the gateway, unpacked by the poller."""

from __future__ import annotations

import errno
import logging
from datetime import UTC, datetime
from pathlib import PurePosixPath

from nias_bridge.datasets import Dataset, Version, dataset_name
from nias_bridge.errors import BadRequest, BadUpload, NiasError
from nias_bridge.node import archive
from nias_bridge.services import contents, held, pieces, quotas
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.datasets import limits

log = logging.getLogger(__name__)

NO_ROOM = "The shared storage had no room to unpack it. Tell the administrator, and send it again."


def expect(bridge: Bridge, size: int, name: str = "") -> None:
    """Refuse what would be refused once all of it came. name: "" where it is not given yet.

    Raises BadRequest, OverQuota.
    """
    if name:
        _name(name)
    quotas.check_room(bridge, size, "this dataset")


def put(bridge: Bridge, part: PurePosixPath, filename: str, name: str) -> Dataset:
    """A streamed file as a new version of the caller's dataset of this name, to be unpacked soon.

    On any error the part is removed. Raises BadRequest, BadUpload, OverQuota.
    """
    try:
        return _add(bridge, part, filename, name)
    except BaseException:
        bridge.storage.remove(part)
        raise


def put_pieces(bridge: Bridge, upload_id: str, name: str) -> Dataset:
    """As `put`, of an upload in pieces, which stays on an error; sent twice it is one version.

    Raises NotFound too.
    """
    made = bridge.store.datasets.made_of(bridge.person.handle, upload_id)
    if made is not None:
        return made
    try:
        coming = pieces.whole(bridge, upload_id)
        found = _add(bridge, held.part_of(bridge, upload_id), coming.filename, name)
    except (NiasError, FileNotFoundError):
        # Sent twice at once, and the other was first: the upload is gone, her room used up.
        made = bridge.store.datasets.made_of(bridge.person.handle, upload_id)
        if made is None:
            raise
        return made
    pieces.taken(bridge, upload_id)
    return found


def _add(bridge: Bridge, part: PurePosixPath, filename: str, name: str) -> Dataset:
    name = _name(name or _stem(filename))
    try:
        judged = contents.judge(bridge, part, filename, limits(bridge.settings))
    except archive.ArchiveError as error:
        raise BadUpload(str(error)) from None
    quotas.check_room(bridge, judged.size, "this dataset")
    made = bridge.store.datasets.add(
        bridge.person.handle,
        name,
        filename=filename,
        upload=part.stem,
        size=judged.size,
        files=judged.files,
        at=datetime.now(UTC),
        admission=quotas.for_bytes(bridge, judged.size, "this dataset"),
    )
    bridge.note("dataset put", detail=f"{made.owner}/{made.name}: {filename}")
    return made


def deliver(bridge: Bridge) -> None:
    """Unpack what arrived, and remove what nobody has any more: the poller's work."""
    for version in bridge.store.datasets.waiting():
        try:
            _deliver(bridge, version)
        except OSError as error:  # the others need not wait for it
            log.warning("Dataset version %d: not unpacked yet: %s", version.id, error)
    for sha256 in bridge.store.datasets.unused():
        known = contents.published(bridge, sha256)
        # A poller that lost its lease is stopped by this. One that stands still after it leaves
        # what came again, by its time; what one leaves that is killed here is swept.
        if bridge.store.datasets.clear(sha256):
            contents.drop(bridge, sha256, known)


def sweep(bridge: Bridge) -> None:
    """Remove contents and halves of such that no row tells of."""
    working = [version.upload for version in bridge.store.datasets.waiting()]
    contents.sweep(bridge, bridge.store.datasets.contents(), working)


def _deliver(bridge: Bridge, version: Version) -> None:
    part = held.part_of(bridge, version.upload)
    try:
        made = contents.publish(bridge, part, version.filename, limits(bridge.settings))
    except archive.ArchiveError as error:
        bridge.store.datasets.fail(version.id, str(error))
    except BlockingIOError:  # another poller's thread is still at it
        return
    except FileNotFoundError:
        bridge.store.datasets.fail(version.id, "The upload is gone. Send it again.")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        bridge.store.datasets.fail(version.id, NO_ROOM)
    else:
        bridge.store.datasets.settle(
            version.id, sha256=made.sha256, size=made.size, files=made.files
        )
        log.info("Dataset version %d is %s.", version.id, made.sha256)
    bridge.storage.remove(part)


def _name(text: str) -> str:
    try:
        return dataset_name(text)
    except ValueError as error:
        raise BadRequest(f"“{text[:80]}” {error}.", "name") from None


def _stem(filename: str) -> str:
    return filename[: -len(".zip")] if filename.casefold().endswith(".zip") else filename
