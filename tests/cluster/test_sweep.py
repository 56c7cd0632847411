"""A sweep on a real Slurm: one array, its tasks told apart, their results in one zip."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from client import Client

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
