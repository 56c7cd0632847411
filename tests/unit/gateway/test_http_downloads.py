"""Claims about what is downloaded: in parts, by its head alone, and never from elsewhere."""

from __future__ import annotations

import os
import shutil

import pytest
import staged
from flask.testing import FlaskClient

from nias_bridge.services.bridge import Bridge

BOTH = pytest.mark.parametrize("what", ["files/spectrum.csv", "results.zip"])


@BOTH
def test_its_head_tells_all_but_the_content(web: FlaskClient, bridge: Bridge, what: str) -> None:
    url = f"/api/v1/runs/{staged.completed(bridge).id}/{what}"
    whole, head = web.get(url, buffered=True), web.head(url, buffered=True)
    assert (head.status_code, head.data) == (200, b"")
    for name in ("Content-Length", "ETag", "Last-Modified", "Accept-Ranges", "Content-Type"):
        assert head.headers[name] == whole.headers[name]
    assert int(head.headers["Content-Length"]) == len(whole.data)


@BOTH
def test_a_broken_off_download_is_taken_up_again(
    web: FlaskClient, bridge: Bridge, what: str
) -> None:
    url = f"/api/v1/runs/{staged.completed(bridge).id}/{what}"
    whole = web.get(url, buffered=True)
    asks = {"Range": "bytes=7-", "If-Range": whole.headers["ETag"]}
    rest = web.get(url, headers=asks, buffered=True)
    assert (rest.status_code, rest.data) == (206, whole.data[7:])
    changed = web.get(url, headers={**asks, "If-Range": '"other"'}, buffered=True)
    assert (changed.status_code, changed.data) == (200, whole.data)


def test_a_link_put_in_the_place_of_output_leads_nowhere(web: FlaskClient, bridge: Bridge) -> None:
    run = staged.running(bridge)
    files = staged.here(bridge).run(run)
    secret = staged.here(bridge).root.parent / "secret"
    secret.mkdir()
    (secret / "key").write_text("of the site")
    files.project.mkdir(exist_ok=True)
    files.output.symlink_to(secret)
    assert web.get(f"/api/v1/runs/{run.id}/files").get_json()["files"] == []
    assert web.get(f"/api/v1/runs/{run.id}/files/key").status_code == 404
    # A manifest of its own making does not help it.
    files.manifest.write_text(
        '{"files": [{"path": "key", "size": 11, "sha256": ""}], "left_out": []}'
    )
    assert web.get(f"/api/v1/runs/{run.id}/files/key").status_code == 404


def test_links_and_pipes_in_the_place_of_what_the_node_writes_are_not_read(
    web: FlaskClient, bridge: Bridge
) -> None:
    run = staged.completed(bridge)
    files = staged.here(bridge).run(run)
    for file in (files.results, files.manifest, files.progress, files.exit):
        file.unlink()
    shutil.rmtree(files.output)
    (staged.here(bridge).root / "secret").write_text("of the site")
    files.results.symlink_to(staged.here(bridge).root / "secret")
    os.mkfifo(files.manifest)
    os.mkfifo(files.progress)
    assert web.get(f"/api/v1/runs/{run.id}/results.zip").status_code == 404
    assert web.get(f"/api/v1/runs/{run.id}").status_code == 200
