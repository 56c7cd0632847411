"""The road of a dataset in a browser: sent, unpacked, ticked, and seen by a run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from client import zipped
from playwright.sync_api import Page, expect
from watched import Live

from nias_bridge.services import datasets, deliveries


@pytest.fixture
def unpacking(live: Live) -> Iterator[None]:
    """What the poller does."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            deliveries.deliver(live.bridge)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.usefixtures("unpacking")
def test_a_dataset_is_sent_ticked_and_seen_by_a_run(
    page: Page, live: Live, tmp_path: Path, complaints: list[str]
) -> None:
    data, project = tmp_path / "my eeg.zip", tmp_path / "study.zip"
    data.write_bytes(zipped("my eeg", {"sub-01/rest.edf": b"1" * 5000, "table.csv": "1,2\n"}))
    project.write_bytes(zipped("study", {"code.py": ""}))
    page.goto("/")
    page.get_by_role("link", name="Datasets").click()
    expect(page.get_by_text("How your code reads it")).to_be_visible()
    page.locator("#file").set_input_files(data)
    expect(page.get_by_label("Name")).to_have_value("my-eeg")
    page.get_by_label("Name").fill("eeg")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("eeg")
    version = page.locator("#versions table th a")
    expect(version).to_have_count(1)
    (found,) = datasets.visible(live.bridge)
    expect(version).to_have_text(found.versions[0].short)
    version.click()
    expect(page.get_by_text("sub-01/rest.edf")).to_be_visible()

    page.goto("/upload")
    page.locator("#file").set_input_files(project)
    box = page.get_by_role("checkbox", name="eeg")
    expect(box).not_to_be_checked()
    box.check()
    page.get_by_role("button", name="Run it").click()
    facts = page.locator("#facts")
    expect(facts.get_by_role("heading", name="Datasets")).to_be_visible()
    expect(facts.get_by_text(found.versions[0].short)).to_be_visible()

    page.goto(f"/datasets/{found.id}")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete this dataset").click()
    expect(page.get_by_role("alert")).to_contain_text("in use by runs that have not ended: 1")
    # The refusal is all that the browser may complain of.
    assert [text for text in complaints if "409" not in text] == []


def test_what_can_not_be_taken_is_told_where_it_was_chosen(page: Page, tmp_path: Path) -> None:
    bad = tmp_path / "eeg.zip"
    bad.write_bytes(b"no zip at all")
    page.goto("/datasets")
    page.locator("#file").set_input_files(bad)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("This can’t be taken.")
    expect(page.get_by_role("alert")).to_contain_text("not a zip")
    expect(page.locator("[data-drop]")).to_be_visible()
