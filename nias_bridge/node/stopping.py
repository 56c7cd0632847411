"""The signals by which Slurm ends a job, raised as an exception only where work may break off."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Optional

TIME_LIMIT = "time limit"
TOLD_TO_STOP = "told to stop"
# Seconds that work may go on after Slurm has said that the end is now; its KillWait is 30 of them.
_SECONDS_LEFT = 20.0
_REASONS = {
    signal.SIGUSR1: TIME_LIMIT,
    signal.SIGTERM: TOLD_TO_STOP,  # a cancel, or anybody's kill: the accounting alone knows
    signal.SIGINT: TOLD_TO_STOP,
}


class Stopped(BaseException):
    """The job is to end; `reason` is TIME_LIMIT or TOLD_TO_STOP."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@contextmanager
def held_back() -> Iterator[Callable[[], object]]:
    """No signal is heard within this block but after it; what is started in it never hears any,
    unless it begins by calling what this gives."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield lambda: signal.pthread_sigmask(signal.SIG_SETMASK, before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopSignals:
    """Remembers the first signal's reason, and whether Slurm has said that the end is now."""

    def __init__(self) -> None:
        self.reason: Optional[str] = None
        self._end_told_at: Optional[float] = None
        self._may_break_off = False

    @property
    def ending_now(self) -> bool:
        return self._end_told_at is not None

    def time_is_up(self) -> bool:
        """Whether Slurm may kill the job any moment now."""
        told = self._end_told_at
        return told is not None and time.monotonic() > told + _SECONDS_LEFT

    def listen(self) -> None:
        """Take over the signals, for good: a second one must not break the collection."""
        for number in _REASONS:
            signal.signal(number, self._heard)

    @contextmanager
    def breaking_off(self) -> Iterator[None]:
        """Within this block a signal, or one heard before, raises Stopped: once."""
        self._may_break_off = True
        try:
            if self.reason:
                raise Stopped(self.reason)
            yield
        finally:
            self._may_break_off = False

    @contextmanager
    def until_the_end(self) -> Iterator[None]:
        """Within this block Slurm's word that the end is now, or one that came, raises Stopped."""
        self._may_break_off = True
        try:
            if self.ending_now:
                raise Stopped(TOLD_TO_STOP)
            yield
        finally:
            self._may_break_off = False

    def _heard(self, number: int, frame: Optional[FrameType]) -> None:
        reason = _REASONS[signal.Signals(number)]
        self.reason = self.reason or reason
        if reason == TOLD_TO_STOP and self._end_told_at is None:
            self._end_told_at = time.monotonic()
        if self._may_break_off:
            self._may_break_off = False
            raise Stopped(self.reason)
