"""A sweep's table in a real browser: sorted at a click, and light however many tasks there are."""

from __future__ import annotations

import time

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
    heading = page.get_by_role("link", name="rms")
    heading.click()
    expect(tasks).to_have_text(["1", "0", "2", "3"])  # what is missing comes last
    expect(heading).to_be_focused()
    heading.click()
    expect(tasks).to_have_text(["2", "0", "1", "3"])
    staged.end_task(live.bridge, run, 3, rms=20.0)
    expect(tasks).to_have_text(["2", "3", "0", "1"])
    sorting = page.get_by_role("columnheader", name="rms")
    expect(sorting).to_have_attribute("aria-sort", "descending")
    page.reload()
    expect(tasks).to_have_text(["2", "3", "0", "1"])


def test_a_thousand_tasks_are_there_at_once_and_in_pages(
    page: Page, live: Live, complaints: list[str]
) -> None:
    run = staged.swept_widely(live.bridge, 1000)
    address, tasks = f"{live.url}/runs/{run.id}", page.locator("#tasks-table tbody th")

    def seconds(path: str, count: int) -> float:
        """How long it takes until so many tasks are there, at the best of a few times."""
        took = []
        for _ in range(4):  # once, so that templates are compiled
            begun = time.monotonic()
            page.goto(path)
            expect(tasks).to_have_count(count)
            took.append(time.monotonic() - begun)
        return min(took)

    opened, sorted_at = seconds(address, 100), []
    navigation = "performance.getEntriesByType('navigation')[0]"
    assert page.evaluate(f"{navigation}.decodedBodySize") < 150_000
    for second in ("973", "27", "973"):  # 973 × 37 is 1 past the thousands, 27 × 37 the highest
        begun = time.monotonic()
        page.get_by_role("link", name="rms").click()
        expect(tasks.nth(1 if second == "973" else 0)).to_have_text(second)
        sorted_at.append(time.monotonic() - begun)
    expect(tasks.first).to_have_text("0")
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_text("Page 2 of 10")).to_be_visible()
    expect(tasks).to_have_count(100)
    page.get_by_role("link", name="Show all 1,000").click()
    expect(tasks).to_have_count(1000)
    expect(tasks.first).to_have_text("0")
    page.get_by_role("link", name="In pages").click()
    expect(tasks).to_have_count(100)
    page.get_by_role("link", name="Show all 1,000").click()
    expect(tasks).to_have_count(1000)
    whole = seconds(page.url, 1000)
    assert opened < whole and min(sorted_at) < whole, "a page of them is not made of all of them"
    assert complaints == []
