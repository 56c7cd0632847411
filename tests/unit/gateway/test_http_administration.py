"""Claims about the administrator's pages as they are served, and about who gets them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import shown
import staged
from apiflask import APIFlask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from nias_bridge.people import NewPerson, Person, Quotas, Role, Scope, Standing
from nias_bridge.services import administration, unixaccounts
from nias_bridge.services.bridge import Bridge

PAGES = ("", "/groups", "/runs", "/runs/live", "/unclaimed", "/storage", "/environments", "/log")
API = ("people", "groups", "unclaimed", "audit")


@pytest.fixture
def chief(bridge: Bridge) -> Bridge:
    return staged.as_person(bridge, "chief", Role.ADMINISTRATOR)


@pytest.fixture
def admin(app: APIFlask, chief: Bridge) -> FlaskClient:
    """A program with a token of the administrator."""
    return staged.program(app, chief)


@pytest.fixture
def newcomer(chief: Bridge) -> Person:
    new = NewPerson(handle="nina", email="nina@lab.org", name="Nina <b>Waiting</b>")
    return chief.store.people.add(new, at=datetime.now(UTC))


@pytest.fixture
def browser(app: APIFlask, chief: Bridge) -> FlaskClient:
    """A browser in which the administrator has just signed in."""
    client, kept = app.test_client(), staged.cookie(app, chief)
    client.set_cookie(kept["name"], kept["value"], domain="localhost")
    return client


@pytest.fixture
def send(browser: FlaskClient) -> Callable[..., TestResponse]:
    """Post a form of one of the pages."""

    def post(path: str, **fields: Any) -> TestResponse:
        page = browser.get("/upload").get_data(as_text=True)
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert token
        return browser.post(f"/admin{path}", data={"csrf_token": token[1], **fields})

    return post


def changes(person_id: int) -> list[str]:
    of = f"/admin/people/{person_id}"
    return [
        *(f"{of}/{word}" for word in ("approve", "disable", "enable", "role", "limits")),
        *(f"{of}/unix-account", f"{of}/links", "/admin/invitations", "/admin/groups"),
        *("/admin/groups/1", "/admin/groups/1/delete", "/admin/environments/prune"),
        "/admin/unclaimed/ana",
        *(f"/api/v1/people/{person_id}/{word}" for word in ("approve", "disable", "enable")),
    ]


def test_to_a_researcher_there_is_no_administration(
    web: FlaskClient, bridge: Bridge, newcomer: Person
) -> None:
    for path in PAGES:
        assert web.get(f"/admin{path}").status_code == 404
    assert web.get(f"/admin/people/{newcomer.id}").status_code == 404
    for path in API:
        assert web.get(f"/api/v1/{path}").status_code == 404
    token = re.search(r'name="csrf_token" value="([^"]+)"', shown.page(web, "/upload"))
    assert token
    for path in changes(newcomer.id):
        assert web.post(path, data={"csrf_token": token[1]}).status_code == 404, path
    assert bridge.store.people.person(newcomer.id).standing is Standing.WAITING
    assert "Administration" not in shown.page(web, "/")


@pytest.mark.parametrize("scope", [Scope.READ, Scope.SUBMIT])
def test_nor_to_an_administrators_token_that_does_not_reach_so_far(
    app: APIFlask, chief: Bridge, newcomer: Person, scope: Scope
) -> None:
    client, header = app.test_client(), staged.token(chief, scope)
    for path in (*(f"/admin{page}" for page in PAGES), *(f"/api/v1/{page}" for page in API)):
        assert client.get(path, headers=header).status_code == 404
    for path in changes(newcomer.id):
        assert client.post(path, headers=header).status_code in (400, 403, 404), path
    assert chief.store.people.person(newcomer.id).standing is Standing.WAITING


def test_nobody_is_led_to_sign_in(app: APIFlask) -> None:
    client = app.test_client()
    answer = client.get("/admin", headers={"Accept": "text/html"})
    assert answer.status_code == 303
    assert "/sign-in" in answer.headers["Location"]
    assert client.get("/api/v1/people").status_code == 401


def test_no_page_changes_anything_without_its_token(browser: FlaskClient, newcomer: Person) -> None:
    for path in changes(newcomer.id):
        if path.startswith("/admin"):
            assert browser.post(path).status_code == 400, path


def test_the_administrator_sees_who_waits_on_every_page_and_lets_them_in(
    admin: FlaskClient, send: Callable[..., TestResponse], chief: Bridge, newcomer: Person
) -> None:
    assert '1<span class="visually-hidden"> waiting</span>' in shown.page(admin, "/")
    page = shown.page(admin, "/admin")
    assert "1 person waiting for your word" in page
    assert "Nina &lt;b&gt;Waiting&lt;/b&gt;" in page
    answer = send(f"/people/{newcomer.id}/approve", back="people")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/admin")
    assert chief.store.people.person(newcomer.id).standing is Standing.ACTIVE
    assert "waiting for your word" not in shown.page(admin, "/admin")
    assert send(f"/people/{newcomer.id}/approve").status_code == 409


def test_a_link_is_shown_once_and_leads_to_its_page(
    admin: FlaskClient, send: Callable[..., TestResponse], app: APIFlask, bridge: Bridge
) -> None:
    for path, fields, leads in (
        (f"/people/{bridge.person.id}/links", {"kind": "sign-in"}, "/sign-in/"),
        (f"/people/{bridge.person.id}/links", {"kind": "password"}, "/password/"),
        ("/invitations", {}, "/register/"),
    ):
        answer = send(path, **fields)
        assert answer.status_code == 200
        found = re.search(r">(http://127[^<]+)</pre>", answer.get_data(as_text=True))
        assert found
        link = found[1].removeprefix(bridge.settings.url)
        assert link.startswith(leads)
        assert app.test_client().get(link).status_code == 200
    assert link not in shown.page(admin, "/admin")
    assert send(f"/people/{bridge.person.id}/links", kind="session").status_code == 400


def test_limits_are_written_in_the_units_of_people(
    send: Callable[..., TestResponse], bridge: Bridge
) -> None:
    of = f"/people/{bridge.person.id}/limits"
    page = send(of, stored="1.5", open_runs="3", cpu_hours="", upload="20").get_data(as_text=True)
    own = bridge.store.people.person(bridge.person.id).quotas
    assert own == Quotas(stored_bytes=1_500_000_000, open_runs=3, upload_bytes=20_000_000)
    assert 'value="1.5"' in page
    for wrong in ("many", "-1", "nan", "inf", "1e12"):
        answer = send(of, stored=wrong)
        assert answer.status_code == 400
        assert f"“{wrong}” is not a number" in answer.get_data(as_text=True)
    assert bridge.store.people.person(bridge.person.id).quotas == own


def test_an_account_of_the_system_is_refused_where_it_was_written(
    send: Callable[..., TestResponse], bridge: Bridge
) -> None:
    answer = send(f"/people/{bridge.person.id}/unix-account", unix_account="root")
    assert answer.status_code == 400
    page = answer.get_data(as_text=True)
    assert "account of the system" in page
    assert 'value="root"' in page, "what was written is not lost"


def test_the_last_administrator_is_told_why_she_stays_one(
    send: Callable[..., TestResponse], chief: Bridge
) -> None:
    answer = send(f"/people/{chief.person.id}/role", role="researcher")
    assert answer.status_code == 409
    assert "only administrator" in answer.get_data(as_text=True)
    assert send(f"/people/{chief.person.id}/role", role="king").status_code == 400


def test_a_group_is_made_changed_and_deleted(
    admin: FlaskClient, send: Callable[..., TestResponse], chief: Bridge, bridge: Bridge
) -> None:
    assert send("/groups", name="EEG", shares="1", members=["lab", "chief"]).status_code == 303
    (group,) = chief.store.people.groups()
    assert (group.name, group.shares, group.members) == ("EEG", True, ("chief", "lab"))
    assert "2 members, who see each other’s results" in shown.page(admin, "/admin/groups")
    assert send(f"/groups/{group.id}", name="EMG", members=["lab"]).status_code == 303
    (group,) = chief.store.people.groups()
    assert (group.name, group.shares, group.members) == ("EMG", False, ("lab",))
    assert send("/groups", name="emg").status_code == 400
    assert send("/groups/99", name="x").status_code == 404
    assert send(f"/groups/{group.id}/delete").status_code == 303
    assert chief.store.people.groups() == []


def test_all_runs_are_listed_with_their_owners_and_narrowed_by_one(
    admin: FlaskClient, bridge: Bridge
) -> None:
    mine = staged.completed(bridge, "mine")
    other = staged.completed(staged.as_person(bridge, "berta"), "hers")
    page = shown.page(admin, "/admin/runs")
    assert f'id="run-{mine.id}"' in page and f'id="run-{other.id}"' in page
    assert "run 1 of Berta" in page
    page = shown.page(admin, "/admin/runs?owner=berta&show=completed")
    assert f'id="run-{mine.id}"' not in page and f'id="run-{other.id}"' in page
    assert 'data-refresh="/admin/runs/live?owner=berta&amp;show=completed"' in page
    assert f'id="run-{other.id}"' in shown.page(admin, "/admin/runs/live?owner=berta")
    assert "No run fits" in shown.page(admin, "/admin/runs?owner=nobody")


def test_shared_results_are_a_choice_for_who_has_a_sharing_group(
    web: FlaskClient, bridge: Bridge, chief: Bridge
) -> None:
    berta = staged.as_person(bridge, "berta")
    mine, other = staged.completed(bridge, "mine"), staged.completed(berta, "hers")
    assert 'name="whose"' not in shown.page(web, "/results")
    assert f'id="run-{other.id}"' not in shown.page(web, "/results?whose=shared")
    administration.save_group(chief, "EEG", shares=True, members=["lab", "berta"])
    page = shown.page(web, "/results?whose=shared")
    assert f'id="run-{other.id}"' in page and f'id="run-{mine.id}"' not in page
    assert "run 1 of Berta" in page
    assert 'data-refresh="/results/live?whose=shared"' in page
    page = shown.page(web, "/results")
    assert f'id="run-{mine.id}"' in page and f'id="run-{other.id}"' not in page
    for query, run in (("", mine), ("?shared=1", other)):
        (told,) = web.get(f"/api/v1/runs{query}").get_json()["runs"]
        assert told["id"] == run.id


def test_storage_environments_and_log_say_what_there_is(
    admin: FlaskClient, send: Callable[..., TestResponse], bridge: Bridge
) -> None:
    run = staged.completed(bridge)
    assert "Lab" in shown.page(admin, "/admin/storage")
    assert "There are none yet" in shown.page(admin, "/admin/environments")
    folder = staged.environment(bridge, "0" * 64, "numpy==2.3.0", "scipy==1.16.0")
    staged.environment(bridge, "1" * 64, owner="berta")
    page = shown.page(admin, "/admin/environments")
    assert "2 environments, 600 MB of at most 54 GB" in page
    assert "numpy==2.3.0 scipy==1.16.0" in page and "of berta alone" in page
    answer = send("/environments/prune", size="0.3")
    assert "1 environment removed, 300 MB" in answer.get_data(as_text=True)
    assert send("/environments/prune", size="0").status_code == 200
    assert not folder.exists()
    assert send("/environments/prune").status_code == 400
    page = shown.page(admin, f"/admin/log?run={run.id}")
    assert "run submitted" in page and f'href="/runs/{run.id}"' in page
    assert "Nothing of this kind" in shown.page(admin, "/admin/log?person=nobody")


def test_lines_of_the_log_can_not_be_forged(
    admin: FlaskClient, app: APIFlask, chief: Bridge
) -> None:
    chief.note("tried", detail="a\nrole changed <script>alert(1)</script>")
    page = shown.page(admin, "/admin/log?action=tried")
    assert "<script>alert" not in page
    assert page.count("<tr>") == 2, "its head and one line"


def test_programs_administer_too(admin: FlaskClient, chief: Bridge, newcomer: Person) -> None:
    first = admin.get("/api/v1/people").get_json()["people"][0]
    assert (first["handle"], first["standing"], first["role"]) == ("nina", "waiting", "researcher")
    assert "password" not in first
    of = f"/api/v1/people/{newcomer.id}"
    assert admin.post(f"{of}/approve").get_json()["standing"] == "active"
    assert admin.post(f"{of}/disable").get_json()["standing"] == "disabled"
    assert admin.post(f"{of}/enable").get_json()["standing"] == "active"
    assert admin.post(f"{of}/enable").status_code == 409
    assert admin.post("/api/v1/people/99/approve").status_code == 404
    administration.save_group(chief, "EEG", shares=True, members=["nina"])
    assert admin.get("/api/v1/groups").get_json()["groups"][0]["members"] == ["nina"]
    page = admin.get("/api/v1/audit?action=person approved").get_json()
    assert [deed["detail"] for deed in page["deeds"]] == ["nina"]
    assert page["older"] is None
    assert page["deeds"][0]["via"].startswith("token ")


@pytest.fixture
def ana(chief: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of an account that the rule lets be linked."""
    monkeypatch.setattr(unixaccounts, "check", lambda accounts, name: None)
    at = datetime(2024, 3, 4, 9, tzinfo=UTC)
    staged.unclaimed(chief, "ana", "psd-study", job_id=70, at=at, tasks=(0, 1))


