"""A poller that kills or stops itself just before or after a step; run by a test.

    python dying_poller.py WHERE SIGNAL    e.g. "before STAGED" SIGKILL, "after sbatch" SIGSTOP

WHERE names a commit (the state that is moved to) or the call of sbatch.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import PurePosixPath
from threading import Event
from typing import Any

from nias_bridge.bootstrap import open_bridge, open_scheduler
from nias_bridge.domain import JobState, Run
from nias_bridge.poller import run_poller
from nias_bridge.settings import read_settings
from nias_bridge.store import SqlStore


def main() -> None:
    when, what = sys.argv[1].split()
    how = signal.Signals[sys.argv[2]]

    def die_if(now: str, step: str) -> None:
        if (now, step) == (when, what):
            os.kill(os.getpid(), how)

    settings = read_settings()
    bridge, scheduler = open_bridge(settings), open_scheduler(settings)
    move, submit = SqlStore.move, scheduler.submit

    def dying_move(store: SqlStore, run: Run, to: JobState, **changes: Any) -> Run:
        die_if("before", to)
        moved = move(store, run, to, **changes)
        die_if("after", to)
        return moved

    def dying_submit(script: PurePosixPath, **options: Any) -> int:
        die_if("before", "sbatch")
        job_id = submit(script, **options)
        die_if("after", "sbatch")
        return job_id

    SqlStore.move = dying_move  # type: ignore[method-assign, assignment]
    scheduler.submit = dying_submit  # type: ignore[method-assign]
    run_poller(bridge, scheduler, Event())


if __name__ == "__main__":
    main()
