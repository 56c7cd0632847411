"""Previews on a real Slurm: real files, looked into on the node once the results are there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from client import Client
from sites import client_of, served

from nias_bridge.localcluster import LocalCluster
from nias_bridge.site import Site, running

# The standard library alone: what looks into the files comes from an environment of its own.
WRITES = """
import json, math, struct, wave
from array import array
with wave.open("output/tone.wav", "wb") as tone:
    tone.setparams((1, 2, 8000, 0, "NONE", ""))
    tone.writeframes(array("h", [int(16000 * math.sin(n / 3)) for n in range(8000)]).tobytes())
with open("output/emg.npy", "wb") as file:
    head = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000,), }".ljust(117) + "\\n"
    file.write(b"\\x93NUMPY\\x01\\x00" + struct.pack("<H", len(head)) + head.encode())
    file.write(array("d", range(1000)).tobytes())
rows = "".join(f"{n},{n * n}\\n" for n in range(50))
open("output/table.csv", "w").write("hertz,power\\n" + rows)
open("output/broken.npy", "wb").write(b"no array")
"""


@pytest.fixture(scope="module")
def site(cluster: LocalCluster, make_site: Callable[..., Site]) -> Any:
    """A bridge whose nodes make previews, which is off elsewhere: it takes each run seconds."""
    with served(make_site(cluster, previews=True)) as made, running(made, "poll"):
        yield made


@pytest.fixture(scope="module")
def client(site: Site) -> Client:
    return client_of(site)


def previews(client: Client, run_id: int) -> dict[str, Any]:
    files = json.loads(client.get(f"/api/v1/runs/{run_id}/files"))["files"]
    return {file["path"]: file["preview"] for file in files}


def test_files_are_shown_and_the_job_ends_as_its_code_did(client: Client) -> None:
    run = client.ended(client.upload(WRITES + "raise SystemExit(3)\n")["id"], seconds=120)
    assert (run["state"], run["exit_code"]) == ("FAILED", 3)
    seen = previews(client, run["id"])
    assert seen["tone.wav"]["summary"][0]["rate"] == 8000, client.log(run["id"])
    assert seen["emg.npy"]["summary"][0]["max"] == 999
    assert seen["table.csv"]["rows"][:2] == [["hertz", "power"], ["0", "0"]]
    assert seen["broken.npy"]["error"]
    for file in ("tone.wav", "emg.npy", "table.csv"):
        for plot in seen[file]["plots"]:
            assert client.get(plot).startswith(b"<svg ")
    assert set(client.results(run["id"])) == set(seen)
    assert "[nias] Previews made in" in client.log(run["id"])


def test_a_cancelled_job_ends_at_once_and_has_its_results(client: Client) -> None:
    code = WRITES + "print('written', flush=True)\nimport time; time.sleep(600)\n"
    run_id = client.upload(code)["id"]
    client.wait(run_id, lambda run: "written" in client.log(run_id))
    client.cancel(run_id)
    assert client.ended(run_id)["state"] == "CANCELLED"
    assert "tone.wav" in client.results(run_id)
    assert set(previews(client, run_id).values()) == {None}
