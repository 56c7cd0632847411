"""Claims about a run as an RO-Crate, as the library of RO-Crates reads it."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import staged
from client import zipped
from flask.testing import FlaskClient
from rocrate.rocrate import ROCrate

from nias_bridge.domain import Run
from nias_bridge.node import layout
from nias_bridge.services import crate, zipstream
from nias_bridge.services.bridge import Bridge

CODE = "print(1)\n"


@pytest.fixture
def run(bridge: Bridge) -> Run:
    run = staged.completed(bridge, "Análise EMG 2")
    files = staged.here(bridge).run(run)
    files.archive.write_bytes(zipped(run.project, {"code.py": CODE}))
    files.script.write_text("#!/bin/bash\n")
    (files.folder / layout.LOCK).write_text("numpy==2.3.0 \\\n    --hash=sha256:aa\n")
    return run


Fetch = Callable[[Run], bytes]


@pytest.fixture
def fetch(web: FlaskClient) -> Fetch:
    def fetched(run: Run) -> bytes:
        answer = web.get(f"/api/v1/runs/{run.id}/crate.zip")
        assert (answer.status_code, answer.mimetype) == (200, "application/zip")
        assert int(answer.headers["Content-Length"]) == len(answer.data)
        return answer.data

    return fetched


def opened(body: bytes, folder: Path) -> ROCrate:
    file = folder / "crate.zip"
    file.write_bytes(body)
    return ROCrate(file)


def of_type(read: ROCrate, kind: str) -> Any:
    (found,) = (entity for entity in read.get_entities() if entity.type == kind)
    return found


def test_it_says_what_was_used_on_what_by_whom_and_what_came_of_it(
    run: Run, fetch: Fetch, tmp_path: Path
) -> None:
    read = opened(fetch(run), tmp_path)
    assert read.version == "1.1"
    assert read.name == "Análise EMG 2, run 1"
    for wanted in ("name", "description", "datePublished", "license"):
        assert read.root_dataset[wanted]
    action = of_type(read, "CreateAction")
    assert read.root_dataset["mentions"] == action
    assert action["instrument"].id == "code/code.py"
    assert action["instrument"].type == ["File", "SoftwareSourceCode"]
    assert [used.id for used in action["object"]] == ["input/project.zip", "requirements.lock"]
    assert action["agent"]["name"] == "lab"
    assert action["actionStatus"].endswith("/CompletedActionStatus")
    assert {file.id for file in action["result"]["hasPart"]} == {
        "output/spectrum.csv",
        "output/spectrum.png",
        "output/a/b.json",
    }


def test_every_file_that_it_describes_is_in_it_with_its_size_and_hash(
    run: Run, fetch: Fetch, tmp_path: Path
) -> None:
    body = fetch(run)
    described = [e for e in opened(body, tmp_path).get_entities() if "File" in e.type]
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        files = {name for name in archive.namelist() if not name.endswith("/")}
        assert {entity.id for entity in described} == files - {crate.METADATA}
        for entity in described:
            content = archive.read(entity.id)
            assert entity["contentSize"] == str(len(content))
            if entity.id.startswith("output/"):
                assert entity["sha256"] == hashlib.sha256(content).hexdigest()
        assert archive.read("code/code.py").decode() == CODE
        assert b'"format": 1' in archive.read("run.json")


def test_a_failed_run_says_so_and_why(bridge: Bridge, fetch: Fetch, tmp_path: Path) -> None:
    action = of_type(opened(fetch(staged.failed(bridge)), tmp_path), "CreateAction")
    assert action["actionStatus"].endswith("/FailedActionStatus")
    assert action["error"] == "code.py ended with exit code 1."


def test_a_run_that_goes_on_has_none_yet(web: FlaskClient, bridge: Bridge) -> None:
    answer = web.get(f"/api/v1/runs/{staged.running(bridge).id}/crate.zip")
    assert answer.status_code == 409
    assert "once it has ended" in answer.get_json()["detail"]


def test_what_a_job_left_can_not_lead_out_of_it(run: Run, bridge: Bridge, fetch: Fetch) -> None:
    files = staged.here(bridge).run(run)
    with zipfile.ZipFile(files.results, "w") as archive:
        for name in ("../../up", "/etc/passwd", "a/../../b", "fine"):
            archive.writestr(name, "x")
    (staged.here(bridge).root / "secret").write_text("of the site")
    files.log.unlink()
    files.log.symlink_to(staged.here(bridge).root / "secret")
    with zipfile.ZipFile(io.BytesIO(fetch(run))) as archive:
        assert [n for n in archive.namelist() if n.startswith("output/")] == [
            "output/",
            "output/fine",
        ]
        assert "log.txt" not in archive.namelist()


def test_results_that_are_no_zip_are_told(web: FlaskClient, run: Run, bridge: Bridge) -> None:
    staged.here(bridge).run(run).results.write_bytes(b"nothing of the kind")
    answer = web.get(f"/api/v1/runs/{run.id}/crate.zip")
    assert answer.status_code == 409
    assert "can't be read" in answer.get_json()["detail"]


def test_large_files_are_never_in_memory(run: Run, bridge: Bridge) -> None:
    with staged.here(bridge).run(run).archive.open("wb") as archive:
        archive.truncate(100 * staged.MIB)
    parts = crate.parts(bridge, run)
    tracemalloc.start()
    try:
        sent = sum(map(len, zipstream.stream(parts)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent > 100 * staged.MIB
    assert peak < 8 * staged.MIB
