"""Claims about coming in: by password, by link, by registration, walked in a browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import staged
from playwright.sync_api import BrowserContext, Page, expect
from watched import Live, unsound_of

from nias_bridge.people import KeyKind, Standing
from nias_bridge.services import keys

PASSWORD = "violet tram across seven"
Open = Callable[..., BrowserContext]


@pytest.fixture
def stranger(open_context: Open) -> Page:
    """A browser in which nobody has signed in."""
    return open_context(cookies=[]).new_page()


def fill(page: Page, **fields: str) -> None:
    for label, text in fields.items():
        page.get_by_label(label.replace("_", " "), exact=True).fill(text)


def test_one_registers_is_confirmed_signs_in_and_out(
    live: Live, stranger: Page, complaints: list[str]
) -> None:
    page = stranger
    page.goto("/results")
    page.get_by_role("link", name="Ask for one").click()
    fill(page, Name="Eva Costa", **{"E-mail": "eva@lab.org"}, Password=PASSWORD)
    page.get_by_role("button", name="Ask for it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Thank you")
    page.get_by_role("link", name="To the sign-in").click()

    fill(page, **{"E-mail": "eva@lab.org"}, Password=PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("waits for an administrator")
    person = live.bridge.store.people.find(email="eva@lab.org")
    assert person
    live.bridge.store.people.change(person.id, standing=Standing.ACTIVE)
    fill(page, Password=PASSWORD)
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("link", name="Eva Costa")).to_be_visible()
    page.get_by_role("link", name="Eva Costa").click()
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page).to_have_title("Sign in · NIAS bridge")
    page.go_back()
    page.reload()
    expect(page).to_have_title("Sign in · NIAS bridge")
    assert [told for told in complaints if "403" not in told] == []


def test_a_link_sets_a_password_and_leads_inside(live: Live, stranger: Page) -> None:
    link = keys.give_link(live.bridge, KeyKind.PASSWORD, live.bridge.person)
    stranger.goto(f"/password/{link}")
    fill(stranger, Password="password12")
    stranger.get_by_role("button", name="Set it").click()
    expect(stranger.get_by_role("alert")).to_contain_text("quickly guessed")
    fill(stranger, Password=PASSWORD)
    stranger.get_by_role("button", name="Set it").click()
    expect(stranger.get_by_role("heading", level=1)).to_contain_text("Your analysis")
    stranger.goto(f"/password/{link}")
    expect(stranger.get_by_text("used already")).to_be_visible()


def test_a_sign_in_link_is_used_up_by_its_button_alone(live: Live, stranger: Page) -> None:
    link = keys.give_link(live.bridge, KeyKind.SIGN_IN, live.bridge.person)
    for _ in range(2):  # a mail program has looked at it before
        stranger.goto(f"/sign-in/{link}")
    stranger.get_by_role("button", name="Sign in").click()
    expect(stranger.get_by_role("link", name="Lab")).to_be_visible()


def test_a_token_is_made_and_another_browser_signed_out(
    live: Live, page: Page, open_context: Open
) -> None:
    other = keys.open_session(
        live.bridge, live.bridge.person, agent="Another browser", remember=True
    )
    page.goto("/account")
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Make a token").click()
    expect(page.get_by_label("The token", exact=True)).to_contain_text("nias_")
    page.get_by_role("listitem").filter(has_text="Another browser").get_by_role("button").click()
    expect(page.get_by_text("Another browser")).to_have_count(0)
    assert keys.known(live.bridge, KeyKind.SESSION, other, "") is None


def test_a_run_is_shared_by_a_link_and_taken_back(live: Live, page: Page, stranger: Page) -> None:
    run = staged.completed(live.bridge)
    page.goto(f"/runs/{run.id}")
    page.get_by_role("link", name="Share").click()
    page.get_by_role("button", name="Make a link").click()
    link = page.get_by_label("The link", exact=True).inner_text()
    path = link.removeprefix(live.bridge.settings.url)
    stranger.goto(path)
    expect(stranger.get_by_role("heading", level=1)).to_contain_text("power-spectrum")
    expect(stranger.get_by_role("link", name="Download results")).to_be_visible()
    expect(stranger.get_by_role("button", name="Run again")).to_have_count(0)
    page.get_by_role("button", name="Take back").click()
    expect(page.get_by_role("button", name="Take back")).to_have_count(0)
    stranger.reload()
    expect(stranger).to_have_title("Sign in · NIAS bridge")


def test_a_page_that_was_open_when_one_was_signed_out_leads_to_the_sign_in(
    live: Live, page: Page
) -> None:
    run = staged.running(live.bridge)
    page.goto(f"/runs/{run.id}")
    live.bridge.store.keys.drop_all(live.bridge.person.id, KeyKind.SESSION)
    expect(page).to_have_title("Sign in · NIAS bridge")


def test_the_pages_to_come_in_by_are_sound(live: Live, open_context: Open, axe: str) -> None:
    invited = keys.give_link(live.bridge, KeyKind.INVITATION, None)
    link = keys.give_link(live.bridge, KeyKind.PASSWORD, live.bridge.person)
    run = staged.completed(live.bridge)
    keys.give_token(live.bridge, "laptop", keys.Scope.SUBMIT, 30)
    for signed_in, paths in (
        (False, ("/sign-in", "/register", f"/register/{invited}", f"/password/{link}")),
        (True, ("/account", f"/runs/{run.id}/share")),
    ):
        how = {} if signed_in else {"cookies": []}
        page = open_context(**how).new_page()
        assert unsound_of(page, axe, paths) == []
