"""Who may do what over HTTP: by browser, by token, by link, and by nobody."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import staged
from apiflask import APIFlask
from client import zipped
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from nias_bridge.http import create_app
from nias_bridge.http.who import OPEN
from nias_bridge.people import KeyKind, Role, Scope, Standing
from nias_bridge.services import accounts, intake, keys, pieces, sharing
from nias_bridge.services.bridge import Bridge

PASSWORD = "violet tram across seven"


@pytest.fixture
def person(bridge: Bridge) -> str:
    """The address of somebody with a password."""
    link = keys.give_link(bridge, KeyKind.PASSWORD, bridge.person)
    accounts.set_password_by_link(bridge, link, PASSWORD)
    return bridge.person.email


@pytest.fixture
def browser(app: APIFlask) -> FlaskClient:
    """A browser in which nobody has signed in."""
    client = app.test_client()
    client.environ_base["HTTP_ACCEPT"] = "text/html"
    return client


def post(browser: FlaskClient, page: str, path: str = "", **fields: Any) -> TestResponse:
    """Send the form of a page, with the page's token."""
    return browser.post(path or page, data={"csrf_token": page_token(browser, page), **fields})


def page_token(browser: FlaskClient, page: str, **how: Any) -> str:
    """What a page's form carries against requests from elsewhere."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', browser.get(page, **how).text)
    return found[1] if found else ""


def sign_in(browser: FlaskClient, email: str, **fields: str) -> TestResponse:
    return post(browser, "/sign-in", email=email, password=PASSWORD, **fields)


def cookie(browser: FlaskClient) -> str:
    (kept,) = [c for c in browser._cookies.values() if c.key.startswith("nias_bridge_")]
    return kept.value


def signed_in(app: APIFlask, bridge: Bridge) -> FlaskClient:
    """A browser in which the bridge's caller has signed in."""
    client = app.test_client()
    client.environ_base["HTTP_ACCEPT"] = "text/html"
    told = staged.cookie(app, bridge)
    client.set_cookie(told["name"], told["value"], domain="localhost")
    return client


def rules_about_a_run(app: APIFlask) -> list[tuple[str, str]]:
    """Every method and path of the gateway that names a run, with run 1 and what else it takes."""
    filled = {"run_id": "1", "index": "0", "path": "a.txt", "name": "a.png", "key_id": "1"}
    found = []
    for rule in app.url_map.iter_rules():
        if "run_id" not in rule.arguments:
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda m: filled.get(m[1], "1"), rule.rule)
        found += [(method, path) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}]
    return sorted(found)


def test_nobody_gets_in_anywhere_but_to_sign_in(app: APIFlask, browser: FlaskClient) -> None:
    staged_paths = ["/", "/upload", "/results", "/account", "/runs/1", "/admin", "/compare?a=1&b=2"]
    for path in staged_paths:
        answer = browser.get(path)
        if answer.status_code != 404:  # an address that is none
            assert answer.status_code == 303, path
            assert answer.location.startswith("/sign-in"), path
    for method, path in rules_about_a_run(app):
        assert browser.open(path, method=method).status_code in (303, 401), (method, path)
    for path in ("/api/v1/runs", "/api/v1/runs/1", "/api/v1/compare?a=1&b=2"):
        answer = browser.get(path)
        assert answer.status_code == 401
        assert "Bearer" in answer.headers["WWW-Authenticate"]


def test_signing_in_leads_to_where_one_wanted_to_go(
    bridge: Bridge, browser: FlaskClient, person: str
) -> None:
    run = staged.add(bridge, "study")
    asked = browser.get(f"/runs/{run.id}?x=1")
    page = browser.get(asked.location).get_data(as_text=True)
    assert f'name="next" value="/runs/{run.id}?x=1"' in page
    answer = post(
        browser, asked.location, "/sign-in", email=person, password=PASSWORD, next="/runs/1?x=1"
    )
    assert answer.location == "/runs/1?x=1"
    assert browser.get(answer.location).status_code == 200


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.org/",
        "//evil.org",
        "/\\evil.org",
        "\\\\evil.org",
        "javascript:alert(1)",
        "/\t/evil.org",
        "/x\r\nSet-Cookie: a=b",
        "evil.org",
        "",
    ],
)
def test_signing_in_leads_to_no_other_site(
    browser: FlaskClient, person: str, elsewhere: str
) -> None:
    assert sign_in(browser, person, next=elsewhere).location == "/"


