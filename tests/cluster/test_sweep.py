"""A sweep on a real Slurm: one array, its tasks told apart, their results in one zip."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from client import Client

from nias_bridge.assets import asset

CODE = """
import json, os, sys
from pathlib import Path
told = json.loads(os.environ["NIAS_PARAMS"])
print("task", os.environ["NIAS_TASK"], os.environ["NIAS_PARAM_CUTOFF"])
Path("output/metrics.json").write_text(json.dumps({"double": 2 * told["cutoff"], "no": "x"}))
Path("output/out.txt").write_text(told["window"])
sys.exit(3 if told == {"cutoff": 20, "window": "hamming"} else 0)
"""
GRID = '[sweep]\ngrid = { cutoff = [10, 20], window = ["hann", "hamming"] }\nmax_parallel = 2\n'


@pytest.fixture(scope="module")
def swept(client: Client) -> dict[str, Any]:
    run = client.upload(CODE, name="sweep-test", more={"nias.toml": GRID})
    return client.ended(run["id"])


@pytest.fixture
def folder(swept: dict[str, Any], site: Any) -> Path:
    (found,) = site.state.glob("shared/runs/*/sweep-test/1")
    return Path(found)


def test_a_sweep_is_one_job_array_and_its_end_the_gravest(
    swept: dict[str, Any], slurm: Callable[..., str]
) -> None:
    assert (swept["state"], swept["exit_code"]) == ("FAILED", 3), swept
    assert swept["note"] == "1 of 4 tasks did not end well."
    told = slurm("sacct", "-XnP", f"--jobs={swept['job_id']}", "--format=JobID,State").split()
    assert sorted(told) == [
        f"{swept['job_id']}_{index}|{'FAILED' if index == 3 else 'COMPLETED'}" for index in range(4)
    ]


def test_each_task_gets_its_parameters_and_leaves_its_own_output(folder: Path) -> None:
    for index, (cutoff, window) in enumerate(
        [(10, "hann"), (10, "hamming"), (20, "hann"), (20, "hamming")]
    ):
        task = folder / "tasks" / str(index)
        assert (task / "project/output/out.txt").read_text() == window
        assert json.loads((task / "exit.json").read_text())["metrics"] == {"double": 2 * cutoff}
        assert f"task {index} {cutoff}\n" in (folder / f"tasks-{index}.out").read_text()
        assert (task / "results.zip").exists()


def test_the_results_come_as_one_zip_with_a_folder_for_each_task(
    client: Client, swept: dict[str, Any]
) -> None:
    found = client.results(swept["id"])
    assert found["2-cutoff=20,window=hann/out.txt"] == b"hann"
    assert len({name.partition("/")[0] for name in found}) == 4


def test_the_api_tells_each_tasks_numbers_and_log(client: Client, swept: dict[str, Any]) -> None:
    tasks = json.loads(client.get(f"/api/v1/runs/{swept['id']}/tasks"))["tasks"]
    assert [task["metrics"] for task in tasks] == [{"double": n} for n in (20, 20, 40, 40)]
    assert [task["exit_code"] for task in tasks] == [0, 0, 0, 3]
    log = json.loads(client.get(f"{tasks[1]['links']['log']}?offset=0"))["text"]
    assert "task 1 10\n" in log


def test_the_failed_one_runs_again_alone_and_one_task_is_cancelled_while_it_waits(
    client: Client, swept: dict[str, Any]
) -> None:
    again = client.post(f"/api/v1/runs/{swept['id']}/failed-again")
    assert (again["number"], again["tasks"]) == (2, 1)
    waits = client.upload(
        "import time; time.sleep(600)\n",
        more={"nias.toml": "[sweep]\ngrid = { n = [1, 2, 3] }\nmax_parallel = 1\n"},
    )
    client.wait(waits["id"], lambda run: run["state"] == "RUNNING")
    tasks = f"/api/v1/runs/{waits['id']}/tasks"

    def states(_: object = None) -> list[str]:
        return [task["state"] for task in json.loads(client.get(tasks))["tasks"]]

    client.post(f"{tasks}/1/cancel")
    client.wait(waits["id"], lambda _: states() == ["RUNNING", "CANCELLED", "PENDING"])
    client.cancel(waits["id"])
    assert client.ended(waits["id"])["state"] == "CANCELLED"
    assert states() == ["CANCELLED"] * 3
    ended = client.ended(again["id"])
    assert (ended["state"], ended["note"]) == ("FAILED", "1 of 1 tasks did not end well.")


def test_the_filter_bank_finds_that_a_window_costs_sharpness_and_buys_silence(
    client: Client,
) -> None:
    folder = asset("examples") / "filter-bank"
    files = {name: (folder / name).read_bytes() for name in ("nias.toml", "requirements.txt")}
    code = (folder / "code.py").read_text(encoding="utf-8")
    run = client.ended(client.upload(code, name="filter-bank", more=files)["id"], seconds=180)
    assert run["state"] == "COMPLETED", run
    tasks = json.loads(client.get(f"/api/v1/runs/{run['id']}/tasks"))["tasks"]
    assert len(tasks) == 6
    for cutoff in (20, 40, 80):
        hann, boxcar = (
            next(t["metrics"] for t in tasks if t["parameters"] == {"cutoff": cutoff, "window": w})
            for w in ("hann", "boxcar")
        )
        assert hann["stopband_db"] < -60 < boxcar["stopband_db"]
        assert abs(hann["gain_at_cutoff_db"] + 6) < 0.5
    left = [t["metrics"]["noise_left"] for t in tasks if t["parameters"]["window"] == "hann"]
    assert left == sorted(left)  # the wider the filter, the more noise passes
    found = client.results(run["id"])
    assert found["0-cutoff=20,window=hann/response.png"].startswith(b"\x89PNG")
