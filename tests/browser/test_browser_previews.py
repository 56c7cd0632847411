"""Claims about previews, as a browser shows them."""

from __future__ import annotations

import json
import time

import staged
from playwright.sync_api import Page, expect
from watched import Live

from nias_bridge.domain import JobState

HOSTILE = b"""<h1 style="color: red">Hello</h1>
<script>document.body.textContent = "RAN"; parent.document.title = "RAN"</script>
<img src="http://example.invalid/x.png"><form action="/runs"><button>send</button></form>"""


def test_previews_come_when_they_are_opened_and_html_can_do_nothing(page: Page, live: Live) -> None:
    run = staged.running(live.bridge)
    refused: list[tuple[str, str | None]] = []
    page.on("requestfailed", lambda request: refused.append((request.url, request.failure)))
    page.goto(f"/runs/{run.id}")
    names = ["0.npy", "1.npy", "2.npy", "3.npy", "report.html"]
    staged.leave(live.bridge, run, dict.fromkeys(names, HOSTILE))
    folder = staged.here(live.bridge).run(run).previews
    folder.mkdir()
    array = {"kind": "array", "summary": [{"shape": [7]}], "plots": ["0001-a.svg"]}
    entries = dict.fromkeys(names[:-1], array) | {names[-1]: {"kind": "html"}}
    (folder / "index.json").write_text(json.dumps({"files": entries}))
    (folder / "0001-a.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="99" height="9"><path d="M0 0h99"/></svg>'
    )
    staged.move(live.bridge, run, JobState.COMPLETED, elapsed=3, exit_code=0)

    first = page.locator("details.look").first
    expect(first.locator("img")).to_have_js_property("naturalWidth", 99)
    fourth = page.locator("details.look").nth(3)
    assert fourth.locator("img").count() == 0, "what is closed is not fetched"
    fourth.locator("summary").click()
    expect(fourth.locator("img")).to_be_visible()

    html = page.locator("details.look").last
    html.locator("summary").click()
    frame = html.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Hello")).to_be_visible()
    assert page.title() != "RAN"
    deadline = time.monotonic() + 30
    while ("http://example.invalid/x.png", "csp") not in refused:
        assert time.monotonic() < deadline, refused
        page.wait_for_timeout(50)
