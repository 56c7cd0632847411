"""What the tests of pages look at, and through which windows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import staged
from playwright.sync_api import Page
from werkzeug.serving import WSGIRequestHandler, make_server

from nias_bridge.http import create_app
from nias_bridge.services.bridge import Bridge

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1200, "height": 900}
# Swagger UI is not ours to mend.
AXE = "axe.run({exclude: [['#swagger-ui']]}, {resultTypes: ['violations']})"


@dataclass(frozen=True)
class Live:
    """A gateway that is served, its bridge to change what it shows, and the cookie of a browser
    in which the owner of the staged runs has signed in; cookie_of is that of another's."""

    url: str
    bridge: Bridge
    cookie: dict[str, str]
    cookie_of: Callable[..., dict[str, str]]


def unsound(page: Page, axe: str) -> list[str]:
    """What is wrong with the page that is shown, light and dark, on a desk and on a phone: what
    axe-core says, and that it is too wide."""
    page.evaluate(axe)
    before = page.viewport_size
    wrong = []
    for window, colours in product((DESKTOP, PHONE), ("light", "dark")):
        _show(page, window, colours)
        found: dict[str, Any] = page.evaluate(AXE)
        wrong += [
            f"{page.url}, {window['width']} px, {colours}: {broken['id']}: {node['target']} "
            f"{node['failureSummary']}"
            for broken in found["violations"]
            for node in broken["nodes"]
        ]
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > window["width"]:
            wrong.append(f"{page.url} is {width} px wide, on {window['width']}")
    if before:
        page.set_viewport_size(before)
    return wrong


def unsound_of(page: Page, axe: str, paths: Iterable[str]) -> list[str]:
    """What is wrong with the pages at these addresses."""
    wrong = []
    for path in paths:
        page.goto(path)
        wrong += unsound(page, axe)
    return wrong


def _show(page: Page, window: dict[str, int], colours: str) -> None:
    page.set_viewport_size(window)
    page.emulate_media(color_scheme=colours, reduced_motion="reduce")
    # Asked again and again from here: the page's policy forbids Playwright's own waiting.
    deadline = time.monotonic() + 30
    while page.evaluate("document.documentElement.dataset.bsTheme") not in (colours, None):
        assert time.monotonic() < deadline, f"{page.url} does not become {colours}"
        page.wait_for_timeout(10)


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        pass


@contextmanager
def served(bridge: Bridge, port: int = 0) -> Iterator[Live]:
    """The bridge's gateway on loopback; on any port that is free where none is named."""
    app = create_app(bridge)
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    url = f"http://127.0.0.1:{server.port}"

    def cookie_of(signed_in: Bridge, minutes_ago: float = 0) -> dict[str, str]:
        return {**staged.cookie(app, signed_in, minutes_ago), "url": url}

    yield Live(url, bridge, cookie_of(bridge), cookie_of)
    server.shutdown()
    thread.join()
    server.server_close()
