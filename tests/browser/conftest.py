"""The gateway served for a real Chromium; runs are put into any state by `staged`."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import chromium as program
import pytest
import staged
from playwright.sync_api import Browser, BrowserContext, Page, expect
from promised import missing
from watched import DESKTOP, Live, served

HERE = Path(__file__).parent
SECONDS = 30  # until what is waited for has come, on the busiest of machines
expect.set_options(timeout=SECONDS * 1000)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with served(staged.make_bridge(tmp_path)) as gateway:
        yield gateway


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
    """Opens windows on the gateway; each answers in time or the test fails.

    The owner of the staged runs is signed in, unless other cookies are given.
    """
    opened = []

    def make(cookies: list[dict[str, str]] | None = None, **options: object) -> BrowserContext:
        context = chromium.new_context(**{"base_url": live.url, "viewport": DESKTOP, **options})
        context.add_cookies([live.cookie] if cookies is None else cookies)
        context.set_default_timeout(SECONDS * 1000)
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        context.on(
            "console",
            lambda message: (
                message.type == "error"
                and complaints.append(f"{message.text} ({message.location['url']})")
            ),
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
                timeout=300,
            )
    return script.read_text(encoding="utf-8")
