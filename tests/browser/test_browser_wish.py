"""The form of a held upload in a real browser: what it asks for is estimated while it is typed."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import staged
from client import zipped
from playwright.sync_api import Page, expect
from watched import Live

from nias_bridge.services import estimates, intake
from nias_bridge.slurm.fake import FakeScheduler


def answer(live: Live, hours: float) -> None:
    """The poller finds the question, and Slurm says that it would start in so many hours."""
    deadline = time.monotonic() + 30
    while not list(staged.here(live.bridge).uploads.glob("*.sbatch")):
        assert time.monotonic() < deadline, "Slurm was not asked"
        time.sleep(0.05)
    at = datetime.now(UTC) + timedelta(hours=hours, minutes=1)
    estimates.answer(live.bridge, FakeScheduler(clock=lambda: at))


def held(live: Live) -> str:
    staged.show_partitions(live.bridge)
    part = staged.arrived(live.bridge, zipped("p", {"code.py": "", "requirements.txt": ""}))
    return intake.hold(live.bridge, part, "p.zip")


def test_a_changed_form_gets_a_new_estimate_and_is_told_at_once_what_is_beyond(
    page: Page, live: Live, complaints: list[str]
) -> None:
    page.goto(f"/upload/{held(live)}")
    before = page.locator("#before")
    answer(live, hours=2)
    expect(before).to_contain_text("expects it to begin in 2 h")

    page.get_by_text("Ask for something other").click()
    page.get_by_label("CPUs").fill("4")
    answer(live, hours=5)
    expect(before).to_contain_text("expects it to begin in 5 h")

    page.get_by_label("CPUs").press_sequentially("0")
    expect(page.get_by_role("alert")).to_have_text(
        "cpus is 40; a job in partition main has at most 4."
    )
    expect(page.get_by_label("CPUs")).to_be_focused()
    page.get_by_label("CPUs").fill("1")
    answer(live, hours=1)
    expect(before).to_contain_text("expects it to begin in 1 h")

    page.get_by_label("Partition").select_option("short")
    expect(page.locator("#time-help")).to_contain_text("at most 10 min")
    answer(live, hours=3)
    expect(before).to_contain_text("expects it to begin in 3 h")
    page.get_by_role("button", name="Run it").click()
    expect(page.locator("#status")).to_contain_text("Received")
    (run,) = live.bridge.store.open_runs()
    assert (run.resources.cpus, run.resources.partition) == (1, "short")
    assert run.resources.time == "00:10:00"
    assert complaints == []
