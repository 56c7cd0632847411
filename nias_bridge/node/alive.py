"""While a job works it says so now and then, for when Slurm has lost sight of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Optional

from . import files, layout

EVERY_SECONDS = 15.0


@contextmanager
def saying_so(claim: Path, every: float = EVERY_SECONDS) -> Iterator[None]:
    """Within this block the time is written into the claim's folder, every so many seconds.

    By an alarm, which what is being waited for goes on after. Not where there is no claim.
    """

    def say(number: int, frame: Optional[FrameType]) -> None:
        with suppress(OSError):
            files.write_json(claim / layout.ALIVE, {"at": time.time()})

    signal.signal(signal.SIGALRM, say)
    signal.setitimer(signal.ITIMER_REAL, every, every)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
