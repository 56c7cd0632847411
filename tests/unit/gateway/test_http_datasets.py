"""Claims about datasets over HTTP: sent by form, body or pieces, shared, ticked, told with runs."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
import staged
from apiflask import APIFlask
from client import zipped
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from nias_bridge.domain import JobState
from nias_bridge.http.here import KEY
from nias_bridge.people import NOBODY, Scope
from nias_bridge.services import datasets, deliveries
from nias_bridge.services.bridge import Bridge

FILES = {"a.csv": "1,2\n", "b/c.bin": b"\0" * 100}
ZIP = zipped("eeg", FILES)
API = "/api/v1/datasets"
TUS = {"Tus-Resumable": "1.0.0"}
NAMED = '[job]\ndatasets = ["eeg"]\n'


def metadata(**words: str) -> str:
    pairs = (f"{name} {base64.b64encode(word.encode()).decode()}" for name, word in words.items())
    return ",".join(pairs)


def begin(
    web: FlaskClient, size: int, where: str = "/api/v1/uploads", **words: str
) -> TestResponse:
    told = {"Upload-Length": str(size), "Upload-Metadata": metadata(**words)}
    return web.post(where, headers={**TUS, **told})


def send(web: FlaskClient, where: str, body: bytes) -> None:
    told = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert web.patch(where, data=body, headers={**TUS, **told}).status_code == 204


def in_pieces(web: FlaskClient, body: bytes, **words: str) -> str:
    """The id of an upload that is whole."""
    where = begin(web, len(body), kind="dataset", **words).headers["Location"]
    send(web, where, body)
    return where.rsplit("/", 1)[1]


def run_of(web: FlaskClient, toml: str = "", **query: str) -> TestResponse:
    body = zipped("study", {"code.py": "", "nias.toml": toml})
    return web.post("/api/v1/runs", data=body, query_string={"filename": "study.zip", **query})


def test_a_zip_as_the_body_becomes_a_dataset(web: FlaskClient, bridge: Bridge) -> None:
    answer = web.post(API, data=ZIP, query_string={"filename": "eeg.zip"})
    assert answer.status_code == 202
    told = answer.get_json()
    assert (told["name"], told["owner"], told["versions"]) == ("eeg", "lab", [])
    assert [each["problem"] for each in told["arriving"]] == [""]
    deliveries.deliver(bridge)
    told = web.get(f"{API}/{told['id']}").get_json()
    (version,) = told["versions"]
    assert (told["arriving"], version["files"], version["size"]) == ([], 2, 104)
    listed = web.get(f"{API}/{told['id']}/versions/{version['id']}/files").get_json()
    assert [(f["path"], f["size"]) for f in listed["files"]] == [("a.csv", 4), ("b/c.bin", 100)]
    assert listed["total"] == 2


def test_pieces_become_a_dataset_once_however_often_that_is_asked(
    web: FlaskClient, bridge: Bridge
) -> None:
    upload = in_pieces(web, ZIP, filename="x.zip", name="eeg")
    first = web.post(API, query_string={"upload": upload})
    assert first.status_code == 202, first.text
    assert first.get_json()["name"] == "eeg"
    for moment in (lambda: None, lambda: deliveries.deliver(bridge)):
        moment()
        again = web.post(API, query_string={"upload": upload})
        assert again.status_code == 202
        told = again.get_json()
        assert len(told["versions"]) + len(told["arriving"]) == 1


def test_nobody_ends_or_goes_on_with_pieces_that_became_a_dataset(
    web: FlaskClient, bridge: Bridge
) -> None:
    upload = in_pieces(web, ZIP, filename="x.zip", name="eeg")
    web.post(API, query_string={"upload": upload})
    assert web.delete(f"/api/v1/uploads/{upload}", headers=TUS).status_code == 404
    deliveries.deliver(bridge)
    assert datasets.visible(bridge)[0].versions


def test_a_dataset_may_be_larger_than_a_project(web: FlaskClient, bridge: Bridge) -> None:
    most = bridge.settings.upload_max_bytes
    assert begin(web, most + 1, filename="x.zip").status_code == 413
    assert begin(web, most + 1, filename="x.zip", kind="dataset").status_code == 201
    beyond = bridge.settings.dataset_max_bytes + 1
    assert begin(web, beyond, filename="x.zip", kind="dataset").status_code == 413


class Unread(io.BytesIO):
    """A body that nobody asks for."""

    def read(self, _size: int | None = -1) -> bytes:
        raise AssertionError("it was read")


def test_what_would_be_refused_in_the_end_is_refused_before_it_is_sent(
    web: FlaskClient, app: APIFlask, bridge: Bridge
) -> None:
    assert begin(web, 10, filename="x", kind="dataset", name="../x").status_code == 400
    assert begin(web, 10, filename="x", kind="model").status_code == 400
    small = bridge.settings.model_copy(update={"quota_stored_bytes": 5})
    app.extensions[KEY] = replace(bridge, settings=small, who=NOBODY)
    answer = begin(web, 10, filename="x", kind="dataset")
    assert (answer.status_code, "may store" in answer.text) == (409, True)
    answer = web.post(API, input_stream=Unread(b"0123456789"))
    assert (answer.status_code, "may store" in answer.text) == (409, True)


def test_an_upload_is_what_it_was_begun_as(web: FlaskClient) -> None:
    upload = in_pieces(web, ZIP, filename="eeg.zip", name="eeg")
    answer = web.post("/api/v1/runs", query_string={"upload": upload})
    assert (answer.status_code, "as a dataset" in answer.text) == (409, True)
    where = begin(web, len(ZIP), filename="eeg.zip").headers["Location"]
    send(web, where, ZIP)
    answer = web.post(API, query_string={"upload": where.rsplit("/", 1)[1]})
    assert (answer.status_code, "as a project" in answer.text) == (409, True)


def test_a_list_goes_on_where_it_ended_and_is_named_by_what_is_in_it(
    web: FlaskClient, bridge: Bridge
) -> None:
    for name in ("one", "two", "three"):
        staged.dataset(bridge, name, {name: name})
    page = web.get(f"{API}?per_page=2")
    assert [each["name"] for each in page.get_json()["datasets"]] == ["three", "two"]
    rest = web.get(page.get_json()["next"]).get_json()
    assert ([each["name"] for each in rest["datasets"]], rest["next"]) == (["one"], None)
    known = {"If-None-Match": page.headers["ETag"]}
    assert web.get(f"{API}?per_page=2", headers=known).status_code == 304
    assert [d["name"] for d in web.get(f"{API}?name=TWO").get_json()["datasets"]] == ["two"]


def rules_about_a_dataset(app: APIFlask) -> list[tuple[str, str]]:
    found = []
    for rule in app.url_map.iter_rules():
        if "dataset_id" in rule.arguments:
            path = re.sub(r"<int:\w+>", "1", rule.rule)
            found += [(method, path) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}]
    return sorted(found)


def test_everything_of_anothers_dataset_is_not_there(app: APIFlask, bridge: Bridge) -> None:
    found = staged.dataset(bridge, "secret-recordings", FILES)
    assert found.id == 1
    stranger = staged.program(app, staged.as_person(bridge, "mallory"))
    tried = rules_about_a_dataset(app)
    assert len(tried) > 8
    token = re.search(r'name="csrf_token" value="([^"]+)"', stranger.get("/datasets").text)
    assert token
    for method, path in tried:
        body: dict[str, Any] = {"data": {"csrf_token": token[1]}}
        if path.startswith("/api/"):
            body = {"json": {"people": [], "groups": []}}
        answer = stranger.open(path, method=method, **({} if method == "GET" else body))
        assert answer.status_code == 404, (method, path)
        assert "secret-recordings" not in answer.text
    assert stranger.get(API).get_json()["datasets"] == []
    assert "secret-recordings" not in stranger.get("/datasets").text
    assert run_of(stranger, '[job]\ndatasets = ["lab/secret-recordings"]\n').status_code == 422
    nobody = app.test_client()
    for method, path in tried:
        assert nobody.open(path, method=method).status_code in (303, 401), (method, path)


def test_who_it_is_shared_with_uses_it_and_learns_of_nobody_else(
    app: APIFlask, web: FlaskClient, bridge: Bridge
) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    bob = staged.program(app, staged.as_person(bridge, "bob"))
    staged.as_person(bridge, "eve-elsewhere")
    shared = web.put(f"{API}/{found.id}/shared", json={"people": ["bob", "eve-elsewhere@lab.org"]})
    assert shared.get_json()["people"] == ["bob", "eve-elsewhere"]
    told = bob.get(f"{API}/{found.id}").get_json()
    assert (told["people"], told["groups"], told["open_runs"]) == (None, None, None)
    assert "eve-elsewhere" not in bob.get(f"/datasets/{found.id}").text
    run = run_of(bob, '[job]\ndatasets = ["lab/eeg"]\n').get_json()
    assert [(d["owner"], d["name"]) for d in run["datasets"]] == [("lab", "eeg")]
    for change in (
        bob.delete(f"{API}/{found.id}"),
        bob.put(f"{API}/{found.id}/shared", json={"people": []}),
    ):
        assert change.status_code == 403
    web.put(f"{API}/{found.id}/shared", json={"people": []})
    assert bob.get(f"{API}/{found.id}").status_code == 404
    assert bob.post(f"/api/v1/runs/{run['id']}/again").status_code == 409


def test_a_token_that_only_reads_changes_no_dataset(app: APIFlask, bridge: Bridge) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    reader = app.test_client()
    known = staged.token(bridge, Scope.READ)
    assert reader.get(f"{API}/{found.id}", headers=known).status_code == 200
    for answer in (
        reader.delete(f"{API}/{found.id}", headers=known),
        reader.put(f"{API}/{found.id}/shared", json={}, headers=known),
        reader.post(API, data=ZIP, headers=known),
    ):
        assert answer.status_code == 403


def test_a_submission_names_datasets_in_place_of_nias_toml(
    web: FlaskClient, bridge: Bridge
) -> None:
    for name in ("eeg", "emg"):
        staged.dataset(bridge, name, {name: name})
    run = run_of(web, NAMED).get_json()
    assert [each["name"] for each in run["datasets"]] == ["eeg"]
    run = run_of(web, NAMED, datasets="emg, lab/eeg", again="1").get_json()
    assert [each["name"] for each in run["datasets"]] == ["emg", "eeg"]
    assert run_of(web, NAMED, datasets="", again="1").get_json()["datasets"] == []
    answer = run_of(web, datasets="ecg", again="1")
    assert (answer.status_code, answer.get_json()["field"]) == (400, "datasets")


def test_the_record_and_the_crate_tell_name_and_hash(web: FlaskClient, bridge: Bridge) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    sha256 = found.versions[0].sha256
    run = bridge.store.run(run_of(web, NAMED).get_json()["id"])
    told = web.get(f"/api/v1/runs/{run.id}/run.json").get_json()
    expected = {"name": "eeg", "owner": "lab", "sha256": sha256, "deleted": False}
    assert told["datasets"] == [expected]
    staged.move(bridge, run, JobState.CANCELLED)
    before = web.get(f"/api/v1/runs/{run.id}").headers["ETag"]
    assert web.delete(f"{API}/{found.id}").status_code == 204
    after = web.get(f"/api/v1/runs/{run.id}", headers={"If-None-Match": before})
    assert after.get_json()["datasets"] == [{**expected, "deleted": True}]
    page = web.get(f"/runs/{run.id}", headers={"Accept": "text/html"}).text
    assert sha256[:12] in page and "deleted" in page
    assert f"#sha256-{sha256}".encode() in web.get(f"/api/v1/runs/{run.id}/crate.zip").data


def test_two_runs_that_saw_other_versions_differ_in_that(web: FlaskClient, bridge: Bridge) -> None:
    staged.dataset(bridge, "eeg", FILES)
    first = run_of(web, NAMED).get_json()["id"]
    staged.dataset(bridge, "eeg", {"a": "newer"})
    second = run_of(web, NAMED, again="1").get_json()["id"]
    told = web.get(f"/api/v1/compare?a={first}&b={second}").get_json()
    pair = told["parameters"]["$NIAS_DATA/eeg"]
    assert pair["a"] != pair["b"]


def test_what_an_open_run_uses_is_not_deleted_and_which_is_told(
    web: FlaskClient, bridge: Bridge, submit: Callable[..., TestResponse]
) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    run = run_of(web, NAMED).get_json()
    answer = web.delete(f"{API}/{found.id}")
    assert (answer.status_code, f"have not ended: {run['id']}" in answer.text) == (409, True)
    page = submit(f"/datasets/{found.id}/delete")
    assert (page.status_code, f"have not ended: {run['id']}" in page.text) == (409, True)


def test_the_page_offers_what_may_be_used_and_ticks_what_the_project_names(
    web: FlaskClient, bridge: Bridge, submit: Callable[..., TestResponse]
) -> None:
    old = staged.dataset(bridge, "eeg", {"a": "old"}).versions[0]
    new = staged.dataset(bridge, "eeg", FILES).versions[0]
    emg = staged.dataset(bridge, "emg", {"a": "emg"}).versions[0]
    toml = f'[job]\ndatasets = ["eeg@{old.short}"]\n'
    project = zipped("study", {"code.py": "", "nias.toml": toml})
    sent = submit("/upload", file=(io.BytesIO(project), "study.zip"))
    where = sent.headers["Location"]
    page = web.get(where).text
    boxes = {
        unescape(value): bool(checked)
        for value, checked in re.findall(r'name="datasets" value="([^"]+)"( checked)?', page)
    }
    assert boxes == {f"lab/eeg@{old.sha256}": True, f"lab/emg@{emg.sha256}": False}
    assert "(not the newest)" in page and new.sha256 not in page
    run = submit(where, choose="1", datasets=[f"lab/emg@{emg.sha256}"])
    run_id = int(run.headers["Location"].rsplit("/", 1)[1])
    assert [each.name for each in bridge.store.run(run_id).datasets] == ["emg"]


def test_the_form_works_without_a_script(
    web: FlaskClient, bridge: Bridge, submit: Callable[..., TestResponse]
) -> None:
    assert "The first one" in web.get("/datasets").text
    sent = submit("/datasets", file=(io.BytesIO(ZIP), "eeg.zip"), name="")
    assert sent.status_code == 303
    assert "is being unpacked" in web.get(sent.location).text
    deliveries.deliver(bridge)
    page = web.get(sent.location).text
    assert "b/c.bin" in page and "data-ended" in page
    wrong = submit("/datasets", file=(io.BytesIO(b"x"), "eeg.zip"), name="eeg")
    assert (wrong.status_code, "can’t be taken" in wrong.text) == (422, True)
    found = datasets.visible(bridge)[0]
    shared = submit(f"/datasets/{found.id}/share", people="nobody@lab.org")
    assert (shared.status_code, "Nobody here is known" in shared.text) == (400, True)
    staged.as_person(bridge, "bob")
    assert submit(f"/datasets/{found.id}/share", people="bob@lab.org").status_code == 303
    assert datasets.visible(bridge)[0].people == ("bob",)
    gone = submit(f"/datasets/{found.id}/delete", version=str(found.versions[0].id))
    assert gone.location == "/datasets"
    assert datasets.visible(bridge) == []


@pytest.mark.parametrize("filename", ["", ".", "../x", "a\0b"])
def test_a_file_without_a_name_that_can_be_is_refused(
    web: FlaskClient, bridge: Bridge, filename: str
) -> None:
    answer = web.post(API, data=b"x", query_string={"filename": filename, "name": "d"})
    assert answer.status_code == 422, answer.text
    assert list(staged.here(bridge).uploads.iterdir()) == []
