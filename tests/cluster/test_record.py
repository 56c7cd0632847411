"""What stays of a run on a real Slurm: its record, and the same again to the last byte."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

import pytest
from client import Client

from nias_bridge.localcluster import machine
from nias_bridge.node import environment, files

CODE = """
import random
import iniconfig
random.seed(11)
with open("output/numbers.txt", "w") as out:
    print(random.random(), hash("signal"), file=out)
"""


def record(client: Client, run_id: int) -> dict[str, Any]:
    return dict(json.loads(client.get(f"/api/v1/runs/{run_id}/run.json")))


@pytest.fixture(scope="module")
def first(client: Client) -> dict[str, Any]:
    run = client.ended(client.upload(CODE, more={"requirements.txt": "iniconfig\n"})["id"])
    assert run["state"] == "COMPLETED", client.log(run["id"])
    return record(client, run["id"])


def test_the_record_says_what_the_node_and_slurm_say(first: dict[str, Any]) -> None:
    assert first["slurm"]["job_id"]
    assert first["slurm"]["elapsed"] is not None
    assert first["slurm"]["nodes"] == first["node"]
    assert first["platform"].startswith("Linux")
    version = [int(number) for number in first["slurm_version"].split(".")]
    assert tuple(version[:2]) == machine.slurm_version()[:2]
    assert first["requirements"]["installed"][0].startswith("iniconfig==")
    assert "--hash=sha256:" in first["requirements"]["lock"]
    assert first["script"].startswith("#!/bin/bash")
    assert first["seeds"]["hash_seed"] == "0"
    assert [seed["value"] for seed in first["seeds"]["found"]] == [11]
    assert first["bridge"]["node"] == first["bridge"]["record"]


def test_the_crate_has_what_went_in_and_what_came_out(
    client: Client, first: dict[str, Any]
) -> None:
    body = client.get(f"/api/v1/runs/{first['id']}/crate.zip")
    with zipfile.ZipFile(io.BytesIO(body)) as crate:
        assert crate.testzip() is None
        held = {name: hashlib.sha256(crate.read(name)).hexdigest() for name in crate.namelist()}
        assert crate.read("requirements.lock").decode() == first["requirements"]["lock"]
        assert b"[nias] code.py starts." in crate.read("log.txt")
    assert held["input/project.zip"] == first["input"]["sha256"]
    assert held["output/numbers.txt"] == first["outputs"]["files"][0]["sha256"]


def test_run_exactly_again_has_the_same_packages_even_when_the_environment_is_gone(
    client: Client, first: dict[str, Any], site: Any
) -> None:
    def again() -> dict[str, Any]:
        run = client.post(f"/api/v1/runs/{first['id']}/again?exactly=1")
        assert client.ended(run["id"])["state"] == "COMPLETED", client.log(run["id"])
        return record(client, run["id"])

    reused = again()
    assert reused["requirements"]["lock"] == first["requirements"]["lock"]
    assert reused["environment"]["key"] == first["environment"]["key"]
    assert reused["environment"]["built"] is False
    # Pruned meanwhile:
    folder = site.state / "shared" / "envs" / first["environment"]["key"]
    files.discard(environment.put_aside(folder))
    rebuilt = again()
    assert rebuilt["environment"]["built"] is True
    assert rebuilt["requirements"]["lock"] == first["requirements"]["lock"]
    for told in (reused, rebuilt):
        assert told["outputs"]["files"] == first["outputs"]["files"]
        assert told["resources"] == first["resources"]
