"""Claims about every page, light and dark, on a phone and on a desk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import staged
from client import zipped
from playwright.sync_api import BrowserContext, Page
from test_browser_log import COLOURS
from watched import Live, unsound

from nias_bridge.domain import JobState
from nias_bridge.people import Role
from nias_bridge.services import administration, datasets, deliveries, intake
from nias_bridge.services.bridge import Bridge

EMPTY_PAGES = ("/", "/results", "/results?q=nothing", "/datasets")


def held(live: Live, name: str, requirements: str) -> str:
    part = staged.arrived(
        live.bridge, zipped(name, {"code.py": "", "requirements.txt": requirements})
    )
    return f"/upload/{intake.hold(live.bridge, part, f'{name}.zip')}"


def full_pages(live: Live) -> list[str]:
    """A site with runs in many states; the addresses of all its kinds of page."""
    bridge = live.bridge
    staged.show_cluster(bridge)
    rejected = staged.move(
        bridge, staged.add(bridge, "gait"), JobState.STAGED, JobState.SUBMITTING, JobState.REJECTED
    )
    runs = [
        staged.completed(bridge),
        staged.failed(bridge),
        staged.running(bridge),
        staged.pending(bridge),
        rejected,
    ]
    staged.say(bridge, runs[0], COLOURS)
    again = staged.completed(bridge, again=True)
    sweep = f"/runs/{staged.swept(bridge).id}"
    return [
        *("/", "/upload", "/results", "/results?show=failed", "/nothing-here", "/api/docs"),
        *(f"/runs/{run.id}" for run in runs),
        *(sweep, f"{sweep}/tasks/1", f"{sweep}/tasks/3", f"{sweep}/pictures"),
        f"/compare?a={runs[0].id}&b={again.id}",
        *looks(bridge),
        *sets(bridge),
        held(live, "a-new-project", "numpy\n"),
        held(live, "troubled", "numpy==2.3.0+cu121\n-e .\nfoo @ file:///home/somebody/foo\n"),
        held(live, "power-spectrum", ""),
    ]


def sets(bridge: Bridge) -> list[str]:
    """Datasets in all kinds of states, one of them used by a run; their pages, and the run's."""
    staged.dataset(bridge, "eeg", {"sub-01/rest.edf": b"1" * 3000})
    used = staged.dataset(bridge, "eeg", {f"sub-{n:02}/rest.edf": str(n) for n in range(9)})
    other = staged.as_person(bridge, "Ana-with-a-long-name")
    administrator = staged.as_person(bridge, "chief", Role.ADMINISTRATOR)
    administration.save_group(administrator, "EEG lab", shares=True, members=["lab"])
    datasets.share(bridge, used.id, [other.person.handle], ["EEG lab"])
    lent = staged.dataset(other, "a-dataset-whose-name-is-as-long-as-names-of-datasets-can-be", {
        "a.csv": "1"})  # fmt: skip
    datasets.share(other, lent.id, ["lab"], [])
    sent = staged.arrived(bridge, zipped("emg", {"a": "1"}))
    waiting = deliveries.put(bridge, sent, "emg.zip", "emg")
    project = zipped("sees-eeg", {"code.py": "", "nias.toml": '[job]\ndatasets = ["eeg"]\n'})
    run = intake.receive(bridge, staged.arrived(bridge, project), "sees-eeg.zip")
    ids = (used.id, lent.id, waiting.id)
    return ["/datasets", *(f"/datasets/{each}" for each in ids), f"/runs/{run.id}"]


def looks(bridge: Bridge) -> list[str]:
    """A run with previews of every kind, and the page of each."""
    run = staged.move(
        bridge, staged.add(bridge, "seen"), *staged.STARTED, JobState.COMPLETED, elapsed=4
    )
    facts = [{"name": "a", "shape": [9, 3], "dtype": "float64", "mean": 0.5, "plot": "0001-a.svg"}]
    entries = {
        "tone.wav": {"kind": "audio", "summary": [{"rate": 8000}], "plots": ["0001-a.svg"]},
        "many.npz": {"kind": "array", "summary": facts, "plots": ["0001-a.svg"]},
        "table.csv": {"kind": "table", "summary": facts, "rows": [["hertz", "power"], ["1", "2"]]},
        "a.ipynb": {"kind": "notebook", "cells": [{"type": "code", "text": "1", "output": "1"}]},
        "notes.md": {"kind": "markdown", "summary": [{"whole": False}], "text": "0002-a.txt"},
        "report.html": {"kind": "html", "summary": [{"size": 14}]},
    }
    staged.leave(bridge, run, dict.fromkeys(entries, b"<h1>Hello</h1>"))
    folder = staged.here(bridge).run(run).previews
    folder.mkdir()
    (folder / "index.json").write_text(json.dumps({"files": entries}))
    drawn = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M0 0h9"/></svg>'
    (folder / "0001-a.svg").write_text(drawn)
    (folder / "0002-a.txt").write_text("a text")
    return [f"/runs/{run.id}", *(f"/runs/{run.id}/look/{path}" for path in entries)]


def test_every_page_is_accessible_fits_and_stays_within_its_policy(
    live: Live, open_context: Callable[..., BrowserContext], complaints: list[str], axe: str
) -> None:
    page = open_context(bypass_csp=False).new_page()
    wrong, foreign = [], []
    page.on("request", lambda request: foreign.append(request.url))
    for paths in (lambda: EMPTY_PAGES, lambda: full_pages(live)):
        for path in paths():
            page.goto(path)
            if path == "/api/docs":
                page.locator(".opblock").first.wait_for()
                page.locator("#swagger-ui main[role=presentation]").wait_for()
            wrong += unsound(page, axe)
    assert wrong == []
    assert [url for url in foreign if not url.startswith((live.url, "data:"))] == []
    # The page that is not there is one; its 404 is all that the browser may complain of.
    assert [text for text in complaints if "404" not in text] == []


def test_the_system_decides_between_light_and_dark(
    open_context: Callable[..., BrowserContext],
) -> None:
    page = open_context(color_scheme="dark").new_page()
    page.goto("/")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.emulate_media(color_scheme="light")
    # Asked anew from here: the page's policy forbids Playwright's own waiting for an expression.
    deadline = time.monotonic() + 30
    while page.evaluate(ground) == dark:
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)


def test_the_keyboard_reaches_everything_from_a_visible_skip_link_on(page: Page) -> None:
    page.goto("/upload")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    assert skip.evaluate("link => link === document.activeElement")
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
