"""What follows once a job's results and its end are written: previews of the results.

Whatever comes of them, the job ends as it did.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Optional

from . import environment, files, layout, preview
from .stopping import Stopped, StopSignals

# So long nobody tries again to build tools that could not be built.
_REST_SECONDS = 3600.0
_FAILED = "tools-failed.txt"


def make_previews(
    shared: Path,
    work: Path,
    wish: environment.Wish,
    signals: StopSignals,
    say: Callable[[str], None],
) -> None:
    """Make previews of the files in output/, until a signal comes; never raises."""
    started = time.monotonic()
    try:
        with signals.breaking_off():
            tools = _tools(shared, wish)
            if tools is None:
                return
            try:
                program = shared / layout.BIN / layout.NODE_PROGRAM
                output = work / layout.PROJECT / layout.OUTPUT
                made = preview.run(tools.python, program, output, work / layout.PREVIEWS)
            finally:
                tools.release()
    except Stopped:
        return
    except Exception as error:
        say(f"Previews could not be made: {type(error).__name__}: {error}.")
        return
    how = "made" if made else "made in part"
    say(f"Previews {how} in {time.monotonic() - started:.2g} s.")


def _tools(shared: Path, wish: environment.Wish) -> Optional[environment.Environment]:
    failed = environment.place(shared, wish) / _FAILED
    with suppress(OSError):
        if time.time() - failed.stat().st_mtime < _REST_SECONDS:
            return None
    try:
        return environment.obtain(shared, wish, lambda _: None)
    except environment.BuildFailed as error:
        files.write_text(failed, f"{error}\n{error.details}\n")
        raise
