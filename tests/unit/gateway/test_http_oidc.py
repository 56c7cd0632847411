"""Signing in with the university's own: a real OpenID provider, and one that lies."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import staged
from apiflask import APIFlask
from flask.testing import FlaskClient
from freeports import free_port
from issuers import provider, vouch
from werkzeug.test import TestResponse

from nias_bridge.errands import Hook
from nias_bridge.http import create_app, oidc
from nias_bridge.http.here import KEY
from nias_bridge.people import KeyKind, Person, Role, Scope, Standing
from nias_bridge.services import accounts, keys
from nias_bridge.services.bridge import Bridge

PASSWORD = "violet tram across seven"
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
LONG_AGO = int(time.time()) - 3600
MARIA = {"email": "maria@lab.org", "email_verified": True, "name": "Maria Silva"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with provider(free_port()) as address:
        yield address


@pytest.fixture
def make_browser(tmp_path: Path, issuer: str) -> Callable[..., FlaskClient]:
    """Makes a browser before a gateway that knows the issuer, and has further settings."""

    def make(**settings: Any) -> FlaskClient:
        told = {"oidc_issuer": issuer, "oidc_client_id": "nias", "oidc_client_secret": "s"}
        made = staged.make_bridge(tmp_path, **{"registration": "open", **told, **settings})
        client = create_app(made).test_client()
        client.environ_base["HTTP_ACCEPT"] = "text/html"
        return client

    return make


@pytest.fixture
def browser(make_browser: Callable[..., FlaskClient]) -> FlaskClient:
    return make_browser()


def bridge_of(browser: FlaskClient) -> Bridge:
    made: Bridge = browser.application.extensions["nias_bridge"]
    return made


def begin(browser: FlaskClient, where: str = "/oidc") -> str:
    """The issuer's address that the gateway sends the browser to."""
    answer = browser.get(where)
    assert answer.status_code == 302, answer.get_data(as_text=True)
    return str(answer.location)


def say_yes(address: str, sub: str, **form: str) -> str:
    """She signs in at the issuer, which sends her back to this path of the gateway."""
    answer = requests.post(address, data={"sub": sub, **form}, allow_redirects=False, timeout=30)
    assert answer.status_code == 302, answer.text
    back = urlsplit(answer.headers["Location"])
    return f"{back.path}?{back.query}"


def come(browser: FlaskClient, sub: str, where: str = "/oidc") -> TestResponse:
    """The whole way: off to the issuer, and back."""
    return browser.get(say_yes(begin(browser, where), sub))


def found(browser: FlaskClient, email: str = "maria@lab.org") -> Person:
    person = bridge_of(browser).store.people.find(email=email)
    assert person is not None
    return person


def told(answer: TestResponse) -> str:
    return answer.get_data(as_text=True)


def nobody_is_in(browser: FlaskClient) -> bool:
    return browser.get("/account").status_code == 303


def test_the_code_flow_has_state_nonce_and_pkce(browser: FlaskClient, issuer: str) -> None:
    page = told(browser.get("/sign-in?next=/results"))
    assert 'href="/oidc?next=/results"' in page
    assert "Sign in with your university account" in page
    asked = parse_qs(urlsplit(begin(browser)).query)
    assert asked["response_type"] == ["code"]
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == ["http://127.0.0.1:8080/oidc/back"]
    for name in ("state", "nonce", "code_challenge"):
        assert len(asked[name][0]) >= 20


def test_who_is_vouched_for_gets_an_account_and_is_led_where_she_wanted(
    browser: FlaskClient, issuer: str
) -> None:
    vouch(issuer, "maria", **MARIA)
    answer = come(browser, "maria", "/oidc?next=/results")
    assert (answer.status_code, answer.location) == (303, "/results")
    assert "Maria Silva" in told(browser.get("/account"))
    person = found(browser)
    assert (person.subject, person.standing) == (f"{issuer}|maria", Standing.ACTIVE)
    vouch(issuer, "maria", **{**MARIA, "email": "maria.silva@new.org"})
    come(browser.application.test_client(), "maria")
    assert [p.handle for p in bridge_of(browser).store.people.all()] == ["lab", "maria"]


