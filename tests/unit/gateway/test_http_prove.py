"""What opens an account is changed by who has just shown who she is, not by who finds a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import staged
from apiflask import APIFlask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from nias_bridge.errands import Hook
from nias_bridge.http import who
from nias_bridge.people import KeyKind, Role
from nias_bridge.services import accounts, keys, unixaccounts
from nias_bridge.services.bridge import Bridge

PASSWORD, OTHER = "violet tram across seven", "seven trams cross violet"
LATER = timedelta(minutes=11)


@pytest.fixture
def owner(bridge: Bridge) -> Bridge:
    """The caller, who has a password and a webhook."""
    link = keys.give_link(bridge, KeyKind.PASSWORD, bridge.person)
    accounts.set_password_by_link(bridge, link, PASSWORD)
    hook = Hook(
        person_id=bridge.person.id,
        url="https://old.example/",
        secret="s",
        created_at=datetime.now(UTC),
    )
    bridge.store.outbox.save_hook(hook)
    return bridge


@pytest.fixture
def browser(app: APIFlask) -> FlaskClient:
    client = app.test_client()
    client.environ_base["HTTP_ACCEPT"] = "text/html"
    return client


def post(browser: FlaskClient, path: str, page: str = "/account", **form: Any) -> TestResponse:
    found = re.search(r'name="csrf_token" value="([^"]+)"', browser.get(page).text)
    return browser.post(path, data={"csrf_token": found[1] if found else "", **form})


def sign_in(browser: FlaskClient, bridge: Bridge) -> TestResponse:
    """The bridge's caller, whose password it is."""
    form = {"email": bridge.person.email, "password": PASSWORD}
    return post(browser, "/sign-in", "/sign-in", **form)


def wait(browser: FlaskClient) -> None:
    """It is some minutes later than when she showed who she is."""
    with browser.session_transaction() as carried:
        carried["proven"] -= LATER.total_seconds()


