"""What is to be told outside the pages: by mail, and to people's own programs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ErrandKind(StrEnum):
    """What is to be told, and so to whom."""

    PASSWORD_ASKED = "password asked"  # noqa: S105  # detail: the address that was typed
    REGISTERED = "registered"  # somebody waits for an administrator
    CONFIRMED = "confirmed"  # … and need not wait any longer
    RUN_ENDED = "run ended"  # by mail
    RUN_MOVED = "run moved"  # to its owner's own program; detail: the new state


@dataclass(frozen=True, kw_only=True)
class Errand:
    """One thing to be told until it was.

    at: when it came to be; tries: how often it was begun. Its id is never another's.
    """

    id: int
    kind: ErrandKind
    at: datetime
    tries: int
    person_id: int | None = None
    run_id: int | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Hook:
    """Where a person's own program is told of her runs, and the secret that signs it.

    trouble: why it could not be told last, "" where it could.
    """

    person_id: int
    url: str
    secret: str
    created_at: datetime
    trouble: str = ""
