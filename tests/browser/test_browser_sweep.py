"""A sweep's table in a real browser: sorted at a click, and still sorted when it changed."""

from __future__ import annotations

import staged
from playwright.sync_api import Page, expect
from watched import Live


def test_a_sweeps_table_sorts_at_a_click_and_stays_sorted_when_it_changes(
    page: Page, live: Live
) -> None:
    run = staged.swept(live.bridge)
    page.goto(f"{live.url}/runs/{run.id}")
    tasks = page.locator("#tasks-table tbody th")
    expect(tasks).to_have_text(["0", "1", "2", "3"])
    heading = page.get_by_role("button", name="rms")
    heading.click()
    expect(tasks).to_have_text(["1", "0", "2", "3"])  # what is missing comes last
    heading.click()
    expect(tasks).to_have_text(["2", "0", "1", "3"])
    staged.end_task(live.bridge, run, 3, rms=20.0)
    expect(tasks).to_have_text(["2", "3", "0", "1"])
    expect(page.get_by_role("columnheader", name="rms")).to_have_attribute(
        "aria-sort", "descending"
    )
