"""The gateway served for a real Chromium; runs are put into any state by `staged`."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import chromium as program
import pytest
import staged
from playwright.sync_api import Browser, BrowserContext, Page
from promised import missing
from watched import DESKTOP, Live
from werkzeug.serving import WSGIRequestHandler, make_server

from nias_bridge.http import create_app
from nias_bridge.services.bridge import Bridge

HERE = Path(__file__).parent


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        pass


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    bridge = staged.make_bridge(tmp_path)
    app = create_app(bridge)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    url = f"http://127.0.0.1:{server.port}"

    def cookie_of(signed_in: Bridge) -> dict[str, str]:
        return {**staged.cookie(app, signed_in), "url": url}

    yield Live(url, bridge, cookie_of(bridge), cookie_of)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with program.launched() as browser:
        yield browser


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained of: scripts that failed, policies that were broken."""
    return []


@pytest.fixture
def open_context(
    chromium: Browser, live: Live, complaints: list[str]
) -> Iterator[Callable[..., BrowserContext]]:
    """Opens windows on the gateway; each answers within ten seconds or the test fails.

    The owner of the staged runs is signed in, unless other cookies are given.
    """
    opened = []

    def make(cookies: list[dict[str, str]] | None = None, **options: object) -> BrowserContext:
        context = chromium.new_context(**{"base_url": live.url, "viewport": DESKTOP, **options})
        context.add_cookies([live.cookie] if cookies is None else cookies)
        context.set_default_timeout(10_000)
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        context.on(
            "console",
            lambda message: message.type == "error" and complaints.append(message.text),
        )
        opened.append(context)
        return context

    yield make
    for context in opened:
        context.close()


@pytest.fixture
def page(open_context: Callable[..., BrowserContext]) -> Page:
    return open_context().new_page()


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    return from_npm("axe-core/axe.min.js")


@pytest.fixture(scope="session")
def tus_js_client() -> str:
    """The source of tus-js-client."""
    return from_npm("tus-js-client/dist/tus.min.js")


def from_npm(path: str) -> str:
    """A file of the packages that package.json names, installed once beside this file."""
    script = HERE / "node_modules" / path
    with (HERE / "package.json").open() as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not script.exists():
            if shutil.which("npm") is None:
                missing(f"no npm here to install {path.partition('/')[0]}: apt-get install npm")
            subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"],
                cwd=HERE,
                check=True,
                timeout=120,
            )
    return script.read_text(encoding="utf-8")
