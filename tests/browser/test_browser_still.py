"""Claims about what does not move while a run is followed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import staged
from playwright.sync_api import BrowserContext, expect
from watched import DESKTOP, PHONE, Live

from nias_bridge.domain import JobState

MOST = 0.02  # below 0.1 is what browsers' makers call good
NODE_SAYS = {
    "unpacking": "The node is unpacking",
    "environment": "The node is getting the packages",
    "running": "Your code is running",
    "collecting": "The node is collecting",
    "finished": "The node has finished",
}
WATCH = """
window.shifts = [];
new PerformanceObserver(list => {
    for (const shift of list.getEntries()) if (!shift.hadRecentInput) window.shifts.push({
        value: shift.value,
        what: shift.sources.map(({ node, previousRect: from, currentRect: to }) =>
            `${node?.id || node?.className || node?.nodeName}: ${from.y} to ${to.y}`),
    });
}).observe({type: "layout-shift", buffered: true});
"""


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desk", "phone"])
def test_nothing_jumps_while_a_run_is_followed(
    live: Live, open_context: Callable[..., BrowserContext], viewport: dict[str, int]
) -> None:
    bridge, now = live.bridge, datetime.now(UTC)
    page = open_context(viewport=viewport).new_page()
    page.add_init_script(WATCH)

    def shifts_until(words: str) -> list[dict[str, Any]]:
        expect(page.locator("#status")).to_contain_text(words)
        # A frame after this one the browser has told of all shifts up to here.
        page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))"
        )
        told: list[dict[str, Any]] = page.evaluate("window.shifts")
        assert sum(shift["value"] for shift in told) < MOST, (words, told)
        return told

    run = staged.add(bridge, "emg", requirements="numpy\n")
    page.goto(f"/runs/{run.id}")
    page.evaluate("document.querySelector('[data-refresh]').dataset.every = 100")
    shifts_until("has arrived")
    run = staged.move(bridge, run, JobState.STAGED, JobState.SUBMITTING)
    shifts_until("being handed to Slurm")
    start = now + timedelta(minutes=9)
    waits = {"reason": "Resources", "place": 2, "expected_start": start}
    run = staged.move(bridge, run, JobState.PENDING, **waits)
    shifts_until("Its place in the queue")
    run = staged.move(bridge, run, JobState.RUNNING, nodes="slot1", started_at=now, place=None)
    used = {"key": "k", "built": True, "seconds": 2.5, "packages": 4}
    for phase, words in NODE_SAYS.items():
        packages = None if phase in ("unpacking", "environment") else used
        staged.tell(bridge, run, phase=phase, environment=packages)
        staged.say(bridge, run, f"[nias] {phase}\n" * 9)
        shifts_until(words)
    if viewport is PHONE:
        return  # at the end it takes back the room that it held for what may come
    staged.leave(bridge, run, {"peaks.json": b"{}", "plot.png": staged.picture()})
    staged.move(bridge, run, JobState.COMPLETED, elapsed=3, exit_code=0, ended_at=now)
    shifts_until("Your code ran to its end")
