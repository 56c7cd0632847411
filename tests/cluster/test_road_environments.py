"""Environments on the real road: what exists only as source, and what can't be had."""

from __future__ import annotations

from client import Client

DOCOPT = """
# /// script
# dependencies = ["docopt==0.6.2"]
# ///
import docopt
open("output/version", "w").write(docopt.__version__)
"""


def test_a_package_that_exists_only_as_source_is_built_for_its_owner_and_used(
    client: Client,
) -> None:
    run = client.ended(client.upload(DOCOPT)["id"])
    log = client.log(run["id"])
    assert run["state"] == "COMPLETED", log
    assert "there is no wheel, only source code. It is built for your runs alone." in log
    assert client.results(run["id"])["version"] == b"0.6.2"
    lock = client.get(f"/runs/{run['id']}/requirements.lock").decode()
    assert "docopt==0.6.2" in lock
    assert lock.count("--hash=sha256:") == 1
    again = client.ended(client.post(f"/api/v1/runs/{run['id']}/again")["id"])
    assert again["evidence"]["environment"]["built"] is False
    assert again["evidence"]["environment"]["key"] == run["evidence"]["environment"]["key"]


def test_the_requirement_that_can_not_be_had_is_named(client: Client) -> None:
    asked = {"requirements.txt": "iniconfig==0.0.0.1\n"}
    run = client.ended(client.upload("", more=asked)["id"])
    assert run["state"] == "FAILED"
    told = run["evidence"]
    assert told["message"] == "The package index has no version that fits “iniconfig==0.0.0.1”."
    assert "iniconfig==0.0.0.1" in told["details"]
