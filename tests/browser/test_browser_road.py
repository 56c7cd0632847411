"""Claims about the researcher's road, walked in a browser."""

from __future__ import annotations

import base64
import io
import re
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import staged
from client import zipped
from playwright.sync_api import BrowserContext, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from watched import Live

from nias_bridge.domain import JobState, Run

PROJECT = zipped(
    "Análise EMG 2",
    {"code.py": "print(1)\n", "requirements.txt": "numpy==2.3.0\n", "gravação.wav": b"0" * 5000},
)


def as_file(body: bytes, name: str = "project.zip") -> dict[str, object]:
    return {"name": name, "mimeType": "application/zip", "buffer": body}


def newest(live: Live) -> Run:
    return live.bridge.store.open_runs()[-1]


def test_a_zip_is_uploaded_followed_and_its_results_downloaded(
    live: Live, page: Page, complaints: list[str]
) -> None:
    page.goto("/")
    page.get_by_role("link", name="Upload a project").first.click()
    page.get_by_label(re.compile("Choose")).set_input_files(as_file(PROJECT))

    expect(page.get_by_role("heading", level=1)).to_have_text("Análise EMG 2")
    expect(page.get_by_text("numpy==2.3.0")).to_be_visible()
    expect(page.get_by_text("gravação.wav")).to_be_visible()
    page.get_by_role("button", name="Run it").click()

    status = page.locator("#status")
    expect(status).to_contain_text("Received")
    run = staged.move(live.bridge, newest(live), *staged.SUBMITTED, reason="Resources", place=1)
    expect(status).to_contain_text("all slots are taken")
    run = staged.move(
        live.bridge, run, JobState.RUNNING, nodes="slot1", started_at=datetime.now(UTC)
    )
    staged.tell(live.bridge, run, phase="running")
    staged.say(live.bridge, run, "epoch 1 ✓\n")
    expect(status).to_contain_text("Your code is running")
    expect(page.locator("#log")).to_contain_text("epoch 1 ✓")

    staged.leave(live.bridge, run, {"peaks.json": b"{}", "plot.png": staged.picture()})
    staged.say(live.bridge, run, "the end\n")
    staged.move(live.bridge, run, JobState.COMPLETED, elapsed=3, exit_code=0, max_rss=staged.GIB)
    expect(status).to_contain_text("Completed")
    expect(page.locator("#log")).to_contain_text("the end")
    expect(page.locator("#facts")).to_contain_text("1 GiB")
    picture = page.get_by_role("img", name="plot.png")
    picture.scroll_into_view_if_needed()
    expect(picture).to_have_js_property("naturalWidth", 480)

    with page.expect_download() as download:
        page.get_by_role("link", name="Download results").click()
    with zipfile.ZipFile(download.value.path()) as results:
        assert set(results.namelist()) == {"peaks.json", "plot.png"}
    assert complaints == []


def test_a_zip_can_be_dropped(page: Page) -> None:
    page.goto("/upload")
    code = base64.b64encode(PROJECT).decode()
    page.evaluate(
        """code => {
            const bytes = Uint8Array.from(atob(code), letter => letter.charCodeAt(0));
            const dropped = new DataTransfer();
            dropped.items.add(new File([bytes], "project.zip", {type: "application/zip"}));
            document.querySelector("[data-drop]").dispatchEvent(
                new DragEvent("drop", {dataTransfer: dropped, bubbles: true, cancelable: true}));
        }""",
        code,
    )
    expect(page.get_by_role("heading", level=1)).to_have_text("Análise EMG 2")


def test_what_is_wrong_is_told_without_leaving_the_page(page: Page) -> None:
    page.goto("/upload")
    page.locator("#file").set_input_files(as_file(b"not a zip at all"))
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("not a zip")
    page.locator("#file").set_input_files(as_file(b"", "notes.txt"))
    expect(alert).to_contain_text("“notes.txt” is not a zip")
    page.locator("#file").set_input_files(as_file(PROJECT))
    expect(page.get_by_role("heading", level=1)).to_have_text("Análise EMG 2")


def test_an_upload_that_is_under_way_shows_how_far_it_is_and_can_be_stopped(page: Page) -> None:
    page.goto("/upload")
    page.route("**/upload", lambda route: None)  # it never answers
    page.locator("#file").set_input_files(as_file(PROJECT))
    expect(page.get_by_role("progressbar", name="Upload")).to_be_visible()
    stop = page.get_by_role("button", name="Stop")
    expect(stop).to_be_focused()
    stop.click()
    expect(page.locator("#file")).to_be_visible()


def test_the_road_works_without_scripts(
    open_context: Callable[..., BrowserContext], live: Live
) -> None:
    page = open_context(java_script_enabled=False).new_page()
    page.goto("/upload")
    page.locator("#file").set_input_files(as_file(b"not a zip"))
    page.get_by_role("button", name="Upload and look into it").click()
    expect(page.get_by_role("alert")).to_contain_text("not a zip")
    page.locator("#file").set_input_files(as_file(PROJECT))
    page.get_by_role("button", name="Upload and look into it").click()
    page.get_by_role("button", name="Run it").click()
    expect(page.locator("#status")).to_contain_text("Received")
    assert newest(live).project == "Análise EMG 2"


def test_lines_that_cannot_work_are_mended_at_a_click(page: Page, live: Live) -> None:
    page.goto("/upload")
    body = zipped("troubled", {"code.py": "", "requirements.txt": "torch==2.3.0+cu121\n"})
    page.locator("#file").set_input_files(as_file(body))
    expect(page.get_by_role("row", name=re.compile("cu121"))).to_contain_text("torch==2.3.0")
    page.get_by_role("button", name="Mend and go on").click()
    expect(page.locator("#status")).to_be_visible()
    assert newest(live).contents.requirements == ("torch==2.3.0",)