def test_wrong_and_unknown_are_one_answer(browser: FlaskClient, person: str) -> None:
    pages = {
        unescape(post(browser, "/sign-in", email=email, password=word).get_data(as_text=True))
        .replace(email, "")
        .split("<form")[0]
        for email, word in ((person, "wrong"), ("nobody@lab.org", PASSWORD))
    }
    assert len(pages) == 1
    assert "address or the password is wrong" in pages.pop()


def test_signing_in_begins_a_new_session_and_ends_the_one_that_was_planted(
    bridge: Bridge, app: APIFlask, browser: FlaskClient, person: str
) -> None:
    mallory = signed_in(app, staged.as_person(bridge, "mallory"))
    planted = cookie(mallory)
    browser.set_cookie("nias_bridge_8080", planted, domain="localhost")
    secret = keys.give_link(bridge, KeyKind.SIGN_IN, bridge.person)
    post(browser, f"/sign-in/{secret}")
    assert cookie(browser) != planted
    assert person in browser.get("/account").get_data(as_text=True)
    assert mallory.get("/account").status_code == 303


def test_signing_out_makes_the_cookie_worthless_wherever_it_was_copied(
    app: APIFlask, browser: FlaskClient, person: str
) -> None:
    sign_in(browser, person)
    thief = app.test_client()
    thief.set_cookie("nias_bridge_8080", cookie(browser), domain="localhost")
    assert thief.get("/account", headers={"Accept": "text/html"}).status_code == 200
    assert post(browser, "/account", "/sign-out").status_code == 303
    assert thief.get("/account", headers={"Accept": "text/html"}).status_code == 303


def test_signing_out_leaves_nothing_behind_in_the_browser(
    browser: FlaskClient, person: str
) -> None:
    sign_in(browser, person)
    answer = post(browser, "/account", "/sign-out")
    assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(
    browser: FlaskClient, person: str
) -> None:
    kept = sign_in(browser, person).headers["Set-Cookie"]
    assert "HttpOnly" in kept
    assert "SameSite=Lax" in kept
    assert "Expires" not in kept, "it goes with the browser"
    post(browser, "/account", "/sign-out")
    assert "Expires" in sign_in(browser, person, remember="on").headers["Set-Cookie"]


def test_behind_tls_the_cookie_is_never_sent_without(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path, public_url="https://nias.lab.org")
    app = create_app(bridge)
    assert app.config["SESSION_COOKIE_SECURE"]
    secret = keys.give_link(bridge, KeyKind.SIGN_IN, bridge.person)
    answer = app.test_client().get(f"https://localhost/sign-in/{secret}")
    kept = answer.headers["Set-Cookie"]
    # What browsers demand of a cookie so named: else they drop it, and nobody signs in.
    assert kept.startswith("__Host-")
    assert "Secure" in kept and "Path=/;" in f"{kept};" and "Domain" not in kept


@pytest.mark.parametrize("who", ["browser", "token"])
def test_everything_of_another_person_is_not_there(app: APIFlask, bridge: Bridge, who: str) -> None:
    run = staged.completed(bridge)
    assert run.id == 1
    sharing.share(bridge, run.id, 7)
    mallory = staged.as_person(bridge, "mallory")
    client = signed_in(app, mallory) if who == "browser" else staged.program(app, mallory)
    token = ""
    if who == "browser":
        token = page_token(client, "/upload")
    tried = 0
    for method, path in rules_about_a_run(app):
        if who == "browser" and path.startswith("/api/") and method != "GET":
            continue  # there a cookie may only read, whosever the run is
        if who == "token" and not path.startswith("/api/") and method != "GET":
            continue  # a page's form needs the page's token
        data = {"csrf_token": token, "days": "7", "rule": "x", "keep": "1"}
        form = None if method == "GET" else data
        answer = client.open(path, method=method, data=form, query_string={"rule": "x"})
        assert answer.status_code == 404, (method, path)
        assert "power-spectrum" not in answer.get_data(as_text=True)
        tried += 1
    assert tried > 20
    assert client.get(f"/compare?a={run.id}&b={run.id}").status_code == 404
    assert "power-spectrum" not in client.get("/results").get_data(as_text=True)
    assert client.get("/api/v1/runs").get_json()["total"] == 0
    assert not bridge.store.run(run.id).pinned


