"""A researcher's road on the cluster of containers, walked in Chromium from the printed link on."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator

import chromium
import pytest
from client import zipped
from containers import Containers
from playwright.sync_api import Page, expect

PROJECT = {
    "code.py": "import socket\nopen('output/where.txt', 'w').write(socket.gethostname())\n",
    "requirements.txt": "",
}
RUN_MS = 60_000


@pytest.fixture
def page(containers: Containers) -> Iterator[Page]:
    with chromium.launched() as browser:
        page = browser.new_page(base_url=containers.url)
        page.set_default_timeout(20_000)
        yield page


def test_the_printed_link_signs_in_and_an_upload_comes_back_from_a_node(
    containers: Containers, page: Page
) -> None:
    told = containers.compose("logs", "--no-log-prefix", "gateway")
    (link,) = re.findall(r"as ana@example\.org, once.*: (\S+)$", told, re.MULTILINE)
    assert link.startswith(f"{containers.url}/")
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("link", name="Ana Costa")).to_be_visible()

    page.goto("/upload")
    body = zipped("Where it runs", PROJECT)
    page.locator("#file").set_input_files(
        {"name": "project.zip", "mimeType": "application/zip", "buffer": body}
    )
    page.get_by_role("button", name="Run it").click()
    status = page.locator("#status")
    expect(status).to_contain_text("Completed", timeout=RUN_MS)
    shown = re.search(r"It ran for .* on (c1|c2)\.", status.inner_text())
    assert shown, status.inner_text()

    with page.expect_download() as download:
        page.get_by_role("link", name="Download results").click()
    with zipfile.ZipFile(download.value.path()) as results:
        assert results.read("where.txt").decode() == shown[1]

    page.goto(link)
    expect(page.get_by_text("used already")).to_be_visible()