@pytest.mark.parametrize("elsewhere", ["https://evil.org/", "//evil.org", "/\\evil.org"])
def test_it_leads_to_no_other_site(browser: FlaskClient, issuer: str, elsewhere: str) -> None:
    vouch(issuer, "maria", **MARIA)
    assert come(browser, "maria", f"/oidc?next={elsewhere}").location == "/"


def test_a_forged_state_signs_nobody_in(browser: FlaskClient, issuer: str) -> None:
    vouch(issuer, "maria", **MARIA)
    back = say_yes(begin(browser), "maria")
    for forged in (back.replace("state=", "state=x"), back.split("&state")[0], "/oidc/back"):
        answer = browser.get(forged)
        assert answer.status_code == 401
        assert "begun elsewhere" in told(answer)
    stranger = browser.application.test_client()
    assert stranger.get(back).status_code == 401, "the code is good in her own browser alone"
    assert nobody_is_in(browser)


def test_a_code_is_good_once(browser: FlaskClient, issuer: str) -> None:
    vouch(issuer, "maria", **MARIA)
    back = say_yes(begin(browser), "maria")
    assert browser.get(back).status_code == 303
    assert browser.application.test_client().get(back).status_code == 401


def test_a_nonce_that_is_not_ours_signs_nobody_in(browser: FlaskClient, issuer: str) -> None:
    vouch(issuer, "maria", **MARIA)
    address = begin(browser).replace("nonce=", "nonce=another")
    answer = browser.get(say_yes(address, "maria"))
    assert answer.status_code == 401
    assert "can’t be trusted" in told(answer)
    assert nobody_is_in(browser)


