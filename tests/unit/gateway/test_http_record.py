"""Claims about the record of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import staged
from client import zipped
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from nias_bridge.domain import JobState, Run
from nias_bridge.node import layout
from nias_bridge.services import intake
from nias_bridge.services.bridge import Bridge

LOCK = """# Python 3.11.2, linux x86_64. The same again: pip install --require-hashes
numpy==2.3.0 \\
    --hash=sha256:aa
scipy==1.16.0 \\
    --hash=sha256:bb
"""
CODE = "import numpy as np\nrng = np.random.default_rng(42)\n"


@pytest.fixture
def run(bridge: Bridge) -> Run:
    """A run that went well, of code that sets a seed."""
    run = staged.completed(bridge)
    files = staged.here(bridge).run(run)
    files.archive.write_bytes(zipped(run.project, {"code.py": CODE}))
    files.script.write_text("#!/bin/bash\n")
    (files.folder / layout.LOCK).write_text(LOCK)
    told = json.loads(files.exit.read_text())
    told |= {"python": "3.11.2", "platform": "Linux", "hash_seed": "0", "bridge": "0.1.0"}
    told["slurm"] = "22.05.8"
    files.exit.write_text(json.dumps(told))
    return run


def record(web: FlaskClient, run: Run) -> dict[str, Any]:
    answer = web.get(f"/api/v1/runs/{run.id}/run.json")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    told: dict[str, Any] = answer.get_json()
    return told


def keys(told: dict[str, Any], before: str = "") -> Iterator[str]:
    for key, value in told.items():
        yield before + key
        if isinstance(value, dict) and before + key != "times.seconds":
            yield from keys(value, f"{before}{key}.")


def test_every_key_is_described_and_no_other(web: FlaskClient, run: Run) -> None:
    page = (Path(__file__).parents[3] / "docs" / "record.md").read_text(encoding="utf-8")
    described = {
        key
        for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
        for key in re.findall(r"`([\w.]+)`", row)
    }
    told = set(keys(record(web, run)))
    blocks = {key.rpartition(".")[0] for key in told}
    assert told - blocks <= described
    assert described <= told


def test_it_says_what_was_run_with_what_and_what_came_of_it(web: FlaskClient, run: Run) -> None:
    told = record(web, run)
    assert (told["state"], told["exit_code"]) == ("COMPLETED", 0)
    assert told["input"]["sha256"] == run.contents.sha256
    assert told["requirements"]["asked"] == ["numpy==2.3.0", "scipy==1.16.0"]
    assert told["requirements"]["installed"] == ["numpy==2.3.0", "scipy==1.16.0"]
    assert told["requirements"]["lock"] == LOCK
    assert told["script"] == "#!/bin/bash\n"
    assert (told["python"], told["platform"], told["seeds"]["hash_seed"]) == (
        "3.11.2",
        "Linux",
        "0",
    )
    assert told["slurm_version"] == "22.05.8"
    assert told["seeds"]["found"] == [
        {"path": "code.py", "line": 2, "call": "np.random.default_rng", "value": 42}
    ]
    assert told["slurm"]["max_rss"] == 184 * staged.MIB
    assert told["times"]["ended"] == told["slurm"]["ended_at"]
    assert {file["path"] for file in told["outputs"]["files"]} == {
        "a/b.json",
        "spectrum.csv",
        "spectrum.png",
    }


def test_it_can_be_had_before_the_end_and_says_what_is_known(
    web: FlaskClient, bridge: Bridge
) -> None:
    assert record(web, staged.running(bridge))["state"] == "RUNNING"
    new = staged.add(bridge, "new")
    told = record(web, new)
    assert (told["slurm"], told["environment"], told["script"]) == (None, None, None)
    assert web.get("/api/v1/runs/77/run.json").status_code == 404


def test_a_run_is_repeated_exactly_with_its_own_lock_and_resources(
    web: FlaskClient, bridge: Bridge, run: Run
) -> None:
    answer = web.post(f"/api/v1/runs/{run.id}/again?exactly=1")
    assert answer.status_code == 202
    again = bridge.store.run(answer.get_json()["id"])
    files = staged.here(bridge).run(again)
    assert (again.number, again.state) == (2, JobState.RECEIVED)
    assert (again.resources, again.contents) == (run.resources, run.contents)
    assert files.exact_lock.read_text() == LOCK
    assert files.archive.read_bytes() == staged.here(bridge).run(run).archive.read_bytes()
    assert record(web, again)["requirements"]["exactly"] is True
    plain = web.post(f"/api/v1/runs/{run.id}/again").get_json()
    assert record(web, bridge.store.run(plain["id"]))["requirements"]["exactly"] is False


def test_a_run_that_had_no_packages_yet_can_not_be_repeated_exactly(
    web: FlaskClient, bridge: Bridge
) -> None:
    answer = web.post(f"/api/v1/runs/{staged.failed(bridge).id}/again?exactly=1")
    assert answer.status_code == 409
    assert "no list of what was installed" in answer.get_json()["detail"]


def test_its_page_leads_to_the_record_and_repeats_it(
    web: FlaskClient, bridge: Bridge, run: Run, submit: Callable[..., TestResponse]
) -> None:
    page = web.get(f"/runs/{run.id}").get_data(as_text=True)
    assert f"/runs/{run.id}/run.json" in page
    assert "Run exactly again" in page
    answer = submit(f"/runs/{run.id}/again", exactly="1")
    assert answer.status_code == 303
    assert staged.here(bridge).run(bridge.store.run(run.id + 1)).exact_lock.is_file()
    assert intake.sources_of(bridge, run) == {"code.py": CODE}
