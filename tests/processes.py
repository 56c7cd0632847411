"""Other processes once a signal has come to them, which on a busy machine takes time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

SECONDS = 20


def send(number: int, pids: Iterable[int]) -> None:
    """Send them a signal; returns when those that it kills have ended and those that it stops
    stand still."""
    pids = tuple(pids)
    for pid in pids:
        with suppress(ProcessLookupError):  # it ended with the one before
            os.kill(pid, number)
    deadline = time.monotonic() + SECONDS
    while not all(_is_as_told(number, pid) for pid in pids):
        assert time.monotonic() < deadline, "it was sent a signal, and goes on"
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    """Whether this process does nothing any more, whether or not it was waited for.

    Its first thread may be gone while others still hold its sockets.
    """
    told = _stat(pid)
    return not told or (told[0] in "ZX" and int(told[17]) <= 1)


def stands_still(pid: int) -> bool:
    return _stat(pid)[:1] == ["T"]


def _is_as_told(number: int, pid: int) -> bool:
    match number:
        case signal.SIGKILL:
            return has_ended(pid)
        case signal.SIGSTOP:
            return stands_still(pid) or has_ended(pid)
    return True


def _stat(pid: int) -> list[str]:
    """What Linux tells of it, from its state on; nothing where there is no such process."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return told.rpartition(")")[2].split()
