"""The upload page when the connection breaks, and an independent client in a browser."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from client import zipped
from playwright.sync_api import Page, Request, Route, expect
from staged import here
from watched import Live

from nias_bridge.services import pieces

MIB = 1024**2
PIECE = 8 * MIB


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of three pieces."""
    file = tmp_path_factory.mktemp("project") / "spectra.zip"
    file.write_bytes(zipped("spectra", {"code.py": "", "noise.bin": os.urandom(2 * PIECE + MIB)}))
    return file


def offsets(live: Live) -> Iterator[int]:
    for file in here(live.bridge).uploads.glob("*.coming"):
        yield pieces.find(live.bridge, file.stem).offset


def at(piece: Request) -> int:
    """Where in the upload a piece begins."""
    return int(piece.headers["upload-offset"])


def on_pieces(page: Page, meet: Callable[[Route], None]) -> None:
    """Let each piece that the page sends be met so."""
    page.route("**/uploads/*", lambda r: meet(r) if r.request.method == "PATCH" else r.continue_())


def found(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text("spectra")
    expect(page.get_by_text("noise.bin")).to_be_visible()


def test_an_upload_goes_on_by_itself_when_the_connection_broke(
    page: Page, live: Live, project: Path
) -> None:
    sent: list[int] = []
    broken = True

    def unsteady(route: Route) -> None:
        sent.append(at(route.request))
        if broken and len(sent) > 1:
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route(
        "**/uploads/*", lambda r: unsteady(r) if r.request.method == "PATCH" else r.continue_()
    )
    page.goto("/upload")
    page.locator("#file").set_input_files(project)
    expect(page.get_by_role("status")).to_contain_text("Nothing that was sent is lost")
    assert list(offsets(live)) == [PIECE]
    assert float(page.get_by_role("progressbar").get_attribute("value") or 0) > 30
    while sent.count(PIECE) < 2:  # it has tried again by itself
        page.wait_for_event("request")
    broken = False
    found(page)
    assert [sent[0], *sorted(set(sent[1:]))] == [0, PIECE, 2 * PIECE]
    assert (sent.count(0), sent.count(2 * PIECE)) == (1, 1)


def test_the_same_zip_chosen_again_later_goes_on_where_it_was(
    page: Page, live: Live, project: Path
) -> None:
    page.goto("/upload")
    on_pieces(page, lambda r: r.abort() if at(r.request) == PIECE else r.continue_())
    page.locator("#file").set_input_files(project)
    expect(page.get_by_role("status")).to_contain_text("trying again")
    page.reload()  # before its pieces come through again: it would send them by itself
    page.unroute_all()
    assert list(offsets(live)) == [PIECE]
    sent: list[int] = []
    page.on("request", lambda asked: sent.append(at(asked)) if asked.method == "PATCH" else None)
    page.locator("#file").set_input_files(project)
    found(page)
    assert sent == [PIECE, 2 * PIECE]


def test_a_stopped_upload_is_not_kept(page: Page, live: Live, project: Path) -> None:
    page.goto("/upload")
    page.route(
        "**/uploads/*",
        lambda r: None if r.request.headers.get("upload-offset") == str(PIECE) else r.continue_(),
    )
    page.locator("#file").set_input_files(project)
    expect(page.locator("[data-amount]")).to_contain_text("8.4 MB of")
    assert list(offsets(live)) == [PIECE]
    with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        page.get_by_role("button", name="Stop").click()
    expect(page.locator("#file")).to_be_visible()
    assert list(here(live.bridge).uploads.iterdir()) == []


def test_a_session_that_ended_meanwhile_is_told(page: Page, project: Path) -> None:
    page.goto("/upload")
    page.context.clear_cookies()
    page.locator("#file").set_input_files(project)
    expect(page.get_by_role("alert")).to_contain_text("Sign in first")


def test_tus_js_client_uploads_by_the_same_road_and_resumes(
    page: Page, live: Live, tus_js_client: str
) -> None:
    page.goto("/upload")
    page.evaluate(tus_js_client)
    broken: list[int] = []

    def once(route: Route) -> None:
        if at(route.request) == 200_000 and not broken:
            broken.append(at(route.request))
            route.abort("connectionreset")
        else:
            route.continue_()

    on_pieces(page, once)
    address = page.evaluate(
        """() => new Promise((resolve, reject) => {
            const upload = new tus.Upload(new File([new Uint8Array(500000)], "Análise.zip"), {
                endpoint: "/uploads",
                headers: { "X-CSRFToken": document.querySelector("[name=csrf_token]").value },
                chunkSize: 100000,
                retryDelays: [10, 10, 10],
                metadata: { filename: "Análise.zip" },
                onError: reject,
                onSuccess: () => resolve(upload.url),
            });
            upload.start();
        })"""
    )
    assert broken == [200_000]
    there = pieces.find(live.bridge, address.rpartition("/")[2])
    assert (there.offset, there.filename) == (500_000, "Análise.zip")