def test_another_persons_held_upload_is_not_there(
    app: APIFlask, bridge: Bridge, browser: FlaskClient
) -> None:
    mine, hers = signed_in(app, bridge), signed_in(app, staged.as_person(bridge, "mallory"))
    part = staged.arrived(bridge, zipped("study", {"code.py": ""}))
    upload = intake.hold(bridge, part, "study.zip")
    assert mine.get(f"/upload/{upload}").status_code == 200
    for path in (f"/upload/{upload}", f"/upload/{upload}/live"):
        assert hers.get(path).status_code == 404
    for path in (f"/upload/{upload}", f"/upload/{upload}/drop"):
        assert post(hers, "/upload", path).status_code == 404
    assert mine.get(f"/upload/{upload}").status_code == 200


@pytest.mark.parametrize("who", ["browser", "token"])
def test_another_persons_uploads_are_not_there_at_any_address(
    app: APIFlask, bridge: Bridge, who: str
) -> None:
    mallory = staged.as_person(bridge, "mallory")
    client = signed_in(app, mallory) if who == "browser" else staged.program(app, mallory)
    client.environ_base["HTTP_TUS_RESUMABLE"] = "1.0.0"
    client.environ_base["HTTP_UPLOAD_OFFSET"] = "0"
    if who == "browser":
        client.environ_base["HTTP_X_CSRFTOKEN"] = page_token(client, "/upload")
    begun = pieces.begin(bridge, 5, "study.zip")
    pieces.append(bridge, begun.id, 0, [b"ab"])
    tried = 0
    for rule in app.url_map.iter_rules():
        if "upload_id" not in rule.arguments:
            continue
        path = rule.rule.replace("<upload_id>", begun.id)
        own = path.startswith("/api/") == (who == "token")
        for method in sorted((rule.methods or set()) - {"OPTIONS"}) if own else ():
            told = {"X-HTTP-Method-Override": "DELETE"} if method == "POST" else {}
            kind = {"content_type": "application/offset+octet-stream"}
            answer = client.open(path, method=method, headers=told, data=b"", **kind)
            assert answer.status_code == 404, (method, path)
            tried += 1
    assert tried >= 4
    taken = {"browser": ("/upload", {"upload": begun.id}), "token": ("/api/v1/runs", None)}[who]
    answer = client.post(taken[0], data=taken[1], query_string={"upload": begun.id})
    assert answer.status_code == 404
    assert pieces.find(bridge, begun.id).offset == 2


def test_an_administrators_pages_are_not_there_for_others(app: APIFlask, bridge: Bridge) -> None:
    client = signed_in(app, bridge)
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("administration.") and not rule.arguments:
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS", "POST"}:
                assert client.open(rule.rule, method=method).status_code == 404


def test_a_token_that_reads_changes_nothing(app: APIFlask, bridge: Bridge) -> None:
    run = staged.completed(bridge)
    web = app.test_client()
    web.environ_base["HTTP_AUTHORIZATION"] = staged.token(bridge, Scope.READ)["Authorization"]
    assert web.get(f"/api/v1/runs/{run.id}").status_code == 200
    for method, path in rules_about_a_run(app):
        if method != "GET" and path.startswith("/api/"):
            answer = web.open(path, method=method)
            assert answer.status_code == 403, (method, path)
    answer = web.post("/api/v1/runs?filename=p.zip", data=zipped("p", {"code.py": ""}))
    assert answer.status_code == 403
    assert "scope submit" in answer.get_json()["detail"]


def test_a_token_is_worth_nothing_once_revoked(app: APIFlask, bridge: Bridge) -> None:
    web = staged.program(app, bridge)
    assert web.get("/api/v1/runs").status_code == 200
    (key,) = keys.mine(bridge, KeyKind.TOKEN)
    keys.revoke(bridge, key.id)
    answer = web.get("/api/v1/runs")
    assert answer.status_code == 401
    assert "unknown, expired or revoked" in answer.get_json()["detail"]


