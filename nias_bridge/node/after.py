"""What follows once a job's results and its end are written: previews of the results, and what the
build of an environment left for later.

Whatever comes of them, the job ends as it did.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Optional

from . import claim, environment, files, layout, preview, sandbox
from .stopping import TIME_LIMIT, Stopped, StopSignals
from .words import duration

# So long nobody tries again to build tools that could not be built.
_REST_SECONDS = 3600.0
_SECONDS_MIN = 1.0  # in fewer, previews of a task are hardly begun
_FAILED = "tools-failed.txt"
_PROGRAM = Path(__file__).parents[2]  # the file with all modules, or a checkout


def make_previews(
    job: claim.Job,
    wish: environment.Wish,
    signals: StopSignals,
    say: Callable[[str], None],
    *,
    reason: str,
    took: float,
) -> None:
    """Make previews of the files in output/, until a signal comes; never raises.

    wish: the tools for it, which are built for a single run that finished, and must be there for
    all others; reason: why the program ended; took: its seconds. A task of a sweep gives its slot
    back soon: its previews may take a tenth of what the program took, and where that is too little
    none are made. A job that was told to stop has none.
    """
    if reason not in ("finished", TIME_LIMIT):
        return
    seconds = float(preview.ALL_SECONDS_MAX)
    if job.task is not None:
        seconds = min(seconds, took / 10)
        if seconds < _SECONDS_MIN:
            return
    # A job whose time limit came near waits for Slurm to end it, which leaves it some time.
    allowed = signals.until_the_end() if reason == TIME_LIMIT else signals.breaking_off()
    build = job.task is None and reason == "finished"
    started = time.monotonic()
    try:
        with allowed:
            tools = (_tools if build else environment.there)(job.shared, wish)
            if tools is None:
                return
            try:
                how = "made" if _made(job, wish, tools, seconds) else "made in part"
                say(f"Previews {how} in {duration(time.monotonic() - started)}.")
                if build:
                    complete(job.shared, tools, wish.walls, signals, say)
            finally:
                tools.release()
    except Stopped:
        return
    except Exception as error:
        say(f"Previews could not be made: {type(error).__name__}: {str(error).rstrip('.')}.")


def _made(
    job: claim.Job, wish: environment.Wish, tools: environment.Environment, seconds: float
) -> bool:
    output = job.work / layout.PROJECT / layout.OUTPUT
    walls = wish.walls.around(hidden=[job.shared])
    previews = job.work / layout.PREVIEWS
    return preview.run(tools.python, _PROGRAM, output, previews, walls, seconds=seconds)


def complete(
    shared: Path,
    made: environment.Environment,
    walls: sandbox.Walls,
    signals: StopSignals,
    say: Callable[[str], None],
) -> None:
    """Complete the environment of a run that has its results, until a signal comes; never raises.

    What is broken off, the next run that uses it begins again.
    """
    if made.complete:
        return
    try:
        with signals.breaking_off():
            from . import building  # noqa: PLC0415  # as in environment: hardly any run needs it

            building.complete(shared, made, walls)
    except Stopped:
        return
    except Exception as error:
        say(f"The environment could not be completed: {type(error).__name__}: {error}.")


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
