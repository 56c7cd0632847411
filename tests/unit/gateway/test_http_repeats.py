"""Claims about submissions that are sent again: one run, whatever happens in between."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
import staged
from apiflask import APIFlask
from client import zipped
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from nias_bridge.domain import SUBMISSION_KEY_KEPT, Filter
from nias_bridge.http import create_app
from nias_bridge.services import once
from nias_bridge.services.bridge import Bridge
from nias_bridge.store import open_store

ZIP = zipped("study", {"code.py": "print(1)", "requirements.txt": ""})


def submit(web: FlaskClient, key: str, more: str = "", body: bytes = ZIP) -> TestResponse:
    address = f"/api/v1/runs?filename=study.zip{more}"
    return web.post(address, data=body, headers={"Idempotency-Key": key})


def runs(bridge: Bridge) -> int:
    return bridge.store.runs(Filter()).total


def test_sent_again_it_is_answered_by_the_same_run(web: FlaskClient, bridge: Bridge) -> None:
    first, again = submit(web, "k1"), submit(web, "k1")
    assert first.status_code == again.status_code == 202
    assert first.get_json() == again.get_json()
    assert first.headers["Location"] == again.headers["Location"]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert runs(bridge) == 1
    assert not list(staged.here(bridge).uploads.iterdir()), "what came again is not kept"


def test_another_body_or_wish_under_the_same_key_is_refused(
    web: FlaskClient, bridge: Bridge
) -> None:
    submit(web, "k1")
    other = zipped("study", {"code.py": "print(2)", "requirements.txt": ""})
    for answer in (submit(web, "k1", body=other), submit(web, "k1", "&again=1")):
        assert answer.status_code == 422
        assert answer.get_json()["type"] == "urn:nias-bridge:key-reused"
    assert runs(bridge) == 1
    assert not list(staged.here(bridge).uploads.iterdir())


def test_the_body_is_the_same_in_a_form_of_another_boundary(
    web: FlaskClient, bridge: Bridge
) -> None:
    def form() -> TestResponse:
        body = {"file": (io.BytesIO(ZIP), "study.zip")}
        return web.post("/api/v1/runs", data=body, headers={"Idempotency-Key": "k1"})

    assert form().get_json()["id"] == form().get_json()["id"]


def test_sent_many_times_at_once_it_makes_one_run(app: APIFlask, bridge: Bridge) -> None:
    token = staged.token(bridge)["Authorization"]

    def send(_: int) -> TestResponse:
        client = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = token
        return submit(client, "k1")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(16)))
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.get_json()["id"] for answer in answers} == {1}
    assert runs(bridge) == 1


def test_sent_again_after_a_restart_it_makes_no_second_run(
    web: FlaskClient, bridge: Bridge
) -> None:
    submit(web, "k1")
    bridge.store.close()
    restarted = replace(bridge, store=open_store(bridge.settings.database_url))
    later = staged.program(create_app(restarted), restarted)
    assert submit(later, "k1").headers["Idempotent-Replayed"] == "true"
    assert runs(restarted) == 1


def test_a_key_is_its_persons_own(app: APIFlask, web: FlaskClient, bridge: Bridge) -> None:
    submit(web, "k1")
    ada = staged.program(app, staged.as_person(bridge, "ada"))
    assert submit(ada, "k1").get_json()["owner"] == "ada"


def test_what_was_refused_may_come_better_under_the_same_key(
    web: FlaskClient, bridge: Bridge
) -> None:
    assert submit(web, "k1", body=b"no zip").status_code == 422
    assert submit(web, "k1").status_code == 202


def test_a_key_is_forgotten_after_a_day(
    web: FlaskClient, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(web, "k1", "&again=1")
    tomorrow = bridge.store.run(1).created_at + SUBMISSION_KEY_KEPT + timedelta(seconds=1)

    class Later(once.datetime):
        @classmethod
        def now(cls, tz=None):
            return tomorrow

    monkeypatch.setattr(once, "datetime", Later)
    monkeypatch.setattr("nias_bridge.services.intake.datetime", Later)
    assert submit(web, "k1", "&again=1").get_json()["number"] == 2


def test_running_again_is_a_submission_too(web: FlaskClient, bridge: Bridge) -> None:
    done = staged.completed(bridge)

    def again(key: str, run_id: int = done.id) -> TestResponse:
        return web.post(f"/api/v1/runs/{run_id}/again", headers={"Idempotency-Key": key})

    first = again("k1")
    assert first.status_code == 202
    assert again("k1").get_json()["number"] == first.get_json()["number"] == 2
    assert again("k1", first.get_json()["id"]).status_code == 422
    assert runs(bridge) == 2


@pytest.mark.parametrize("key", ["", "with space", "é", "x" * 256])
def test_a_key_that_is_none_is_refused(web: FlaskClient, bridge: Bridge, key: str) -> None:
    answer = submit(web, key)
    assert answer.status_code == 400
    assert answer.get_json()["field"] == "Idempotency-Key"
    assert runs(bridge) == 0