def test_a_run_is_cancelled_after_a_question(page: Page, live: Live) -> None:
    run = staged.running(live.bridge)
    page.goto(f"/runs/{run.id}")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Cancel").click()
    assert live.bridge.store.run(run.id).cancel_asked_at is None
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name=re.compile("Cancelling"))).to_be_disabled()
    assert live.bridge.store.run(run.id).cancel_asked_at is not None


def test_the_log_follows_its_end_unless_somebody_reads_further_up(page: Page, live: Live) -> None:
    run = staged.running(live.bridge)
    staged.say(live.bridge, run, "".join(f"line {n}\n" for n in range(500)))
    page.goto(f"/runs/{run.id}")
    log = page.locator("#log")
    from_end = "log => log.scrollHeight - log.clientHeight - log.scrollTop"
    assert log.evaluate(from_end) < 2
    staged.say(live.bridge, run, "more\n" * 50)
    expect(log).to_contain_text("more")
    assert log.evaluate(from_end) < 2

    log.evaluate("log => { log.scrollTop = 100; }")
    follow = page.get_by_role("button", name="Follow the end")
    expect(follow).to_be_visible()
    staged.say(live.bridge, run, "still more\n" * 50)
    expect(log).to_contain_text("still more")
    assert log.evaluate("log => log.scrollTop") == 100
    follow.click()
    expect(follow).to_be_hidden()
    assert log.evaluate(from_end) < 2


def test_the_log_shows_what_a_terminal_would(page: Page, live: Live) -> None:
    run = staged.running(live.bridge)
    page.goto(f"/runs/{run.id}")
    staged.say(live.bridge, run, "\x1b[31mred\x1b[0m\n 10%\r 50%\r100%\ndone\r\n")
    log = page.locator("#log")
    expect(log).to_contain_text("done")
    assert log.text_content().endswith("red\n100%\ndone\n")


def test_a_refresh_keeps_focus_scroll_and_what_was_opened(page: Page, live: Live) -> None:
    for number in range(25):
        staged.add(live.bridge, f"project {number}")
    run = staged.add(live.bridge, "asked", requirements="numpy\n")
    page.goto(f"/runs/{run.id}")
    page.get_by_text("Requirements").click()
    button = page.get_by_role("button", name="Cancel")
    button.focus()
    staged.move(live.bridge, run, *staged.SUBMITTED)
    expect(page.locator("#status")).to_contain_text("Pending")
    expect(button).to_be_focused()
    expect(page.get_by_role("listitem").filter(has_text="numpy")).to_be_visible()

    page.goto("/results")
    last = page.get_by_role("link", name="project 10")
    last.focus()
    where = "link => link.getBoundingClientRect().top"
    before = last.evaluate(where)
    staged.move(live.bridge, live.bridge.store.run(run.id), JobState.RUNNING)
    expect(page.locator(f"#run-{run.id}")).to_contain_text("Running")
    expect(last).to_be_focused()
    assert last.evaluate(where) == before, "nothing jumps"


def test_an_ended_run_is_asked_for_no_more_and_an_idle_page_gets_no_body(
    page: Page, live: Live
) -> None:
    run = staged.running(live.bridge)
    answers: list[int] = []
    page.on("response", lambda r: r.url.endswith("/live") and answers.append(r.status))
    page.goto(f"/runs/{run.id}")
    for _ in range(3):
        page.wait_for_event("response", lambda r: r.url.endswith("/live"))
    assert answers[0] == 200
    assert set(answers[1:]) == {304}
    staged.move(live.bridge, run, JobState.COMPLETED)
    expect(page.locator("#status")).to_contain_text("Completed")
    deadline = time.monotonic() + 20
    while is_answered(page, within=2.5):  # what was asked for before, and the last of the log
        assert time.monotonic() < deadline, "it goes on asking"


def is_answered(page: Page, within: float) -> bool:
    try:
        page.wait_for_event("response", timeout=within * 1000)
    except PlaywrightTimeout:
        return False
    return True


def test_a_silent_gateway_is_told_and_the_page_goes_on_when_it_is_back(
    page: Page, live: Live
) -> None:
    run = staged.running(live.bridge)
    page.goto(f"/runs/{run.id}")
    page.route("**/live", lambda route: route.abort())
    page.route("**/log?*", lambda route: route.abort())
    expect(page.locator("#offline")).to_be_visible()
    page.unroute_all()
    expect(page.locator("#offline")).to_be_hidden()


def test_times_are_relative_with_the_exact_one_on_hover(page: Page, live: Live) -> None:
    staged.completed(live.bridge)
    page.goto("/results")
    shown = page.locator("time").first
    expect(shown).to_have_text("just now")
    assert re.search(r"\d{4}.*\d:\d\d:\d\d", shown.get_attribute("title") or "")


def test_the_example_goes_through_the_upload_page(page: Page) -> None:
    page.goto("/upload")
    with page.expect_download() as download:
        page.get_by_role("link", name="the example").click()
    body = Path(download.value.path()).read_bytes()
    assert zipfile.is_zipfile(io.BytesIO(body))
    page.locator("#file").set_input_files(as_file(body, "power-spectrum.zip"))
    expect(page.get_by_role("heading", level=1)).to_have_text("power-spectrum")