@pytest.mark.parametrize("header", ["Bearer", "Bearer x", "Basic bGFiOng=", "Bearer nias_", "junk"])
def test_what_is_no_token_is_told(app: APIFlask, header: str) -> None:
    answer = app.test_client().get("/api/v1/runs", headers={"Authorization": header})
    assert answer.status_code == 401


def test_a_cookie_may_read_the_api_and_not_change_by_it(app: APIFlask, bridge: Bridge) -> None:
    run = staged.running(bridge)
    client = signed_in(app, bridge)
    assert client.get(f"/api/v1/runs/{run.id}").status_code == 200
    assert client.post(f"/api/v1/runs/{run.id}/cancel").status_code == 401
    assert bridge.store.run(run.id).cancel_asked_at is None


def test_every_change_by_a_page_needs_the_pages_token(app: APIFlask, bridge: Bridge) -> None:
    staged.running(bridge)
    client = signed_in(app, bridge)
    rules = [rule for rule in app.url_map.iter_rules() if not rule.rule.startswith("/api/")]
    changes = [
        (method, re.sub(r"<(?:\w+:)?\w+>", "1", rule.rule))
        for rule in rules
        for method in (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}
    ]
    tried = 0
    for method, path in changes:
        headers = {"Accept": "text/html", "Tus-Resumable": "1.0.0"}
        answer = client.open(path, method=method, headers=headers)
        assert answer.status_code in (400, 404), path
        assert answer.status_code == 404 or "open for too long" in answer.get_data(as_text=True)
        tried += 1
    assert tried > 10
    assert bridge.store.run(1).cancel_asked_at is None


def test_a_shared_run_is_seen_without_an_account_and_nothing_else_is(
    app: APIFlask, bridge: Bridge, browser: FlaskClient
) -> None:
    run, other = staged.completed(bridge), staged.completed(bridge, "another")
    secret = sharing.share(bridge, run.id, 7)
    answer = browser.get(f"/shared/{secret}")
    assert answer.location == f"/runs/{run.id}"
    page = browser.get(answer.location).get_data(as_text=True)
    assert "power-spectrum" in page
    for word in ("Run again", "Pin this run", ">Share<", "Cancel</button>"):
        assert word not in page
    for file in ("results.zip", "files/spectrum.png"):
        with browser.get(f"/runs/{run.id}/{file}") as answer:
            assert answer.status_code == 200
    assert browser.get(f"/api/v1/runs/{run.id}/log").status_code == 200
    assert browser.get(f"/runs/{other.id}").status_code == 404
    assert browser.get("/results").status_code == 303
    assert post(browser, "/sign-in", f"/runs/{run.id}/again").status_code in (303, 401)
    (link,) = sharing.links(bridge, run.id)
    sharing.take_back(bridge, run.id, link.id)
    assert browser.get(f"/runs/{run.id}").status_code == 303
    assert browser.get(f"/shared/{secret}").status_code == 404


def test_too_many_wrong_passwords_are_told_with_when_to_come_back(
    browser: FlaskClient, person: str
) -> None:
    for _ in range(10):
        assert post(browser, "/sign-in", email=person, password="wrong").status_code == 401
    answer = sign_in(browser, person)
    assert answer.status_code == 429
    assert "Wait 15 min" in answer.get_data(as_text=True)


def test_a_megabyte_of_name_is_an_answer_and_no_load(browser: FlaskClient) -> None:
    answer = post(browser, "/sign-in", email="a" * 900_000, password="b" * 100)
    assert answer.status_code == 401
    answer = post(browser, "/register", email="m@lab.org", name="n" * 900_000, password=PASSWORD)
    assert answer.status_code == 400
    assert len(answer.data) < 1_000_000 + 20_000


