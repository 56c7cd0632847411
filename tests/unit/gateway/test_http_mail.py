"""The pages that lead to mails and webhooks: a forgotten password, what one wants to be told of."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import staged
from flask.testing import FlaskClient

from nias_bridge.http import create_app
from nias_bridge.people import MailWish
from nias_bridge.services.bridge import Bridge


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    return staged.make_bridge(tmp_path, smtp_url="smtp://127.0.0.1:25", mail_from="nias@lab.org")


@pytest.fixture
def browser(bridge: Bridge) -> FlaskClient:
    client = create_app(bridge).test_client()
    client.environ_base["HTTP_ACCEPT"] = "text/html"
    return client


def sign_in(browser: FlaskClient, bridge: Bridge) -> None:
    kept = staged.cookie(browser.application, bridge)
    browser.set_cookie(kept["name"], kept["value"], domain="localhost")


def sent(browser: FlaskClient, page: str, path: str = "", **fields: str) -> tuple[int, str]:
    token = re.search(r'name="csrf_token" value="([^"]+)"', browser.get(page).text)
    assert token
    answer = browser.post(path or page, data={"csrf_token": token[1], **fields})
    return answer.status_code, re.sub(r'value="[^"]+"', "", answer.text)


def test_known_and_unknown_addresses_get_one_answer(browser: FlaskClient, bridge: Bridge) -> None:
    assert 'href="/forgotten"' in browser.get("/sign-in").text
    answers = {
        sent(browser, "/forgotten", email=email)
        for email in ("lab@lab.org", "nobody@lab.org", "", "x" * 100_000, "a\nBcc: b@c.org")
    }
    assert len(answers) == 1
    ((status, page),) = answers
    assert status == 200
    assert "If somebody has an account under this address" in page
    errands = bridge.store.outbox.due(now=datetime.now(UTC), most=9)
    assert [len(errand.detail) for errand in errands] == [11, 14, 0, 255, 14]
    assert bridge.store.deeds.count("password asked", since=datetime(2026, 1, 1, tzinfo=UTC)) == 5


def test_asking_again_and_again_is_held_back(browser: FlaskClient) -> None:
    statuses = [sent(browser, "/forgotten", email="nobody@lab.org")[0] for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]


def test_without_a_mail_server_the_page_says_who_can_help(app: object, web: FlaskClient) -> None:
    assert "administrator can give you a link" in web.get("/forgotten").text
    assert "Mail when a run ends" not in web.get("/account").text


def test_one_chooses_what_one_is_told_of(browser: FlaskClient, bridge: Bridge) -> None:
    sign_in(browser, bridge)
    assert '<option value="none" selected>' in browser.get("/account").text
    assert sent(browser, "/account", "/account/mail", mail="all")[0] == 303
    assert '<option value="all" selected>' in browser.get("/account").text
    sent(browser, "/account", "/account/mail", mail="nonsense")
    assert bridge.store.people.person(bridge.person.id).mail is MailWish.ALL
    ((_, deed),) = bridge.store.deeds.newest(action="mail chosen", most=9)
    assert (deed.handle, deed.detail) == ("lab", "lab: all")


def test_a_webhook_is_set_with_a_secret_that_is_shown_once_and_dropped(
    browser: FlaskClient, bridge: Bridge
) -> None:
    sign_in(browser, bridge)
    status, page = sent(browser, "/account", "/account/webhook", url="http://10.0.0.1/")
    assert status == 400
    assert "within this site" in page
    status, page = sent(browser, "/account", "/account/webhook", url="https://93.184.216.34/x")
    assert status == 200
    hook = bridge.store.outbox.hook(bridge.person.id)
    assert hook is not None
    assert hook.secret in page
    bridge.store.outbox.note_trouble(bridge.person.id, "It answered with 500.")
    page = browser.get("/account").text
    assert hook.secret not in page
    assert "https://93.184.216.34/x" in page
    assert "It answered with 500." in page
    assert sent(browser, "/account", "/account/webhook/drop")[0] == 303
    assert bridge.store.outbox.hook(bridge.person.id) is None
