"""Claims about what a page and a program are told of a run that failed, and its correction."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Callable
from dataclasses import replace

import staged
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from nias_bridge.cluster import NodeReport
from nias_bridge.domain import JobState, Resources, Run, SlurmReport
from nias_bridge.services.bridge import Bridge

Submit = Callable[..., TestResponse]


def page(web: FlaskClient, run: Run) -> str:
    return " ".join(web.get(f"/runs/{run.id}").get_data(as_text=True).split())


def failed(bridge: Bridge, log: str, requirements: str = "", **exit_json: object) -> Run:
    run = staged.add(bridge, "emg", requirements=requirements)
    run = staged.move(bridge, run, *staged.STARTED, JobState.FAILED, exit_code=1)
    staged.say(bridge, run, log)
    staged.leave(bridge, run, {}, **{"exit_code": 1, "reason": "finished", **exit_json})
    return run


NO_CV2 = """[nias] code.py starts.
\x1b[31mloading\x1b[0m
Traceback (most recent call last):
  File "/shared/runs/lab/emg/1/project/code.py", line 3, in <module>
    import cv2
ModuleNotFoundError: No module named 'cv2'
[nias] code.py ended with exit code 1 after 0.1 s.
"""


def test_a_missing_package_is_named_above_all_and_added_at_a_click(
    web: FlaskClient, submit: Submit, bridge: Bridge
) -> None:
    run = failed(bridge, NO_CV2, "numpy==2.3.0\n# of the lab\nscipy\n")
    text = page(web, run)
    sentence = "which requirements.txt does not bring: its package is opencv-python-headless"
    assert text.index(sentence) < text.index("No module named") < text.index("The road of this run")
    assert "loading Traceback" in text.replace("\n", " "), "without its colour"
    assert "Run again with opencv-python-headless" in text

    answer = submit(f"/runs/{run.id}/correct", rule="missing-package")
    assert answer.status_code == 303
    new = bridge.store.run(run.id + 1)
    assert new.number == 2
    assert new.contents.requirements == ("numpy==2.3.0", "scipy", "opencv-python-headless")
    mended = staged.here(bridge).run(new).mended_requirements
    assert mended.read_text() == "numpy==2.3.0\nscipy\nopencv-python-headless\n"
    assert not staged.here(bridge).run(run).mended_requirements.exists()
    assert bridge.store.run(run.id).contents.requirements == ("numpy==2.3.0", "scipy")


def test_a_second_correction_leaves_the_first_ones_file_alone(
    web: FlaskClient, submit: Submit, bridge: Bridge
) -> None:
    first = failed(bridge, NO_CV2, "numpy\n")
    submit(f"/runs/{first.id}/correct", rule="missing-package")
    second = staged.move(
        bridge, bridge.store.run(first.id + 1), *staged.STARTED, JobState.FAILED, exit_code=1
    )
    staged.say(bridge, second, NO_CV2.replace("cv2", "yaml"))
    staged.leave(bridge, second, {}, exit_code=1)
    assert submit(f"/runs/{second.id}/correct", rule="missing-package").status_code == 303
    third = staged.here(bridge).run(bridge.store.run(second.id + 1)).mended_requirements
    assert third.read_text().split() == ["numpy", "opencv-python-headless", "pyyaml"]
    before = staged.here(bridge).run(second).mended_requirements
    assert before.read_text().split() == ["numpy", "opencv-python-headless"]


def test_more_memory_is_at_most_that_of_the_largest_node(web: FlaskClient, bridge: Bridge) -> None:
    def ended_for(memory: int) -> str:
        run = staged.move(
            bridge,
            staged.add(bridge, "emg", again=True),
            *(*staged.STARTED, JobState.OUT_OF_MEMORY),
            memory_asked=memory,
            exit_code=0,
        )
        told = web.get(f"/api/v1/runs/{run.id}").get_json()["diagnosis"]
        assert told["rule"] == "out-of-memory"
        return str(told["correction"])

    node = NodeReport(name="n1", state="IDLE", cpus=8, cpus_used=0, memory=8 * staged.GIB,
                      memory_used=0, partitions=("main",))  # fmt: skip
    staged.show_cluster(bridge, nodes=(node,))
    assert ended_for(3 * staged.GIB) == "Run again with 6 GB"
    assert ended_for(6 * staged.GIB) == "Run again with 8 GB"
    assert ended_for(8 * staged.GIB) == "None"


def test_a_program_corrects_with_the_word_of_the_rule(web: FlaskClient, bridge: Bridge) -> None:
    run = staged.add(bridge, "emg")
    run = bridge.store.update(run, resources=Resources(time="00:10:00", cpus=2))
    run = staged.move(bridge, run, *staged.STARTED, JobState.TIMEOUT, time_limit=600)
    told = web.get(f"/api/v1/runs/{run.id}").get_json()
    assert told["diagnosis"]["correction"] == "Run again with 00:20 h"
    assert web.post(f"/api/v1/runs/{run.id}/correct").status_code == 400
    wrong = web.post(f"/api/v1/runs/{run.id}/correct?rule=out-of-memory")
    assert (wrong.status_code, wrong.get_json()["type"]) == (
        409,
        "urn:nias-bridge:not-possible",
    )
    new = web.post(f"/api/v1/runs/{run.id}/correct?rule=time-limit")
    assert new.status_code == 202
    asked = bridge.store.run(new.get_json()["id"]).resources
    assert (asked.time, asked.cpus) == ("00:20:00", 2)
    assert web.post(f"/api/v1/runs/{run.id}/again").get_json()["number"] == 3


def test_a_run_that_went_well_but_wrote_beside_output_is_told_so(
    web: FlaskClient, bridge: Bridge
) -> None:
    run = staged.completed(bridge)
    assert web.get(f"/api/v1/runs/{run.id}").get_json()["diagnosis"] is None
    files = staged.here(bridge).run(run)
    told = json.loads(files.exit.read_text())
    told |= {"collected": {"files": 0}, "elsewhere": ["result.csv"]}
    files.exit.write_text(json.dumps(told))
    assert "wrote beside output/ and not into it: result.csv" in page(web, run)


def test_an_open_run_has_no_diagnosis_and_no_correction(
    web: FlaskClient, submit: Submit, bridge: Bridge
) -> None:
    run = staged.running(bridge)
    staged.say(bridge, run, NO_CV2)
    assert web.get(f"/api/v1/runs/{run.id}").get_json()["diagnosis"] is None
    assert submit(f"/runs/{run.id}/correct", rule="missing-package").status_code == 409


def test_a_sweep_is_told_by_the_first_of_its_tasks_that_ended_as_it_did(
    web: FlaskClient, submit: Submit, bridge: Bridge
) -> None:
    run = staged.swept(bridge)
    for index in (2, 3):
        task = bridge.store.task(run.id, index)
        report = SlurmReport(job_id=7, name=run.job_name, state=JobState.FAILED, exit_code=1)
        bridge.store.save_tasks([replace(task, state=JobState.FAILED, report=report)])
        files = staged.here(bridge).run(run).task(index)
        files.folder.mkdir(parents=True, exist_ok=True)
        files.exit.write_text(json.dumps({"exit_code": 1, "reason": "finished"}))
    staged.here(bridge).run(run).task(2).log.write_text(NO_CV2)
    run = staged.move(bridge, run, JobState.FAILED, exit_code=1)
    answer = web.get(f"/api/v1/runs/{run.id}")
    told = answer.get_json()["diagnosis"]
    assert told["rule"] == "no-requirements"
    assert told["sentence"].startswith("Task 2: The code imports cv2 (code.py, line 3)")
    assert told["sentence"] in html.unescape(page(web, run))
    assert submit(f"/runs/{run.id}/correct", rule="no-requirements").status_code == 303
    assert bridge.store.run(run.id + 1).contents.requirements == ("opencv-python-headless",)

    staged.here(bridge).run(run).task(2).log.write_text("")
    known = {"If-None-Match": answer.headers["ETag"]}
    later = web.get(f"/api/v1/runs/{run.id}", headers=known)
    assert later.get_json()["diagnosis"]["rule"] == "ended-itself"


def test_a_diagnosis_costs_no_more_for_a_long_log(web: FlaskClient, bridge: Bridge) -> None:
    run = failed(bridge, "")
    log = staged.here(bridge).run(run).log
    with log.open("r+b") as sparse:
        sparse.truncate(10_000_000_000)
        sparse.seek(0, 2)
        sparse.write(b"\n" + NO_CV2.encode())
    started = time.process_time()
    assert "No module named" in page(web, run)
    assert time.process_time() - started < 1
