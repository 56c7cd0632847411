"""Claims about the JSON API."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import datetime

import pytest
import staged
from apiflask import APIFlask
from client import zipped
from flask.testing import FlaskClient

from nias_bridge.domain import JobState
from nias_bridge.http.here import KEY
from nias_bridge.services.bridge import Bridge
from nias_bridge.store import SqlStore
from nias_bridge.store.engine import make_engine


def upload(web: FlaskClient, name: str = "project", more: str = "", **files: str):
    body = zipped(name, {"code.py": "print(1)", "requirements.txt": "", **files})
    return web.post(f"/api/v1/runs?filename={name}.zip{more}", data=body)


def test_an_upload_is_answered_with_its_run_and_where_it_is(web: FlaskClient) -> None:
    answer = upload(web)
    run = answer.get_json()
    assert answer.status_code == 202
    assert answer.headers["Location"].endswith(f"/api/v1/runs/{run['id']}")
    assert (run["project"], run["number"], run["state"]) == ("project", 1, "RECEIVED")
    assert web.get(run["links"]["self"]).get_json() == run


def test_the_zip_may_come_in_a_form(web: FlaskClient) -> None:
    body = {"file": (io.BytesIO(zipped("formed", {"code.py": ""})), "formed.zip")}
    answer = web.post("/api/v1/runs", data=body)
    assert answer.status_code == 202
    assert answer.get_json()["project"] == "formed"


def test_a_name_in_use_is_refused_and_says_the_number_of_the_next_run(web: FlaskClient) -> None:
    upload(web)
    answer = upload(web)
    problem = answer.get_json()
    assert answer.status_code == 409
    assert answer.mimetype == "application/problem+json"
    assert (problem["type"], problem["next_number"]) == ("urn:nias-bridge:project-exists", 2)
    assert upload(web, more="&again=1").get_json()["number"] == 2


def test_lines_that_cannot_work_are_named_all_at_once(web: FlaskClient) -> None:
    lines = "numpy==2.3.0+cu121\nok\n-e .\n"
    answer = upload(web, **{"requirements.txt": lines})
    assert answer.status_code == 422
    assert [problem["line"] for problem in answer.get_json()["problems"]] == [1, 3]
    assert answer.get_json()["mendable"] is False


def test_lines_with_a_certain_mend_are_mended_when_asked(web: FlaskClient) -> None:
    answer = upload(web, more="&mend=1", **{"requirements.txt": "numpy==2.3.0+cu121\n"})
    assert answer.status_code == 202


@pytest.mark.parametrize("query", ["time=soon", "memory=much", "cpus=0", "cpus=x"])
def test_resources_that_slurm_could_not_mean_are_refused(web: FlaskClient, query: str) -> None:
    answer = upload(web, more=f"&{query}")
    assert answer.status_code == 400
    assert query.split("=", maxsplit=1)[0] in answer.get_json()["detail"]


def test_resources_that_were_asked_for_are_kept(web: FlaskClient, bridge: Bridge) -> None:
    run = upload(web, more="&time=30&memory=2G&cpus=2").get_json()
    kept = bridge.store.run(run["id"]).resources
    assert (kept.time, kept.memory, kept.cpus) == ("30", "2G", 2)


def test_an_ended_run_has_the_accounting_and_the_evidence(web: FlaskClient, bridge: Bridge) -> None:
    run = web.get(f"/api/v1/runs/{staged.completed(bridge).id}").get_json()
    assert run["ended"] is True
    assert run["exit_code"] == 0
    assert run["accounting"]["max_rss_bytes"] == 184 * staged.MIB
    assert run["peak_memory"] == {"bytes": 184 * staged.MIB, "seen_by": "slurm"}
    assert run["evidence"]["environment"]["built"] is False
    assert run["results_ready"] is True
    assert datetime.fromisoformat(run["state_since"]).utcoffset().total_seconds() == 0


def test_the_peak_that_slurm_missed_is_told_with_who_saw_it(
    web: FlaskClient, bridge: Bridge
) -> None:
    ended = staged.completed(bridge)
    staged.leave(bridge, ended, {}, max_rss=900 * staged.MIB)
    run = web.get(f"/api/v1/runs/{ended.id}").get_json()
    assert run["accounting"]["max_rss_bytes"] == 184 * staged.MIB
    assert run["evidence"]["max_rss_bytes"] == 900 * staged.MIB
    assert run["peak_memory"] == {"bytes": 900 * staged.MIB, "seen_by": "node"}
    page = web.get(f"/runs/{ended.id}").get_data(as_text=True)
    assert "900 MiB" in page
    assert "seen by the node" in page


def test_an_open_run_has_no_accounting_yet(web: FlaskClient, bridge: Bridge) -> None:
    run = web.get(f"/api/v1/runs/{staged.pending(bridge).id}").get_json()
    assert run["accounting"] is None
    assert (run["reason"], run["place"]) == ("Resources", 2)


def test_runs_are_listed_newest_first_by_state_and_name(web: FlaskClient, bridge: Bridge) -> None:
    staged.completed(bridge, "alpha")
    staged.failed(bridge, "beta")
    staged.pending(bridge, "alphabet")

    def names(query: str) -> list[str]:
        return [run["project"] for run in web.get(f"/api/v1/runs?{query}").get_json()["runs"]]

    assert names("") == ["alphabet", "beta", "alpha"]
    assert names("q=ALPHA") == ["alphabet", "alpha"]
    assert names("state=failed,pending") == ["alphabet", "beta"]
    assert names("page=2") == []


def test_an_unknown_state_is_refused_with_those_there_are(web: FlaskClient) -> None:
    answer = web.get("/api/v1/runs?state=happy")
    assert answer.status_code == 400
    assert "HAPPY" in answer.get_json()["detail"]
    assert "COMPLETED" in answer.get_json()["detail"]


def test_the_log_is_read_on_from_an_offset(web: FlaskClient, bridge: Bridge) -> None:
    run = staged.running(bridge)
    first = web.get(f"/api/v1/runs/{run.id}/log?offset=0").get_json()
    staged.say(bridge, run, "epoch 2 ✓\n")
    more = web.get(f"/api/v1/runs/{run.id}/log?offset={first['next_offset']}").get_json()
    assert more["text"] == "epoch 2 ✓\n"
    assert more["next_offset"] == more["size"]
    assert more["ended"] is False


def test_files_are_listed_with_their_links(web: FlaskClient, bridge: Bridge) -> None:
    run = staged.completed(bridge)
    listed = web.get(f"/api/v1/runs/{run.id}/files").get_json()
    assert {file["path"] for file in listed["files"]} == {
        "spectrum.csv",
        "spectrum.png",
        "a/b.json",
    }
    for file in listed["files"]:
        assert len(web.get(file["link"], buffered=True).data) == file["size"]


def test_a_part_of_a_file_can_be_asked_for(web: FlaskClient, bridge: Bridge) -> None:
    url = f"/api/v1/runs/{staged.completed(bridge).id}/files/spectrum.csv"
    part = web.get(url, headers={"Range": "bytes=6-10"}, buffered=True)
    assert (part.status_code, part.data) == (206, b"power")
    assert part.headers["Content-Range"] == "bytes 6-10/17"
    beyond = web.get(url, headers={"Range": "bytes=99-"})
    assert beyond.status_code == 416
    assert beyond.headers["Content-Range"] == "bytes */17"


def test_a_file_that_did_not_change_is_not_sent_again(web: FlaskClient, bridge: Bridge) -> None:
    url = f"/api/v1/runs/{staged.completed(bridge).id}/results.zip"
    etag = web.get(url, buffered=True).headers["ETag"]
    again = web.get(url, headers={"If-None-Match": etag}, buffered=True)
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("path", ["../project.zip", "%2e%2e/project.zip", "etc/passwd", "nothing"])
def test_only_files_of_the_output_are_given(web: FlaskClient, bridge: Bridge, path: str) -> None:
    run = staged.completed(bridge)
    assert web.get(f"/api/v1/runs/{run.id}/files/{path}").status_code == 404


def test_results_that_are_not_there_yet_are_a_conflict(web: FlaskClient, bridge: Bridge) -> None:
    answer = web.get(f"/api/v1/runs/{staged.running(bridge).id}/results.zip")
    assert answer.status_code == 409
    assert answer.mimetype == "application/problem+json"


def test_cancelling_is_a_wish_that_is_remembered(web: FlaskClient, bridge: Bridge) -> None:
    run = staged.running(bridge)
    answer = web.post(f"/api/v1/runs/{run.id}/cancel")
    assert answer.status_code == 202
    assert answer.get_json()["cancel_asked"] is True
    assert bridge.store.run(run.id).cancel_asked_at is not None
    assert web.post(f"/api/v1/runs/{staged.completed(bridge).id}/cancel").status_code == 409


def test_a_pinned_run_is_told_so_and_found_by_it(web: FlaskClient, bridge: Bridge) -> None:
    kept, other = staged.completed(bridge, "kept"), staged.completed(bridge, "other")
    assert web.post(f"/api/v1/runs/{kept.id}/pin").get_json()["pinned"] is True

    def pinned() -> list[int]:
        return [run["id"] for run in web.get("/api/v1/runs?pinned=1").get_json()["runs"]]

    assert pinned() == [kept.id]
    assert web.get(f"/api/v1/runs/{other.id}").get_json()["pinned"] is False
    assert web.delete(f"/api/v1/runs/{kept.id}/pin").get_json()["pinned"] is False
    assert pinned() == []


def test_a_run_that_is_not_there_is_told_as_a_problem(web: FlaskClient) -> None:
    for path in ("", "/log", "/files", "/files/x", "/results.zip"):
        answer = web.get(f"/api/v1/runs/77{path}")
        assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_health_names_what_does_not_work(web: FlaskClient, bridge: Bridge) -> None:
    staged.show_cluster(bridge)
    assert web.get("/api/v1/health").get_json() == dict.fromkeys(
        ("database", "storage", "slurm", "accounting", "poller"), "ok"
    )
    for part, problem in (("slurm", "problem"), ("accounting", "accounting")):
        staged.show_cluster(bridge, **{problem: "It does not answer."})
        answer = web.get("/api/v1/health")
        assert answer.status_code == 503
        wrong = {name for name, told in answer.get_json().items() if told != "ok"}
        assert wrong == {part}
    assert web.get("/api/v1/live").get_json() == {"live": True}


def test_health_tells_a_database_and_a_storage_that_are_away(
    web: FlaskClient, app: APIFlask, bridge: Bridge
) -> None:
    staged.show_cluster(bridge)
    staged.here(bridge).uploads.rmdir()
    assert "shared storage" in web.get("/api/v1/health").get_json()["storage"]
    store = SqlStore(make_engine("sqlite:////nowhere/nias.db"))
    app.extensions[KEY] = replace(bridge, store=store)
    nobody = app.test_client()
    told = nobody.get("/api/v1/health")
    assert told.status_code == 503
    assert {n for n, word in told.get_json().items() if word != "ok"} == {"database", "storage"}
    assert nobody.get("/api/v1/live").status_code == 200


def test_the_description_has_every_address_and_the_page_is_served_from_here(
    web: FlaskClient,
) -> None:
    spec = json.loads(web.get("/api/openapi.json").data)
    assert {path.removeprefix("/api/v1") for path in spec["paths"]} == {
        "/datasets",
        "/datasets/{dataset_id}",
        "/datasets/{dataset_id}/shared",
        "/datasets/{dataset_id}/versions/{version_id}",
        "/datasets/{dataset_id}/versions/{version_id}/files",
        "/runs",
        "/runs/{run_id}",
        "/runs/{run_id}/log",
        "/runs/{run_id}/tasks",
        "/runs/{run_id}/tasks.csv",
        "/runs/{run_id}/tasks/{index}",
        "/runs/{run_id}/tasks/{index}/log",
        "/runs/{run_id}/tasks/{index}/files",
        "/runs/{run_id}/tasks/{index}/files/{path}",
        "/runs/{run_id}/tasks/{index}/results.zip",
        "/runs/{run_id}/tasks/{index}/cancel",
        "/runs/{run_id}/failed-again",
        "/runs/{run_id}/files",
        "/runs/{run_id}/files/{path}",
        "/runs/{run_id}/requirements.lock",
        "/runs/{run_id}/results.zip",
        "/runs/{run_id}/cancel",
        "/runs/{run_id}/pin",
        "/runs/{run_id}/run.json",
        "/runs/{run_id}/crate.zip",
        "/runs/{run_id}/again",
        "/runs/{run_id}/correct",
        "/runs/{run_id}/remove",
        "/people",
        "/people/{person_id}/approve",
        "/people/{person_id}/disable",
        "/people/{person_id}/enable",
        "/groups",
        "/audit",
        "/unclaimed",
        "/unclaimed/{account}/link",
        "/compare",
        "/health",
        "/live",
        "/me",
        "/cluster",
        "/environments",
    }
    assert "application/zip" in spec["paths"]["/api/v1/runs"]["post"]["requestBody"]["content"]
    assert set(JobState) == set(spec["components"]["schemas"]["RunOut.JobState"]["enum"])
    for ways in spec["paths"].values():
        for way in ways.values():
            assert list(way["responses"]["4XX"]["content"]) == ["application/problem+json"]
    used = {tag for ways in spec["paths"].values() for way in ways.values() for tag in way["tags"]}
    shown = [tag["name"] for tag in spec["tags"]]
    assert (shown[0], shown[-1], set(shown)) == ("Runs", "Administration", used)
    page = web.get("/api/docs").get_data(as_text=True)
    assert "swagger-ui-bundle.js" in page
    assert "//cdn" not in page
    with web.get("/api/docs/swagger-ui-bundle.js") as script:
        assert script.status_code == 200
    assert web.get("/api/docs/index.html").status_code == 404