def test_an_account_whose_jobs_wait_is_linked_where_they_are_shown(
    ana: None, admin: FlaskClient, send: Callable[..., TestResponse], bridge: Bridge
) -> None:
    page = shown.page(admin, "/admin/unclaimed")
    assert "psd-study" in page and "2 tasks" in page and "not known yet" in page
    assert '1<span class="visually-hidden"> jobs</span>' in shown.page(admin, "/admin")
    answer = send("/unclaimed/ana", person="")
    assert answer.status_code == 404
    answer = send("/unclaimed/ana", person=str(bridge.person.id))
    assert answer.status_code == 200
    page = " ".join(answer.get_data(as_text=True).split())
    assert "is linked to" in page and "every job by plain sbatch is somebody’s run" in page
    assert send("/unclaimed/ana", person=str(bridge.person.id)).status_code == 404
    person = bridge.store.people.person(bridge.person.id)
    assert person.unix_account == "ana"
    assert "lab: ana" in shown.page(admin, "/admin/log?action=Unix+account+linked")


def test_who_has_an_account_already_is_told_beside_the_jobs(
    ana: None, send: Callable[..., TestResponse], bridge: Bridge
) -> None:
    bridge.store.people.change(bridge.person.id, unix_account="lab2")
    answer = send("/unclaimed/ana", person=str(bridge.person.id))
    assert answer.status_code == 400
    page = answer.get_data(as_text=True)
    assert "is linked to lab2 already: see to that first" in page and "psd-study" in page


