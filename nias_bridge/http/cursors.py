"""Where a list goes on: a word that only we can read, good for as long as the list is."""

from __future__ import annotations

import base64
import binascii
import struct
from datetime import UTC, datetime, timedelta

from nias_bridge.domain import Page
from nias_bridge.errors import BadRequest

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PLACE = struct.Struct(">qq")  # microseconds since the epoch, id
_LENGTH = 22


def after(page: Page) -> str | None:
    """The cursor of what follows a page of runs; None where nothing does."""
    if not page.more:
        return None
    last = page.runs[-1]
    place = _PLACE.pack((last.created_at - _EPOCH) // _MICROSECOND, last.id)
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def place(cursor: str) -> tuple[datetime, int]:
    """The moment and the id of the run that a list goes on after. Raises BadRequest."""
    try:
        packed = base64.b64decode(f"{cursor}==", altchars=b"-_", validate=True)
        if len(cursor) != _LENGTH:
            raise ValueError
        microseconds, run_id = _PLACE.unpack(packed)
        return _EPOCH + timedelta(microseconds=microseconds), run_id
    except (binascii.Error, ValueError, OverflowError):
        raise BadRequest(
            "This is no cursor of ours: take it from `next` of the page before.", "cursor"
        ) from None
