"""Claims about nias.toml at upload: read, held to the site's limits, overridden by the form."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import staged
from client import zipped
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from nias_bridge.cluster import NodeReport
from nias_bridge.domain import Program, Resources
from nias_bridge.script import render
from nias_bridge.services import intake
from nias_bridge.services.bridge import Bridge

SAYS = """
[job]
time = "02:00:00"
cpus = 2
memory = "1G"
main = "train.py"
args = ["--fast", "two words"]
requeue = true
"""
GIB = 1024**3


def project(toml: str, **more: str) -> bytes:
    return zipped("p", {"code.py": "", "train.py": "", "nias.toml": toml, **more})


def send(web: FlaskClient, body: bytes, **query: str) -> TestResponse:
    return web.post("/api/v1/runs", query_string={"filename": "p.zip", **query}, data=body)


def show_node(bridge: Bridge) -> None:
    node = NodeReport(
        name="n1", state="IDLE", cpus=4, cpus_used=0, memory=8 * GIB, memory_used=0,
        partitions=("main", "long"),
    )  # fmt: skip
    staged.show_cluster(bridge, nodes=(node,))


def test_a_run_asks_for_what_nias_toml_says(web: FlaskClient, bridge: Bridge) -> None:
    told = send(web, project(SAYS)).get_json()
    assert told["resources"] == {
        "time": "02:00:00", "cpus": 2, "memory": "1G", "gpus": None, "partition": None,
        "requeue": True,
    }  # fmt: skip
    run = bridge.store.run(told["id"])
    assert run.program == Program(main="train.py", args=("--fast", "two words"))
    script = render(run, bridge.paths, bridge.settings)
    assert "#SBATCH --time=02:00:00\n" in script
    assert "#SBATCH --requeue\n" in script
    assert script.endswith("-- train.py --fast 'two words'\n")


def test_what_is_asked_with_the_upload_goes_before_the_file(
    web: FlaskClient, bridge: Bridge
) -> None:
    told = send(web, project(SAYS), time="30", cpus="1").get_json()
    asked = bridge.store.run(told["id"]).resources
    assert asked == Resources(time="30", cpus=1, memory="1G", requeue=True)


def test_run_again_starts_the_same_program(web: FlaskClient, bridge: Bridge) -> None:
    run = bridge.store.run(send(web, project(SAYS)).get_json()["id"])
    again = intake.repeat(bridge, run)
    assert (again.program, again.resources) == (run.program, run.resources)


def test_every_problem_of_the_file_is_told_at_once(web: FlaskClient) -> None:
    answer = send(web, project('[job]\ntime = 5\ncpu = 4\n[sweep]\nfile = "no.csv"\n'))
    told = answer.get_json()
    assert (answer.status_code, told["type"]) == (422, "urn:nias-bridge:bad-project-file")
    assert len(told["problems"]) == 3
    assert all(problem.startswith("nias.toml") for problem in told["problems"])
    assert "did you mean cpus?" in told["detail"]


def test_the_page_lists_the_problems_too(submit: Callable[..., TestResponse]) -> None:
    sent = (io.BytesIO(project("[job]\ntime = 5\ncpu = 4\n")), "p.zip")
    answer = submit("/upload", file=sent)
    assert answer.status_code == 422
    assert answer.get_data(as_text=True).count("<li>nias.toml") == 2


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("cpus", "64", "at most 4"),
        ("memory", '"9G"', "at most 8192M"),
        ("time", '"2-00:00:00"', "at most 1-00:00:00"),
        ("gpus", "3", "at most 2"),
        ("partition", '"short"', "there is long, main"),
        ("python", '"3.9"', "this site has 3.12"),
        ("datasets", '["eeg"]', "is no dataset of yours"),
    ],
)
def test_what_is_beyond_the_site_is_refused_with_key_and_what_is_allowed(
    tmp_path: Any, key: str, value: str, allowed: str
) -> None:
    pythons = {"3.12": "/opt/python3.12/bin/python3"}
    bridge = staged.make_bridge(tmp_path, time_max="1-00:00:00", gpus_max=2, pythons=pythons)
    show_node(bridge)
    part = staged.arrived(bridge, project(f"[job]\n{key} = {value}\n"))
    with pytest.raises(intake.BadUpload) as refused:
        intake.judge(bridge, part, "p.zip")
    (problem,) = refused.value.problems  # type: ignore[attr-defined]
    assert problem.startswith(f"nias.toml: job.{key} ")
    assert allowed in problem


def test_what_is_beyond_the_site_is_refused_in_the_query_too(
    web: FlaskClient, bridge: Bridge
) -> None:
    show_node(bridge)
    answer = send(web, project(""), cpus="64")
    assert (answer.status_code, answer.get_json()["field"]) == (400, "cpus")


def test_a_python_of_the_site_starts_the_run(tmp_path: Any) -> None:
    bridge = staged.make_bridge(tmp_path, pythons={"3.12": "/opt/py 12/python3"})
    part = staged.arrived(bridge, project('[job]\npython = "3.12"\n'))
    run = intake.receive(bridge, part, "p.zip")
    assert "exec '/opt/py 12/python3' " in render(run, bridge.paths, bridge.settings)


def test_a_project_without_code_py_runs_what_its_file_names(web: FlaskClient) -> None:
    good = zipped("p", {"train.py": "", "nias.toml": '[job]\nmain = "train.py"\n'})
    assert send(web, good).get_json()["main"] == "train.py"
    bad = zipped("q", {"train.py": "", "nias.toml": "[job]\ncpus = 1\n"})
    assert "name the file to run as job.main" in send(web, bad).get_json()["detail"]


def test_the_form_is_filled_with_the_files_wishes_and_earlier_runs_peaks(
    web: FlaskClient, bridge: Bridge
) -> None:
    staged.completed(bridge, "p")  # 184 MiB, 4 s
    part = staged.arrived(bridge, project("[job]\ncpus = 3\n"))
    page = web.get(f"/upload/{intake.hold(bridge, part, 'p.zip')}").get_data(as_text=True)
    assert 'name="cpus" value="3"' in page
    assert 'name="memory" value="288M"' in page
    assert 'name="time" value="00:10:00"' in page
    assert "one and a half times the peak" in page