@pytest.mark.parametrize(
    "lie",
    [
        {"aud": "another-client"},
        {"aud": ["another-client"], "azp": "nias"},
        {"iss": "https://elsewhere.org"},
        {"exp": int(time.time()) - 600},
        {"nbf": int(time.time()) + 6000},
        {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
    ],
)
def test_a_token_that_is_not_for_us_or_not_of_now_signs_nobody_in(
    browser: FlaskClient, issuer: str, lie: dict[str, Any]
) -> None:
    vouch(issuer, "liar", **{**MARIA, **lie})
    answer = browser.get(say_yes(begin(browser), "liar"))
    assert answer.status_code == 401
    assert "can’t be trusted" in told(answer)
    assert nobody_is_in(browser)


def resigned(id_token: str, header: dict[str, str] | None, **claims: Any) -> str:
    """The token with other claims, under the signature (or the header) that it had."""
    parts = id_token.split(".")

    def packed(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    if header is not None:
        parts[0], parts[2] = packed(header), ""
    body = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
    parts[1] = packed({**body, **claims})
    return ".".join(parts)


@pytest.mark.parametrize("header", [None, {"alg": "none"}, {"alg": "HS256"}])
def test_a_token_without_the_issuers_signature_signs_nobody_in(
    browser: FlaskClient,
    issuer: str,
    monkeypatch: pytest.MonkeyPatch,
    header: dict[str, str] | None,
) -> None:
    vouch(issuer, "mallory", **{**MARIA, "email": "mallory@lab.org"})
    with browser.application.app_context():
        client = oidc._client()
    fetch = client.fetch_access_token

    def forged(**how: Any) -> Any:
        token = fetch(**how)
        return {**token, "id_token": resigned(token["id_token"], header, sub="maria")}

    monkeypatch.setattr(client, "fetch_access_token", forged)
    answer = come(browser, "mallory")
    assert answer.status_code == 401
    assert "can’t be trusted" in told(answer)
    monkeypatch.setattr(client, "fetch_access_token", lambda **how: {"access_token": "x"})
    assert come(browser, "mallory").status_code == 401, "no ID token at all"
    assert nobody_is_in(browser)


def test_refusing_at_the_issuer_is_told(browser: FlaskClient, issuer: str) -> None:
    answer = browser.get(say_yes(begin(browser), "maria", action="deny"))
    assert answer.status_code == 403
    assert "given up" in told(answer)


def a_person(browser: FlaskClient, **more: Any) -> Person:
    """Somebody who has an account with a password, a session and a token."""
    bridge = bridge_of(browser)
    person = accounts.register(bridge, "maria@lab.org", "Maria", PASSWORD)
    assert person is not None
    keys.open_session(bridge, person, agent="", remember=False)
    keys.token_for(bridge, person, "t", Scope.SUBMIT, 9)
    return bridge.store.people.change(person.id, **more) if more else person


def test_an_unproven_address_opens_nobodys_account(browser: FlaskClient, issuer: str) -> None:
    person = a_person(browser)
    for claims in ({}, {"email_verified": False}, {"email_verified": "true"}):
        vouch(issuer, "mallory", **{"email": "MARIA@lab.org", "name": "M", **claims})
        answer = come(browser, "mallory")
        assert answer.status_code == 403
        assert "link it on your account’s page" in told(answer)
    assert bridge_of(browser).store.people.person(person.id) == person
    assert nobody_is_in(browser)


def test_a_proven_address_opens_its_account_and_shuts_out_whoever_wrote_it_down(
    browser: FlaskClient, issuer: str
) -> None:
    person = a_person(browser)
    store = bridge_of(browser).store
    told_to = Hook(person_id=person.id, url="https://evil.org/", secret="s", created_at=NOON)
    store.outbox.save_hook(told_to)
    vouch(issuer, "maria", **MARIA)
    assert come(browser, "maria").status_code == 303
    assert found(browser).subject == f"{issuer}|maria"
    assert store.people.password(person.id) is None
    assert len(store.keys.of(KeyKind.SESSION, person_id=person.id)) == 1, "her own"
    assert store.keys.of(KeyKind.TOKEN, person_id=person.id) == []
    assert store.outbox.hook(person.id) is None


def test_an_account_of_one_subject_is_no_other_subjects(browser: FlaskClient, issuer: str) -> None:
    a_person(browser, subject=f"{issuer}|the-other-maria")
    vouch(issuer, "maria", **MARIA)
    answer = come(browser, "maria")
    assert answer.status_code == 403
    assert "linked to another sign-in" in told(answer)
    assert nobody_is_in(browser)


def sign_in(browser: FlaskClient, bridge: Bridge) -> None:
    kept = staged.cookie(browser.application, bridge)
    browser.set_cookie(kept["name"], kept["value"], domain="localhost")


def prove(browser: FlaskClient, sub: str, back: str = "/account") -> TestResponse:
    """She follows the link to show anew who she is."""
    browser.environ_base["HTTP_REFERER"] = "http://localhost/account/prove"
    address = begin(browser, f"/oidc/prove?next={back}")
    asked = parse_qs(urlsplit(address).query)
    assert (asked["prompt"], asked["max_age"]) == (["login"], ["0"])
    return browser.get(say_yes(address, sub))


def may_change(browser: FlaskClient) -> bool:
    return 'action="/account/tokens"' in told(browser.get("/account"))


def test_who_signs_in_at_the_university_signs_in_there_anew_before_she_changes_anything(
    browser: FlaskClient, issuer: str
) -> None:
    vouch(issuer, "maria", **MARIA, auth_time=LONG_AGO)
    come(browser, "maria")
    assert not may_change(browser), "she may have been signed in there for days"
    assert 'href="/oidc/prove?next=/account"' in told(browser.get("/account/prove"))
    vouch(issuer, "maria", **MARIA, auth_time=int(time.time()))
    for back, where in (("/admin/people/2", "/admin/people/2"), ("//evil.org", "/account")):
        assert prove(browser, "maria", back).location == where
    assert may_change(browser)


@pytest.mark.parametrize(
    "auth_time",
    [None, "now", LONG_AGO, int(time.time()) + 3600, 10**30],
    ids=["none", "a word", "long ago", "to come", "no time"],  # the same whenever they are made
)
def test_an_issuer_that_did_not_ask_her_proves_nothing(
    browser: FlaskClient, issuer: str, auth_time: Any
) -> None:
    vouch(issuer, "maria", **MARIA, auth_time=LONG_AGO)
    come(browser, "maria")
    vouch(issuer, "maria", **MARIA, auth_time=auth_time)
    answer = prove(browser, "maria")
    assert answer.status_code in (401, 403)
    assert not may_change(browser)


def test_another_persons_sign_in_proves_nothing(browser: FlaskClient, issuer: str) -> None:
    vouch(issuer, "maria", **MARIA, auth_time=LONG_AGO)
    come(browser, "maria")
    vouch(issuer, "eva", email="eva@lab.org", email_verified=True, auth_time=int(time.time()))
    answer = prove(browser, "eva")
    assert answer.status_code == 403
    assert "somebody else" in told(answer)
    assert not may_change(browser)


def test_who_has_just_signed_in_there_is_asked_nothing_more(
    browser: FlaskClient, issuer: str
) -> None:
    vouch(issuer, "maria", **MARIA, auth_time=int(time.time()))
    come(browser, "maria")
    assert may_change(browser)


def test_another_site_cant_begin_the_proof(browser: FlaskClient, issuer: str) -> None:
    vouch(issuer, "maria", **MARIA)
    come(browser, "maria")
    browser.environ_base["HTTP_REFERER"] = "https://evil.org/"
    assert browser.get("/oidc/prove").status_code == 403


def link(browser: FlaskClient, sub: str) -> TestResponse:
    """She follows the link on her account's page."""
    browser.environ_base["HTTP_REFERER"] = "http://localhost/account"
    return come(browser, sub, "/oidc/link")


def test_who_is_signed_in_links_her_own_account_whatever_its_address(
    browser: FlaskClient, issuer: str
) -> None:
    bridge = bridge_of(browser)
    sign_in(browser, bridge)
    assert 'href="/oidc/link">link your university account' in told(browser.get("/account"))
    vouch(issuer, "work", email="x@elsewhere.org")
    assert link(browser, "work").location == "/account"
    assert found(browser, "lab@lab.org").subject == f"{issuer}|work"
    other = browser.application.test_client()
    assert come(other, "work").status_code == 303
    assert "lab@lab.org" in told(other.get("/account", headers={"Accept": "text/html"}))
    assert link(browser, "another").status_code == 403, "her account has one already"

    sign_in(browser, staged.as_person(bridge, "mallory"))
    answer = link(browser, "work")
    assert answer.status_code == 400
    assert "somebody else" in told(answer)


@pytest.mark.parametrize("referrer", ["", "https://evil.org/", "https://evil.org/localhost"])
def test_no_other_site_begins_the_linking(browser: FlaskClient, referrer: str) -> None:
    assert browser.get("/oidc/link").status_code == 303, "nobody is signed in"
    sign_in(browser, bridge_of(browser))
    answer = browser.get("/oidc/link", headers={"Referer": referrer})
    assert answer.status_code == 403
    assert browser.get("/oidc?next=/results").location == "/results", "that only signs in"
    assert found(browser, "lab@lab.org").subject is None


def test_no_token_begins_the_linking(browser: FlaskClient, issuer: str) -> None:
    for scope in Scope:
        headers = staged.token(bridge_of(browser), scope)
        answer = browser.get(
            "/oidc/link", headers={**headers, "Referer": "http://localhost/account"}
        )
        assert answer.status_code == 403


def test_who_signed_in_meanwhile_is_not_linked(browser: FlaskClient, issuer: str) -> None:
    vouch(issuer, "maria", **MARIA)
    back = say_yes(begin(browser), "maria")
    kept = staged.cookie(browser.application, bridge_of(browser))["value"]
    with browser.session_transaction() as session:
        signer = browser.application.session_interface.get_signing_serializer(browser.application)
        assert signer is not None
        session["key"] = signer.loads(kept)["key"]
    assert browser.get(back).status_code == 401
    assert found(browser, "lab@lab.org").subject is None


def test_a_disabled_person_stays_out(browser: FlaskClient, issuer: str) -> None:
    vouch(issuer, "maria", **MARIA)
    come(browser, "maria")
    bridge_of(browser).store.people.change(found(browser).id, standing=Standing.DISABLED)
    answer = come(browser.application.test_client(), "maria")
    assert answer.status_code == 403
    assert "closed by an administrator" in told(answer)


@pytest.mark.parametrize(
    ("settings", "claims", "standing"),
    [
        ({"registration": "open"}, {}, Standing.ACTIVE),
        ({"registration": "open"}, {"email_verified": False}, Standing.WAITING),
        ({"registration": "confirmed"}, {}, Standing.WAITING),
        ({"registration": "closed"}, {}, None),
        ({"registration": "closed", "oidc_groups": ("lab",)}, {"groups": ["lab"]}, Standing.ACTIVE),
        ({"registration": "open", "oidc_groups": ("lab",)}, {"groups": ["art"]}, None),
        ({"registration": "open", "oidc_groups": ("lab",)}, {}, None),
        (
            {"registration": "closed", "oidc_groups": ("lab",), "oidc_groups_claim": "isMemberOf"},
            {"isMemberOf": "lab"},
            Standing.ACTIVE,
        ),
        ({"registration": "open"}, {"email": None}, None),
        ({"registration": "open"}, {"email": "no address"}, None),
    ],
)
def test_who_comes_in_is_as_the_site_says(
    make_browser: Callable[..., FlaskClient],
    issuer: str,
    settings: dict[str, Any],
    claims: dict[str, Any],
    standing: Standing | None,
) -> None:
    browser = make_browser(**settings)
    sub = "new-maria"
    vouch(issuer, sub, **{**MARIA, **claims})
    answer = come(browser, sub)
    assert (answer.status_code == 303) == (standing is Standing.ACTIVE), told(answer)
    person = bridge_of(browser).store.people.find(subject=f"{issuer}|{sub}")
    assert (person and person.standing) == standing


def test_her_groups_decide_her_role_at_every_sign_in(
    make_browser: Callable[..., FlaskClient], issuer: str
) -> None:
    browser = make_browser(oidc_admin_groups=("nias-admins",))
    bridge: Bridge = browser.application.extensions[KEY]
    other = staged.as_person(bridge, "ada", Role.ADMINISTRATOR).who.person
    assert other
    for groups, role in (
        (["nias-admins", "x"], Role.ADMINISTRATOR),
        (["x"], Role.RESEARCHER),
        ([{"not": "a group"}, "nias-admins"], Role.ADMINISTRATOR),
        (None, Role.RESEARCHER),
    ):
        vouch(issuer, "boss", **{**MARIA, "groups": groups})
        assert come(browser.application.test_client(), "boss").status_code == 303
        assert found(browser).role is role
    vouch(issuer, "boss", **{**MARIA, "groups": ["nias-admins"]})
    come(browser.application.test_client(), "boss")
    bridge.store.people.change(other.id, role=Role.RESEARCHER)
    vouch(issuer, "boss", **{**MARIA, "groups": []})
    assert come(browser.application.test_client(), "boss").status_code == 303
    assert found(browser).role is Role.ADMINISTRATOR, "the last one stays"


def test_an_issuer_that_is_down_is_told_and_passwords_still_work(
    make_browser: Callable[..., FlaskClient],
) -> None:
    port = free_port()
    browser = make_browser(oidc_issuer=f"http://127.0.0.1:{port}")
    answer = browser.get("/oidc")
    assert answer.status_code == 502
    assert "does not answer as it should" in told(answer)
    assert 'name="password"' in told(answer)
    with provider(port) as address:
        vouch(address, "maria", **MARIA)
        back = say_yes(begin(browser), "maria")
    answer = browser.get(back)
    assert answer.status_code == 502, "it went down between"
    with provider(port) as address:  # … and is back, with new keys
        vouch(address, "maria", **MARIA)
        assert come(browser, "maria").status_code == 303
    with provider(port) as address:
        vouch(address, "maria", **MARIA)
        assert come(browser.application.test_client(), "maria").status_code == 303


def test_an_issuer_under_another_name_is_not_believed(
    make_browser: Callable[..., FlaskClient], issuer: str
) -> None:
    browser = make_browser(oidc_issuer=issuer.replace("127.0.0.1", "localhost") + "/")
    assert browser.get("/oidc").status_code == 502


def test_without_an_issuer_there_is_no_such_way_in(app: APIFlask) -> None:
    web = app.test_client()
    assert "Sign in with" not in told(web.get("/sign-in", headers={"Accept": "text/html"}))
    assert web.get("/oidc").status_code == 404