CHANGES: dict[str, tuple[str, dict[str, str], Callable[[Bridge], object]]] = {
    "a token": (
        "/account/tokens",
        {"name": "laptop", "scope": "submit", "days": "30"},
        lambda bridge: len(keys.mine(bridge, KeyKind.TOKEN)),
    ),
    "a webhook": (
        "/account/webhook",
        {"url": "https://93.184.216.34/x"},
        lambda bridge: bridge.store.outbox.hook(bridge.person.id),
    ),
    "no webhook": (
        "/account/webhook/drop",
        {},
        lambda bridge: bridge.store.outbox.hook(bridge.person.id),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_it_is_changed_soon_after_signing_in_and_later_by_the_password_alone(
    what: str, browser: FlaskClient, owner: Bridge
) -> None:
    path, form, look = CHANGES[what]
    before = look(owner)
    sign_in(browser, owner)
    wait(browser)
    asked = post(browser, path, **form)
    assert (asked.status_code, asked.location) == (303, "/account/prove")
    assert look(owner) == before
    page = browser.get("/account").text
    assert 'href="/account/prove"' in page
    assert 'action="/account/tokens"' not in page and 'action="/account/webhook"' not in page

    wrong = post(browser, "/account/prove", "/account/prove", password=OTHER)
    assert wrong.status_code == 400
    assert "password is wrong" in wrong.text
    assert post(browser, path, **form).location == "/account/prove"

    proven = post(browser, "/account/prove", "/account/prove", password=PASSWORD)
    assert (proven.status_code, proven.location) == (303, "/account")
    assert 'action="/account/tokens"' in browser.get("/account").text
    assert post(browser, path, **form).location != "/account/prove"
    assert look(owner) != before


@pytest.fixture
def chief(owner: Bridge, monkeypatch: pytest.MonkeyPatch) -> Bridge:
    """An administrator, who has a password; a job waits for whose account it is of."""
    monkeypatch.setattr(unixaccounts, "check", lambda accounts, name: None)
    made = staged.as_person(owner, "chief", Role.ADMINISTRATOR)
    link = keys.give_link(made, KeyKind.PASSWORD, made.person)
    accounts.set_password_by_link(made, link, PASSWORD)
    staged.unclaimed(made, "ana", "psd-study", job_id=70, at=datetime.now(UTC))
    return made


# What an administrator gives to another: which form of which page, and a word of it.
GIVEN = {
    "a link to set a password": ("/people/ID/links", "/people/ID", {"kind": "password"}),
    "a link to sign in": ("/people/ID/links", "/people/ID", {"kind": "sign-in"}),
    "a role": ("/people/ID/role", "/people/ID", {"role": "administrator"}),
    "an account": ("/people/ID/unix-account", "/people/ID", {"unix_account": "ana"}),
    "jobs": ("/unclaimed/ana", "/unclaimed", {"person": "ID"}),
}


@pytest.mark.parametrize("what", GIVEN)
def test_an_administrator_gives_it_soon_after_signing_in_and_later_by_the_password_alone(
    what: str, browser: FlaskClient, owner: Bridge, chief: Bridge
) -> None:
    number = str(owner.person.id)
    form = {name: word.replace("ID", number) for name, word in GIVEN[what][2].items()}
    path, page = (f"/admin{word.replace('ID', number)}" for word in GIVEN[what][:2])
    action = f'action="{path}"'

    def look() -> object:
        them = chief.store.people.person(owner.person.id)
        links = [d for _, d in chief.store.deeds.newest(handle="chief") if " link made" in d.action]
        return them.role, them.unix_account, len(links)

    before = look()
    sign_in(browser, chief)
    assert action in browser.get(page).text
    wait(browser)
    asked = post(browser, path, **form)
    prove = f"/account/prove?next={page}"
    assert (asked.status_code, asked.location) == (303, prove)
    assert look() == before
    shown = browser.get(page).text
    assert f'href="{prove}"' in shown and action not in shown

    wrong = post(browser, "/account/prove", prove, password=OTHER, next=page)
    assert wrong.status_code == 400 and f'name="next" value="{page}"' in wrong.text
    proven = post(browser, "/account/prove", prove, password=PASSWORD, next=page)
    assert (proven.status_code, proven.location) == (303, page)
    assert post(browser, path, **form).status_code in (200, 303)
    assert look() != before


@pytest.mark.parametrize("what", GIVEN)
def test_no_token_gives_it(what: str, app: APIFlask, owner: Bridge, chief: Bridge) -> None:
    program = staged.program(app, chief)
    path = f"/admin{GIVEN[what][0].replace('ID', str(owner.person.id))}"
    answer = post(program, path, "/upload", **GIVEN[what][2])
    assert answer.status_code == 403
    assert "sign in with a browser" in answer.text


def test_who_has_shown_it_is_sent_to_a_page_of_ours_alone(
    browser: FlaskClient, owner: Bridge
) -> None:
    sign_in(browser, owner)
    for elsewhere in ("https://evil.org/", "//evil.org", "/\\evil.org"):
        form = {"password": PASSWORD, "next": elsewhere}
        assert post(browser, "/account/prove", "/account/prove", **form).location == "/account"


def test_just_after_signing_in_nothing_more_is_asked(browser: FlaskClient, owner: Bridge) -> None:
    sign_in(browser, owner)
    path, form, look = CHANGES["a token"]
    assert post(browser, path, **form).status_code == 200
    assert look(owner) == 1


def test_a_wrong_password_is_one_of_those_that_close_an_account(
    browser: FlaskClient, owner: Bridge
) -> None:
    sign_in(browser, owner)
    wait(browser)
    for _ in range(10):
        assert post(browser, "/account/prove", "/account/prove", password=OTHER).status_code == 400
    closed = post(browser, "/account/prove", "/account/prove", password=PASSWORD)
    assert closed.status_code == 429


def test_what_was_shown_is_shown_in_that_browser_alone(
    app: APIFlask, browser: FlaskClient, owner: Bridge
) -> None:
    sign_in(browser, owner)
    wait(browser)
    other = app.test_client()
    other.environ_base["HTTP_ACCEPT"] = "text/html"
    sign_in(other, owner)
    path, form, _ = CHANGES["a token"]
    assert post(browser, path, **form).location == "/account/prove"
    assert post(other, path, **form).status_code == 200


def test_the_present_password_is_proof_enough_for_a_new_one_and_for_what_follows(
    browser: FlaskClient, owner: Bridge
) -> None:
    sign_in(browser, owner)
    wait(browser)
    refused = post(browser, "/account/password", old=OTHER, password="tram of seven violets")
    assert refused.status_code == 400
    changed = post(browser, "/account/password", old=PASSWORD, password="tram of seven violets")
    assert "Your password is changed" in changed.text
    path, form, _ = CHANGES["a token"]
    assert post(browser, path, **form).status_code == 200


def test_a_first_password_is_set_soon_after_the_link_that_one_came_by(
    browser: FlaskClient, bridge: Bridge
) -> None:
    for late in (True, False):
        link = keys.give_link(bridge, KeyKind.SIGN_IN, bridge.person)
        post(browser, f"/sign-in/{link}", f"/sign-in/{link}")
        if late:
            wait(browser)
            page = browser.get("/account").text
            assert 'action="/account/password"' not in page
            asked = post(browser, "/account/password", password=PASSWORD)
            assert asked.location == "/account/prove"
            assert "administrator can give you a link" in browser.get("/account/prove").text
            assert bridge.store.people.password(bridge.person.id) is None
    assert "Your password is changed" in post(browser, "/account/password", password=PASSWORD).text


def test_every_address_that_gives_a_way_into_an_account_asks(app: APIFlask) -> None:
    rules = {rule.endpoint: rule.methods or set() for rule in app.url_map.iter_rules()}
    changing = {
        name
        for name, methods in rules.items()
        if name.startswith("accounts.") and "POST" in methods
    }
    asks_itself = {"accounts.change_password", "accounts.send_proof"}
    harmless = {"accounts.choose_mail", "accounts.revoke", "accounts.sign_out"}
    told = who.OPEN | who.FOR_THE_PROVEN.keys() | asks_itself | harmless
    assert changing <= told


def test_a_forged_moment_is_none(browser: FlaskClient, owner: Bridge) -> None:
    sign_in(browser, owner)
    path, form, _ = CHANGES["a token"]
    for moment in (None, "now", (datetime.now(UTC) + timedelta(days=1)).timestamp()):
        with browser.session_transaction() as carried:
            carried["proven"] = moment
        assert post(browser, path, **form).location == "/account/prove"
