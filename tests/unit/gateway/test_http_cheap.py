"""What the status of a run costs: counted, since how long it takes is the machine's affair."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import staged
from apiflask import APIFlask
from flask import url_for
from flask.testing import FlaskClient
from sqlalchemy import event
from sqlalchemy.pool import Pool

from nias_bridge.domain import JobState
from nias_bridge.http import create_app, fresh, written
from nias_bridge.reach import Mounted
from nias_bridge.services.bridge import Bridge
from nias_bridge.storage import Storage

PATH = "/api/v1/runs/1"
WHO_AND_WHICH = 2  # statements: who asks, and the run


@contextmanager
def statements() -> Iterator[list[str]]:
    """All that databases are asked meanwhile."""
    asked: list[str] = []

    def watch(connection: sqlite3.Connection, *_: Any) -> None:
        connection.set_trace_callback(asked.append)

    def leave(connection: sqlite3.Connection, *_: Any) -> None:
        connection.set_trace_callback(None)

    event.listen(Pool, "checkout", watch)
    event.listen(Pool, "checkin", leave)
    try:
        yield asked
    finally:
        event.remove(Pool, "checkout", watch)
        event.remove(Pool, "checkin", leave)


class Watched(Mounted):
    """Storage that remembers what is done with it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def call(self, operation: str, **arguments: Any) -> Any:
        self.done.append(operation)
        return super().call(operation, **arguments)


def known(web: FlaskClient) -> dict[str, str]:
    return {"If-None-Match": web.get(PATH).headers["ETag"]}


def test_a_status_costs_two_questions_and_no_write(web: FlaskClient, bridge: Bridge) -> None:
    staged.running(bridge)
    with statements() as asked:
        assert web.get(PATH).status_code == 200
    assert len(asked) == WHO_AND_WHICH
    assert all(statement.startswith("SELECT") for statement in asked)


def test_neither_group_nor_colleague_costs_a_question_more(
    web: FlaskClient, bridge: Bridge
) -> None:
    staged.running(bridge)
    staged.as_person(bridge, "ana")
    group = bridge.store.people.save_group("EMG", shares=True)
    bridge.store.people.set_members(group.id, ["ana", "lab"])
    with statements() as asked:
        assert web.get(PATH).status_code == 200
    assert len(asked) == WHO_AND_WHICH


@pytest.mark.parametrize("ended", [False, True])
def test_who_has_the_status_already_costs_no_more_and_no_file_is_read(
    bridge: Bridge, ended: bool
) -> None:
    run = staged.running(bridge)
    if ended:  # told by what the cluster allows, too
        staged.leave(bridge, run, {"a.txt": b"a"}, exit_code=1)
        staged.move(bridge, run, JobState.FAILED, exit_code=1)
    watched = Watched()
    app = create_app(replace(bridge, storage=Storage(watched)))
    web = staged.program(app, bridge)
    has_it = known(web)
    watched.done.clear()
    with statements() as asked:
        assert web.get(PATH, headers=has_it).status_code == 304
    assert len(asked) == WHO_AND_WHICH + ended
    assert all(statement.startswith("SELECT") for statement in asked)
    assert watched.done == ["infos"]


def test_an_answer_is_made_once_until_something_of_it_is_new(bridge: Bridge) -> None:
    run = staged.running(bridge)
    watched = Watched()
    app = create_app(replace(bridge, storage=Storage(watched)))
    mine = staged.program(app, bridge)
    theirs = staged.program(app, staged.as_person(bridge, "ana"))
    first = mine.get(PATH)
    assert first.get_json()["evidence"]["phase"] == "running"
    watched.done.clear()
    again = mine.get(PATH)
    assert (again.data, again.headers) == (first.data, first.headers)
    assert watched.done == ["infos"]
    assert theirs.get(PATH).status_code == 404, "who may not see a run is told nothing of it"
    staged.tell(bridge, run, phase="collecting")
    assert mine.get(PATH).get_json()["evidence"]["phase"] == "collecting"
    moved = staged.move(bridge, run, JobState.COMPLETED, exit_code=0)
    told = mine.get(PATH)
    assert told.get_json()["state"] == moved.state
    assert told.headers["ETag"] != first.headers["ETag"]


def test_only_so_many_answers_are_kept_and_no_long_ones(
    app: APIFlask, web: FlaskClient, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "KEPT", 2)
    for number in range(5):
        staged.add(bridge, f"p{number}")
        assert web.get(f"/api/v1/runs/{number + 1}").get_json()["project"] == f"p{number}"
        assert len(app.extensions[fresh.KEY]) <= 2
    monkeypatch.setattr(fresh, "LONGEST", 100)
    before = dict(app.extensions[fresh.KEY])
    staged.running(bridge)
    assert web.get("/api/v1/runs/6").status_code == 200
    assert app.extensions[fresh.KEY].keys() <= before.keys()


def test_who_is_signed_in_by_cookie_costs_no_more_than_a_program(
    app: APIFlask, bridge: Bridge
) -> None:
    staged.running(bridge)
    browser = app.test_client()
    kept = staged.cookie(app, bridge)
    browser.set_cookie(kept["name"], kept["value"])
    with statements() as asked:
        assert browser.get(PATH).status_code == 200
    assert len(asked) == WHO_AND_WHICH


def test_without_a_cookie_no_signature_is_looked_at(
    web: FlaskClient, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise AssertionError

    staged.running(bridge)
    monkeypatch.setattr(written.Cookies, "get_signing_serializer", refused)
    assert web.get(PATH).status_code == 200


def test_each_link_of_a_run_leads_where_it_says(
    app: APIFlask, web: FlaskClient, bridge: Bridge
) -> None:
    staged.running(bridge)
    with app.test_request_context():
        there = {
            name: url_for(endpoint, run_id=1)
            for name, endpoint in {
                "self": "api.run",
                "log": "api.log",
                "files": "api.files",
                "results": "api.results",
                "cancel": "api.cancel",
                "pin": "api.pin",
                "record": "api.run_json",
                "crate": "api.crate",
                "page": "pages.run",
            }.items()
        }
    assert web.get(PATH).get_json()["links"] == there


def test_a_list_of_runs_costs_three_questions_however_long_it_is(
    web: FlaskClient, bridge: Bridge
) -> None:
    for number in range(5):
        staged.add(bridge, f"p{number}")
    with statements() as asked:
        assert len(web.get("/api/v1/runs").get_json()["runs"]) == 5
    assert len([each for each in asked if each.startswith("SELECT")]) == 3
    assert not [each for each in asked if each.startswith(("INSERT", "UPDATE", "DELETE"))]
