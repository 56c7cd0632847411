"""The signals by which Slurm ends a job, raised as an exception only where work may break off."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Optional

TIME_LIMIT = "time limit"
CANCELLED = "cancelled"
_REASONS = {signal.SIGUSR1: TIME_LIMIT, signal.SIGTERM: CANCELLED, signal.SIGINT: CANCELLED}


class Stopped(BaseException):
    """Slurm wants the job to end; `reason` is TIME_LIMIT or CANCELLED."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class StopSignals:
    """Remembers the first signal's reason, and whether Slurm has said that the end is now."""

    def __init__(self) -> None:
        self.reason: Optional[str] = None
        self.ending_now = False
        self._may_break_off = False

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

    def _heard(self, number: int, frame: Optional[FrameType]) -> None:
        reason = _REASONS[signal.Signals(number)]
        self.reason = self.reason or reason
        self.ending_now = self.ending_now or reason == CANCELLED
        if self._may_break_off:
            self._may_break_off = False
            raise Stopped(self.reason)