def test_programs_link_it_too(ana: None, admin: FlaskClient, bridge: Bridge) -> None:
    assert admin.get("/api/v1/unclaimed").get_json()["unclaimed"] == [
        {
            "account": "ana",
            "jobs": [
                {
                    "job_id": 70,
                    "job_name": "nias",
                    "project": "psd-study",
                    "submitted_at": "2024-03-04T09:00:00Z",
                    "tasks": 2,
                    "size": None,
                }
            ],
        }
    ]
    link = "/api/v1/unclaimed/ana/link"
    assert admin.post(link, json={"person": 99}).status_code == 404
    assert admin.post(link, json={"person": "x"}).status_code == 400
    linked = admin.post(link, json={"person": bridge.person.id})
    assert linked.get_json()["unix_account"] == "ana"
    assert admin.get("/api/v1/unclaimed").get_json()["unclaimed"] == []


def test_numbers_no_database_has_are_not_found(admin: FlaskClient) -> None:
    huge = 2**70
    for path in (f"/admin/people/{huge}", f"/admin/runs?page={huge}", f"/admin/log?run={huge}"):
        assert admin.get(path).status_code in (200, 404), path
    assert admin.get(f"/admin/log?before={huge}").status_code == 200
    assert admin.get(f"/api/v1/audit?before={huge}&run={huge}").status_code == 200