def test_an_address_behind_a_proxy_is_believed_only_where_a_proxy_is_trusted(
    tmp_path: Path,
) -> None:
    for trusted, seen in ((0, "127.0.0.1"), (1, "203.0.113.9")):
        (tmp_path / str(trusted)).mkdir()
        bridge = staged.make_bridge(tmp_path / str(trusted), trusted_proxies=trusted)
        web = create_app(bridge).test_client()
        headers = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9", "X-Forwarded-Host": "evil.org"}
        token = page_token(web, "/sign-in", headers=headers)
        form = {"csrf_token": token, "email": "a@b.org", "password": "x"}
        page = web.post("/sign-in", data=form, headers=headers).get_data(as_text=True)
        ((_, deed),) = bridge.store.deeds.newest(action="sign-in refused")
        assert deed.address == seen
        assert "evil.org" not in page


def test_who_registers_with_a_weak_password_goes_on_where_it_is_written(
    browser: FlaskClient,
) -> None:
    fields = {"email": "eva@lab.org", "name": "Eva", "password": "password123"}
    pages = {
        "name": browser.get("/register").get_data(as_text=True),
        "password": post(browser, "/register", **fields).get_data(as_text=True),
    }
    for begun_at, page in pages.items():
        assert re.findall(r'<input [^>]*id="(\w+)"[^>]* autofocus', page) == [begun_at]


def test_an_account_that_waits_is_told_so_and_stays_outside(
    bridge: Bridge, browser: FlaskClient
) -> None:
    fields = {"email": "eva@lab.org", "name": "Eva", "password": PASSWORD}
    page = post(browser, "/register", **fields).get_data(as_text=True)
    assert "An administrator confirms new accounts" in page
    again = post(browser, "/register", **fields).get_data(as_text=True)
    assert again == page, "whether there was an account is not told"
    answer = sign_in(browser, "eva@lab.org")
    assert answer.status_code == 403
    assert "waits for an administrator" in answer.get_data(as_text=True)
    person = bridge.store.people.find(email="eva@lab.org")
    assert person is not None
    bridge.store.people.change(person.id, standing=Standing.ACTIVE)
    assert sign_in(browser, "eva@lab.org").status_code == 303


def test_a_token_is_made_shown_once_and_revoked_on_the_accounts_page(
    app: APIFlask, bridge: Bridge
) -> None:
    client = signed_in(app, bridge)
    made = post(client, "/account", "/account/tokens", name="laptop", scope="submit", days="30")
    secret = re.search(r"nias_[\w-]{40,}", made.get_data(as_text=True))
    assert secret
    assert secret[0] not in client.get("/account").get_data(as_text=True)
    known = {"Authorization": f"Bearer {secret[0]}"}
    assert app.test_client().get("/api/v1/runs", headers=known).status_code == 200
    refused = post(client, "/account", "/account/tokens", name="x", scope="admin", days="30")
    assert refused.status_code == 400
    (key,) = keys.mine(bridge, KeyKind.TOKEN)
    post(client, "/account", f"/account/keys/{key.id}/revoke")
    assert app.test_client().get("/api/v1/runs", headers=known).status_code == 401


def test_an_administrator_sees_whose_run_it_is(app: APIFlask, bridge: Bridge) -> None:
    run = staged.completed(bridge)
    ada = signed_in(app, staged.as_person(bridge, "ada", Role.ADMINISTRATOR))
    page = ada.get(f"/runs/{run.id}").get_data(as_text=True)
    assert "of Lab" in page
    assert "Run again" not in page


@pytest.mark.parametrize("scope", list(Scope))
def test_no_token_reaches_an_account_to_make_more_of_itself(
    app: APIFlask, bridge: Bridge, scope: Scope
) -> None:
    ada = staged.as_person(bridge, "ada", Role.ADMINISTRATOR)
    page = app.test_client()
    page.environ_base["HTTP_AUTHORIZATION"] = staged.token(ada, scope)["Authorization"]
    token = page_token(page, "/account")
    before = len(keys.mine(ada, KeyKind.TOKEN))
    form = {"csrf_token": token, "name": "more", "scope": "admin", "days": "30"}
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("accounts.") and rule.endpoint not in OPEN:
            path = rule.rule.replace("<int:key_id>", "1")
            for method in (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}:
                assert page.open(path, method=method, data=form).status_code == 403, path
    assert len(keys.mine(ada, KeyKind.TOKEN)) == before
