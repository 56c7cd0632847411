"""Claims about what programs ask: who they are, the site, lists that go on, cheap polling."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import staged
from apiflask import APIFlask
from flask.testing import FlaskClient

from nias_bridge.cluster import PartitionReport
from nias_bridge.domain import JobState
from nias_bridge.node import soundness
from nias_bridge.people import Role, Scope
from nias_bridge.services import desk
from nias_bridge.services.bridge import Bridge


def listed(web: FlaskClient, query: str = "") -> list[str]:
    return [run["project"] for run in web.get(f"/api/v1/runs?{query}").get_json()["runs"]]


def test_a_program_learns_whose_token_it_has_and_how_far_it_reaches(
    app: APIFlask, bridge: Bridge
) -> None:
    group = bridge.store.people.save_group("Sleep lab", shares=True)
    bridge.store.people.set_members(group.id, ["lab"])
    told = app.test_client().get("/api/v1/me", headers=staged.token(bridge, Scope.READ)).get_json()
    assert (told["handle"], told["role"], told["scope"]) == ("lab", "researcher", "read")
    assert (told["email"], told["groups"]) == ("lab@lab.org", ["Sleep lab"])


def test_the_cluster_is_told_as_the_poller_heard_it_last(web: FlaskClient, bridge: Bridge) -> None:
    assert web.get("/api/v1/cluster").get_json()["at"] is None
    main = PartitionReport(name="main", state="UP", default=True, max_time=3600)
    staged.show_cluster(bridge, partitions=(main,), pending=7)
    told = web.get("/api/v1/cluster").get_json()
    assert [(n["name"], n["state"], n["cpus_used"]) for n in told["nodes"]] == [
        ("slot1", "MIXED", 1),
        ("slot2", "IDLE", 0),
    ]
    assert [(p["name"], p["default"], p["max_time"]) for p in told["partitions"]] == [
        ("main", True, 3600)
    ]
    assert (told["pending"], told["running"], told["problem"]) == (7, 1, "")


def test_environments_are_those_of_ones_own_runs(
    web: FlaskClient, app: APIFlask, bridge: Bridge
) -> None:
    now = datetime.now(UTC).timestamp()
    for key in ("k", "another"):
        folder = staged.here(bridge).environments / key
        folder.mkdir(parents=True)
        record = {"requirements": ["numpy==2.3.0"], "python": "3.11", "bytes": 5, "built_at": now}
        (folder / soundness.RECORD).write_text(json.dumps(record))
    assert web.get("/api/v1/environments").get_json() == {"environments": []}
    staged.completed(bridge)
    (told,) = web.get("/api/v1/environments").get_json()["environments"]
    assert (told["key"], told["requirements"], told["size"]) == ("k", ["numpy==2.3.0"], 5)
    assert (told["private"], told["broken"]) == (False, False)
    chief = staged.program(app, staged.as_person(bridge, "chief", Role.ADMINISTRATOR))
    everything = chief.get("/api/v1/environments").get_json()["environments"]
    assert {one["key"] for one in everything} == {"k", "another"}


def test_runs_are_listed_by_project_moment_and_pin(web: FlaskClient, bridge: Bridge) -> None:
    for name in ("alpha", "alphabet", "beta"):
        staged.add(bridge, name)
    second = bridge.store.run(2)
    desk.pin(bridge, second.id, True)
    moment = second.created_at.isoformat().replace("+00:00", "Z")
    assert listed(web, "project=ALPHA") == ["alpha"]
    assert listed(web, "pinned=1") == ["alphabet"]
    assert listed(web, f"since={moment}") == ["beta", "alphabet"]
    assert listed(web, f"until={moment}") == ["alpha"]
    assert listed(web, f"until={moment.removesuffix('Z')}") == ["alpha"]
    assert listed(web, "since=2001-01-01&until=2001-01-02T00:00:00") == []


def test_shared_runs_are_those_of_others_whom_ones_groups_let_see(
    web: FlaskClient, bridge: Bridge
) -> None:
    staged.add(bridge, "mine")
    for handle in ("ada", "mallory"):
        staged.add(staged.as_person(bridge, handle), f"{handle}s")
    group = bridge.store.people.save_group("Sleep lab", shares=True)
    bridge.store.people.set_members(group.id, ["lab", "ada"])
    assert listed(web, "shared=1") == ["adas"]
    assert listed(web) == ["mine"]


@pytest.mark.parametrize(
    "query", ["since=soon", "until=0001-01-01T00:00:00%2B14:00", "cursor=abc", "cursor=" + "z" * 22]
)
def test_what_no_list_begins_at_is_refused(web: FlaskClient, query: str) -> None:
    answer = web.get(f"/api/v1/runs?{query}")
    assert answer.status_code == 400
    assert query.split("=", maxsplit=1)[0] in json.dumps(answer.get_json())


def test_a_list_goes_on_where_it_was_though_runs_come_meanwhile(
    web: FlaskClient, bridge: Bridge
) -> None:
    for number in range(5):
        staged.add(bridge, f"p{number}")
    staged.add(bridge, "other")
    address, seen = "/api/v1/runs?q=p&per_page=2&state=RECEIVED&_external=1&_scheme=x", []
    while address:
        answer = web.get(address).get_json()
        assert address == web.get(address).request.full_path
        seen += [run["project"] for run in answer["runs"]]
        staged.add(bridge, f"p-later-{len(seen)}")
        address = answer["next"]
    assert seen == ["p4", "p3", "p2", "p1", "p0"]
    assert answer["pages"] == 4


def test_runs_of_one_moment_are_each_listed_once(web: FlaskClient, bridge: Bridge) -> None:
    add_run, now = bridge.store.add_run, datetime.now(UTC)

    def at_once(new, **how):
        return add_run(replace(new, created_at=now), **how)

    bridge.store.add_run = at_once  # type: ignore[method-assign]
    for number in range(5):
        staged.add(bridge, f"p{number}")
    address, seen = "/api/v1/runs?per_page=2", []
    while address:
        answer = web.get(address).get_json()
        seen += [run["project"] for run in answer["runs"]]
        address = answer["next"]
    assert seen == ["p4", "p3", "p2", "p1", "p0"]


def test_pages_by_number_are_as_they_were(web: FlaskClient, bridge: Bridge) -> None:
    for number in range(3):
        staged.add(bridge, f"p{number}")
    assert listed(web, "per_page=2&page=2") == ["p0"]
    assert web.get("/api/v1/runs?per_page=2&page=2").get_json()["next"] is None


def tag(web: FlaskClient, path: str) -> str:
    answer = web.get(path)
    assert answer.status_code == 200
    return answer.headers["ETag"]


@pytest.mark.parametrize("path", ["/api/v1/runs", "/api/v1/runs/1", "/api/v1/cluster"])
def test_who_has_an_answer_already_gets_304_without_a_body(
    web: FlaskClient, bridge: Bridge, path: str
) -> None:
    staged.running(bridge)
    known = web.get(path, headers={"If-None-Match": tag(web, path)})
    assert (known.status_code, known.data) == (304, b"")
    assert known.headers["ETag"] == tag(web, path)
    assert "no-cache" in known.headers["Cache-Control"]
    assert web.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_run_has_a_new_tag_with_whatever_changes_in_it(web: FlaskClient, bridge: Bridge) -> None:
    run, path = staged.running(bridge), "/api/v1/runs/1"
    seen = [tag(web, path)]

    def changed() -> bool:
        seen.append(tag(web, path))
        return len(set(seen)) == len(seen)

    staged.tell(bridge, run, phase="collecting")
    assert changed(), "the node told more"
    desk.pin(bridge, run.id, True)
    assert changed(), "it was pinned"
    desk.cancel(bridge, run.id)
    assert changed(), "somebody wants it cancelled"
    run = staged.move(bridge, bridge.store.run(run.id), JobState.FAILED, exit_code=1)
    assert changed(), "it ended"
    staged.leave(bridge, run, {"a.txt": b"a"}, exit_code=1)
    assert changed(), "it left results"
    staged.say(bridge, run, "KeyError: 'channel_7'\n")
    assert changed(), "its last words are in the diagnosis"
    seen.pop()
    assert changed(), "what is the same has the same tag"


def test_a_sweeps_tasks_have_a_new_tag_when_one_of_them_ends(
    web: FlaskClient, bridge: Bridge
) -> None:
    run = staged.swept(bridge)
    path = f"/api/v1/runs/{run.id}/tasks"
    before = tag(web, path)
    assert web.get(path, headers={"If-None-Match": before}).status_code == 304
    staged.end_task(bridge, run, 3, rms=1.0)
    assert web.get(path, headers={"If-None-Match": before}).status_code == 200


def test_an_answer_that_failed_has_no_tag(
    web: FlaskClient, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    staged.running(bridge)
    monkeypatch.setattr(desk, "status", broken)
    answer = web.get("/api/v1/runs/1")
    assert answer.status_code == 500
    assert "ETag" not in answer.headers


def test_a_tag_opens_nobody_elses_run(app: APIFlask, web: FlaskClient, bridge: Bridge) -> None:
    staged.running(bridge)
    known = tag(web, "/api/v1/runs/1")
    stranger = staged.program(app, staged.as_person(bridge, "mallory"))
    answer = stranger.get("/api/v1/runs/1", headers={"If-None-Match": known})
    assert answer.status_code == 404


def test_moments_are_told_in_utc(web: FlaskClient, bridge: Bridge) -> None:
    staged.show_cluster(bridge)
    told = datetime.fromisoformat(web.get("/api/v1/cluster").get_json()["at"])
    assert told.utcoffset() == timedelta(0)
