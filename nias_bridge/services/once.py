"""A submission that is sent again, at once or after a restart, makes no second run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from nias_bridge.domain import Run, SubmissionKey
from nias_bridge.errors import BadRequest, KeyReused, NiasError
from nias_bridge.services.bridge import Bridge

_WORD = re.compile(r"[\x21-\x7e]{1,255}")


def once(
    bridge: Bridge, word: str, fingerprint: str, submit: Callable[[Bridge], Run]
) -> tuple[Run, bool]:
    """The run that `submit` makes, or the one it made under this word before, and whether so.

    fingerprint: of all that was sent, in hexadecimal. Raises BadRequest for no word, KeyReused
    where something else was sent under it, and what `submit` raises.
    """
    if not _WORD.fullmatch(word):
        raise BadRequest(
            "An Idempotency-Key has 1 to 255 characters of ASCII and no spaces.", "Idempotency-Key"
        )
    key = SubmissionKey(person_id=bridge.person.id, word=word, fingerprint=fingerprint)
    made = _made(bridge, key)
    if made is not None:
        return made, True
    try:
        return submit(replace(bridge, key=key)), False
    except NiasError:
        # Sent twice at the same time, the second comes too late, and may be refused for the
        # first one's run: its project is there now, its quota used up.
        made = _made(bridge, key)
        if made is None:
            raise
        return made, True


def _made(bridge: Bridge, key: SubmissionKey) -> Run | None:
    found = bridge.store.made_by(key.person_id, key.word, now=datetime.now(UTC))
    if found is None:
        return None
    before, run = found
    if before != key:
        raise KeyReused(
            "Something else was submitted under this Idempotency-Key. Take a new key for each "
            "submission."
        )
    return run
