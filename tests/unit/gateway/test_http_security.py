"""Claims about who may change what, and what browsers may do with what we send."""

from __future__ import annotations

import re

import pytest
import staged
from apiflask import APIFlask
from client import zipped
from flask.testing import FlaskClient

from nias_bridge.domain import JobState
from nias_bridge.http import create_app
from nias_bridge.services.bridge import Bridge

BODY = zipped("project", {"code.py": ""})


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
    ],
)
def test_a_page_of_another_site_can_change_nothing(
    web: FlaskClient, bridge: Bridge, headers: dict[str, str]
) -> None:
    run = staged.running(bridge)
    for path in (
        "/api/v1/runs",
        f"/api/v1/runs/{run.id}/cancel",
        "/upload",
        f"/runs/{run.id}/cancel",
    ):
        assert web.post(path, data=BODY, headers=headers).status_code == 403
    assert bridge.store.run(run.id).cancel_asked_at is None


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://localhost"}],
)
def test_our_own_pages_and_programs_can(web: FlaskClient, headers: dict[str, str]) -> None:
    answer = web.post("/api/v1/runs?filename=project.zip", data=BODY, headers=headers)
    assert answer.status_code == 202


@pytest.mark.parametrize("path", ["/", "/api/v1/runs"])
def test_an_unknown_host_name_is_refused(web: FlaskClient, path: str) -> None:
    answer = web.get(path, base_url="http://rebound.example")
    assert answer.status_code == 400
    assert "trusted_hosts" in answer.get_data(as_text=True)


def test_a_page_cannot_be_posted_without_its_token(web: FlaskClient, bridge: Bridge) -> None:
    run = staged.running(bridge)
    answer = web.post(f"/runs/{run.id}/cancel")
    assert answer.status_code == 400
    assert "reload" in answer.get_data(as_text=True)
    assert bridge.store.run(run.id).cancel_asked_at is None
    page = web.get(f"/runs/{run.id}").get_data(as_text=True)
    (token,) = set(re.findall(r'name="csrf_token" value="([^"]+)"', page))
    assert web.post(f"/runs/{run.id}/cancel", data={"csrf_token": token}).status_code == 303


def test_an_upload_without_its_token_is_not_kept(web: FlaskClient, bridge: Bridge) -> None:
    import io

    answer = web.post("/upload", data={"file": (io.BytesIO(BODY), "project.zip")})
    assert answer.status_code == 400
    assert list(staged.here(bridge).uploads.iterdir()) == []


def test_every_answer_is_strict_with_the_browser(app: APIFlask, bridge: Bridge) -> None:
    web = staged.program(app, bridge)
    run = staged.completed(bridge)
    for path in ("/", "/upload", "/results", f"/runs/{run.id}", "/api/v1/runs", "/x", "/api/docs"):
        headers = web.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"


def test_pages_have_no_script_or_style_within(web: FlaskClient, bridge: Bridge) -> None:
    run = staged.completed(bridge)
    for path in ("/", "/upload", "/results", f"/runs/{run.id}", "/api/docs"):
        page = web.get(path).get_data(as_text=True)
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
        assert not re.search(r'(?:src|href)="(?:https?:)?//', page)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plot.png", True),
        ("photo.JPG", True),
        ("plot.svg", False),
        ("page.html", False),
        ("table.csv", False),
        ("code.js", False),
        ("plot.png.gz", False),
    ],
)
def test_only_images_are_shown_and_nothing_runs(
    web: FlaskClient, bridge: Bridge, name: str, shown: bool
) -> None:
    run = staged.move(bridge, staged.add(bridge, "left"), *staged.STARTED, JobState.COMPLETED)
    staged.leave(bridge, run, {name: b"<script>alert(1)</script>"})
    for path in (f"/runs/{run.id}/files/{name}", f"/api/v1/runs/{run.id}/files/{name}"):
        with web.get(path) as answer:
            disposition = answer.headers.get("Content-Disposition", "")
            assert disposition.startswith("attachment") is not shown
            assert "sandbox" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_names_of_strangers_are_text_and_not_markup(web: FlaskClient, bridge: Bridge) -> None:
    run = staged.move(bridge, staged.add(bridge, "left"), *staged.STARTED, JobState.COMPLETED)
    staged.leave(bridge, run, {"<img src=x onerror=alert(1)>.png": b""}, message="<b>bold</b>")
    staged.say(bridge, run, "</pre><script>alert(2)</script>")
    page = web.get(f"/runs/{run.id}").get_data(as_text=True)
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    search = web.get("/results?q=<script>alert(3)</script>").get_data(as_text=True)
    assert "<script>alert" not in search


def test_cookies_of_two_gateways_on_one_host_do_not_meet(bridge: Bridge) -> None:
    app = create_app(bridge)
    assert str(bridge.settings.port) in app.config["SESSION_COOKIE_NAME"]
