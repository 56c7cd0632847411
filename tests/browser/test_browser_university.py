"""Claims about sign-in with the university's own, walked in a browser from one site to another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import staged
from freeports import free_port
from issuers import provider, vouch
from playwright.sync_api import BrowserContext, expect
from watched import Live, served, unsound_of

from nias_bridge.services import hooks

Open = Callable[..., BrowserContext]


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """On another site than the gateway: localhost is not 127.0.0.1, to a browser."""
    with provider(free_port(), "localhost") as address:
        yield address


@pytest.fixture
def live(tmp_path: Path, issuer: str) -> Iterator[Live]:
    """A gateway that knows the issuer, and has a mail server."""
    port = free_port()
    bridge = staged.make_bridge(
        tmp_path,
        port=port,
        registration="open",
        oidc_issuer=issuer,
        oidc_client_id="nias",
        oidc_client_secret="s",
        smtp_url="smtp://127.0.0.1:25",
        mail_from="nias@lab.org",
    )
    with served(bridge, port) as gateway:
        yield gateway


def test_one_signs_in_at_the_university_and_comes_back_to_where_one_wanted(
    live: Live, open_context: Open, issuer: str, complaints: list[str]
) -> None:
    vouch(issuer, "maria", email="maria@uni.org", email_verified=True, name="Maria Silva")
    page = open_context(cookies=[]).new_page()
    page.goto("/results")
    page.get_by_role("link", name="Sign in with your university account").click()
    page.wait_for_url(f"{issuer}/**")
    page.locator("input[name=sub]").fill("maria")
    page.locator("form:has(input[name=sub]) button").first.click()
    page.wait_for_url(f"{live.url}/results")
    expect(page.get_by_role("link", name="Maria Silva")).to_be_visible()
    assert live.bridge.store.people.find(subject=f"{issuer}|maria")
    # What the provider's own pages lack is not ours to mend.
    assert [told for told in complaints if "Policy" in told] == []


def test_the_pages_with_all_that_can_be_set_are_sound(
    live: Live, open_context: Open, axe: str
) -> None:
    hooks.set_hook(live.bridge, "https://93.184.216.34/" + "a-long-way/" * 20)
    live.bridge.store.outbox.note_trouble(live.bridge.person.id, "It answered with 500.")
    for signed_in, paths in ((False, ("/sign-in", "/forgotten")), (True, ("/account",))):
        how = {} if signed_in else {"cookies": []}
        page = open_context(**how).new_page()
        assert unsound_of(page, axe, paths) == []
