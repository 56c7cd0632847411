"""Claims about previews as the gateway gives them: what a job wrote can do no harm."""

from __future__ import annotations

import json
from typing import Any

import pytest
import shown
import staged
from flask.testing import FlaskClient

from nias_bridge.domain import JobState, Run
from nias_bridge.services.bridge import Bridge

SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
OUTPUTS = {
    "tone.wav": b"RIFF" * 100,
    "many.npz": b"PK",
    "report.html": b"<h1>Hello</h1><script>parent.alert(1)</script>",
    "notes.md": b"# Title",
    "plot.png": staged.picture(),
    "broken.npy": b"x",
}
ENTRIES: dict[str, Any] = {
    "tone.wav": {"kind": "audio", "summary": [{"rate": 44100}], "plots": ["0001-a.svg"]},
    "many.npz": {
        "kind": "array",
        "summary": [{"name": "a", "shape": [20000, 3], "mean": 0.1 + 0.2, "nan": 0, "max": None}],
        "plots": ["0002-a.svg"],
    },
    "plot.png": {"kind": "image", "summary": [{"width": 480}], "plots": ["0003-a.png"]},
    "notes.md": {"kind": "markdown", "summary": [{"whole": True}], "text": "0004-a.txt"},
    "report.html": {"kind": "html", "summary": [{"size": 47}]},
    "broken.npy": {"kind": "other", "summary": [{"size": 1}], "error": "it is not an array"},
}


@pytest.fixture
def run(bridge: Bridge) -> Run:
    made = staged.move(
        bridge, staged.add(bridge, "emg"), *staged.STARTED, JobState.COMPLETED, elapsed=4
    )
    staged.leave(bridge, made, OUTPUTS)
    write(bridge, made, ENTRIES)
    folder = staged.here(bridge).run(made).previews
    for name in ("0001-a.svg", "0002-a.svg"):
        (folder / name).write_bytes(SVG)
    (folder / "0003-a.png").write_bytes(staged.picture(24, 10))
    (folder / "0004-a.txt").write_text("# Title\n<b>é</b>")
    return made


def write(bridge: Bridge, run: Run, entries: object) -> None:
    folder = staged.here(bridge).run(run).previews
    folder.mkdir(exist_ok=True)
    (folder / "index.json").write_text(json.dumps({"files": entries, "left_out": 0}))


def test_the_page_offers_what_can_be_looked_at_and_shows_thumbnails(
    web: FlaskClient, run: Run
) -> None:
    page = shown.page(web, f"/runs/{run.id}")
    looks = [path for path in OUTPUTS if f'data-look="/runs/{run.id}/look/{path}"' in page]
    assert looks == ["tone.wav", "many.npz", "report.html", "notes.md"]
    assert f'<img src="/runs/{run.id}/previews/0003-a.png" alt="plot.png"' in page
    assert f'href="/runs/{run.id}/files/plot.png"' in page


@pytest.mark.parametrize("how", ["", "?part"])
def test_each_kind_is_shown_in_its_way(web: FlaskClient, run: Run, how: str) -> None:
    def look(path: str) -> str:
        return shown.page(web, f"/runs/{run.id}/look/{path}{how}")

    assert f'<audio controls preload="none" src="/runs/{run.id}/files/tone.wav"' in look("tone.wav")
    array = look("many.npz")
    assert f'<img src="/runs/{run.id}/previews/0002-a.svg"' in array
    assert "<td>20,000 × 3</td>" in array and "<td>0.3</td>" in array and "<td>–</td>" in array
    assert "&lt;b&gt;é&lt;/b&gt;" in look("notes.md")
    assert f'<iframe sandbox src="/runs/{run.id}/frame/report.html"' in look("report.html")
    assert "There is no more to see: it is not an array." in look("broken.npy")
    assert ("<html" in look("notes.md")) == (how == "")


def test_pieces_can_run_nothing_and_have_their_type(web: FlaskClient, run: Run) -> None:
    for name, kind in (
        ("0001-a.svg", "image/svg+xml"),
        ("0003-a.png", "image/png"),
        ("0004-a.txt", "text/plain"),
    ):
        answer = web.get(f"/runs/{run.id}/previews/{name}", buffered=True)
        assert answer.mimetype == kind
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and policy.endswith("sandbox")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for name in ("index.json", "0009-a.svg", "..%2Fexit.json", "0001-a.html"):
        assert web.get(f"/runs/{run.id}/previews/{name}", buffered=True).status_code == 404


def test_html_is_for_a_frame_of_ours_alone_without_scripts(web: FlaskClient, run: Run) -> None:
    answer = web.get(f"/runs/{run.id}/frame/report.html", buffered=True)
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "frame-ancestors 'self'", "sandbox"} <= set(policy)
    assert not any("script" in part or "allow" in part for part in policy)
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert web.get(f"/runs/{run.id}/frame/notes.md").status_code == 404
    plain = web.get(f"/runs/{run.id}/files/report.html", buffered=True)
    assert plain.headers["Content-Disposition"].startswith("attachment")
    assert web.get(f"/runs/{run.id}").headers["X-Frame-Options"] == "DENY"


def test_sound_is_played_from_anywhere_in_it(web: FlaskClient, run: Run) -> None:
    answer = web.get(
        f"/runs/{run.id}/files/tone.wav", headers={"Range": "bytes=4-7"}, buffered=True
    )
    assert (answer.status_code, answer.data) == (206, b"RIFF")


def test_programs_get_the_previews_with_the_files(web: FlaskClient, run: Run) -> None:
    files = web.get(f"/api/v1/runs/{run.id}/files").get_json()["files"]
    previews = {file["path"]: file["preview"] for file in files}
    assert previews["many.npz"]["summary"][0]["shape"] == [20000, 3]
    assert web.get(previews["tone.wav"]["plots"][0], buffered=True).status_code == 200
    assert (
        web.get(previews["notes.md"]["text"], buffered=True)
        .get_data(as_text=True)
        .endswith("<b>é</b>")
    )
    assert previews["broken.npy"]["error"] == "it is not an array"


@pytest.mark.parametrize(
    "entries",
    [
        [],
        {"tone.wav": 1, "notes.md": {"summary": []}},
        {"tone.wav": {"kind": "audio", "plots": ["../../exit.json"]}},
        {"notes.md": {"kind": "text", "cells": [{"type": "code", "text": "", "pictures": ["/x"]}]}},
    ],
)
def test_an_index_that_is_not_as_it_should_be_is_none(
    web: FlaskClient, bridge: Bridge, run: Run, entries: object
) -> None:
    write(bridge, run, entries)
    assert "data-look" not in shown.page(web, f"/runs/{run.id}")
    assert web.get(f"/runs/{run.id}/look/tone.wav").status_code == 404


def test_a_link_in_the_place_of_previews_leads_nowhere(
    web: FlaskClient, bridge: Bridge, run: Run
) -> None:
    folder = staged.here(bridge).run(run).previews
    aside = folder.rename(staged.here(bridge).root / "elsewhere")
    folder.symlink_to(aside)
    assert web.get(f"/runs/{run.id}/previews/0001-a.svg").status_code == 404
    assert "data-look" not in shown.page(web, f"/runs/{run.id}")
