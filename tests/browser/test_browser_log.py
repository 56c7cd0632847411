"""Claims about the log of a run, as a browser shows it."""

from __future__ import annotations

import time

import pytest
import staged
from playwright.sync_api import Locator, Page, expect
from watched import Live

from nias_bridge.domain import Run

COLOURS = "".join(
    f"\x1b[{front};{back}m {front} on {back} \x1b[0m" + ("\n" if front % 10 == 7 else "")
    for back in (49, *range(40, 48))
    for front in (*range(30, 38), *range(90, 98))
)


@pytest.fixture
def run(live: Live) -> Run:
    return staged.running(live.bridge)


def shown(page: Page, live: Live, run: Run, text: str) -> Locator:
    """The log on its page once `text` was added to it, up to the last line’s end."""
    staged.say(live.bridge, run, text)
    page.goto(f"/runs/{run.id}")
    log = page.locator("#log")
    log.locator(":scope > span").first.wait_for(state="attached")
    return log


def expect_to_end(log: Locator, text: str) -> None:
    """Its text ends so, white space and all, once the page has asked for the last of it."""
    deadline = time.monotonic() + 30
    while not (log.text_content() or "").endswith(text):
        assert time.monotonic() < deadline, log.text_content()
        log.page.wait_for_timeout(20)


def test_progress_bars_are_one_line_from_the_start_and_as_they_grow(
    page: Page, live: Live, run: Run
) -> None:
    log = shown(page, live, run, "\n  5%|#   |\r 10%|##  |\r")
    expect_to_end(log, "epoch 1\n\n 10%|##  |")
    for text in (" 50%|### |", "\r", "100%|####|\n", "next\r", "\n"):
        staged.say(live.bridge, run, text)
    expect_to_end(log, "epoch 1\n\n100%|####|\nnext\n")


def test_colours_are_classes_and_other_escapes_nothing(page: Page, live: Live, run: Run) -> None:
    log = shown(
        page, live, run,
        "\x1b]0;title\x07\x1b[2K\x1b[31;1mred\x1b[0m \x1b[38;5;46mgreen\x1b[39m"
        " \x1b[38;2;250;5;5mtrue red\x1b[m \x1b[44mon blue\x1b[49m \x1b[7mturned\x1b[27m"
        " \x1b[38:2::0:0:250mcolons\x1b[0m <b>no & html</b>\x1b[?25h\x07\n",
    )  # fmt: skip
    found = {
        span.text_content(): span.get_attribute("class")
        for span in log.locator("span[class]").all()
    }
    assert found == {
        "red": "front-1 pen-bold",
        "green": "front-10",
        "true red": "front-9",
        "on blue": "back-4",
        "turned": "back-7",
        "colons": "front-4",
    }
    assert log.text_content().endswith(
        "red green true red on blue turned colons <b>no & html</b>\n"
    )
    assert log.locator("b").count() == 0


def test_an_escape_that_comes_in_two_halves_is_one(page: Page, live: Live, run: Run) -> None:
    log = shown(page, live, run, "\x1b[3")
    page.wait_for_event("response", lambda r: "/log?" in r.url)
    staged.say(live.bridge, run, "1mred\x1b")
    expect(log.locator(".front-1")).to_have_text("red")
    staged.say(live.bridge, run, "[0m plain\n")
    expect(log).to_contain_text("red plain")


def test_a_line_of_a_megabyte_is_cut_and_the_next_is_whole(
    page: Page, live: Live, run: Run
) -> None:
    log = shown(page, live, run, "the start\n")
    staged.say(live.bridge, run, "x" * 1_000_000 + "\nthe next line\n")
    expect(log.locator(".log-more")).to_have_text("… 996,000 more")
    expect(log).to_contain_text("the next line")
    assert len(log.text_content()) < 5000


def test_what_is_written_is_shown_within_a_second(page: Page, live: Live, run: Run) -> None:
    log, took = shown(page, live, run, ""), []
    for word in ("now", "anon", "thrice"):
        page.wait_for_event("response", lambda r: "/log?" in r.url)
        started = time.monotonic()
        staged.say(live.bridge, run, f"{word}\n")
        log.get_by_text(word).wait_for()
        took.append(time.monotonic() - started)
    assert min(took) < 1.5, "a second, and what this machine needs where others use it too"


def test_a_log_of_ten_gigabytes_is_its_tail(page: Page, live: Live, run: Run) -> None:
    with staged.here(live.bridge).run(run).log.open("r+b") as log:
        log.truncate(10_000_000_000)
    sizes: list[int] = []
    page.on(
        "response",
        lambda r: "/log?" in r.url and sizes.append(int(r.headers["content-length"])),
    )
    shown(page, live, run, "\nthe end of it\n")
    expect(page.locator("#log-cut")).to_be_visible()
    page.wait_for_event("response", lambda r: "/log?" in r.url)
    assert page.locator("#log").text_content() == "\nthe end of it\n"
    assert max(sizes) < 1000


def test_the_oldest_lines_make_room_and_the_page_stays_quick(
    page: Page, live: Live, run: Run
) -> None:
    log = shown(page, live, run, "the first line\n")
    for part in range(6):
        staged.say(live.bridge, run, f"{part} {'.' * 98}\n" * 2500)
        expect(log).to_contain_text(f"{part} ...")
    expect(page.locator("#log-cut")).to_be_visible()
    text = log.text_content()
    assert len(text) < 1_100_000
    assert text.startswith(("1 ", "2 ", "3 ")), "from the beginning of a line"
