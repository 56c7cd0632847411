"""Claims about a sweep on its pages, in the API, as CSV and as one zip."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
import staged
from client import zipped
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from nias_bridge.domain import JobState, Run, SlurmReport
from nias_bridge.node import layout
from nias_bridge.services import intake, sweeps
from nias_bridge.services.bridge import Bridge
from nias_bridge.tasks import Task

S = JobState
TOML = '[sweep]\ngrid = { cutoff = [10, 20], label = ["=1+1", "plain"] }\n'


def received(bridge: Bridge) -> Run:
    part = staged.arrived(bridge, zipped("bank", {"code.py": "", "nias.toml": TOML}))
    return intake.receive(bridge, part, "bank.zip")


def end(bridge: Bridge, task: Task, state: JobState, outputs: dict[str, bytes]) -> None:
    """The task has run for 3 s, and left this."""
    run = bridge.store.run(task.run_id)
    now = datetime.now(UTC)
    report = SlurmReport(
        job_id=run.job_id or 1, name=run.job_name, state=state, elapsed=3, nodes="slot1",
        started_at=now, ended_at=now + timedelta(seconds=3), array_tasks=(task.index,),
        exit_code=0 if state is S.COMPLETED else 1,
    )  # fmt: skip
    metrics = {"rms": task.index / 4}
    bridge.store.save_tasks([replace(task, state=state, report=report, metrics=metrics)])
    files = staged.here(bridge).run(run).task(task.index)
    files.folder.mkdir(parents=True)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in outputs.items():
            target = files.output / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            archive.writestr(name, content)
    listed = [{"path": n, "size": len(c), "sha256": None} for n, c in outputs.items()]
    files.manifest.write_text(json.dumps({"files": listed, "left_out": []}))
    files.results.write_bytes(packed.getvalue())
    files.log.write_text(f"said by {task.index}\n")


@pytest.fixture
def sweep(bridge: Bridge) -> Run:
    """Four tasks: 0 and 1 ended well, 2 failed, 3 runs on."""
    run = staged.move(bridge, received(bridge), *staged.STARTED)
    outputs = {"plot.png": staged.picture(), "deep/é.txt": b"x" * 5000}
    for task in bridge.store.tasks(run.id)[:3]:
        end(bridge, task, S.FAILED if task.index == 2 else S.COMPLETED, outputs)
    return run


def ended(bridge: Bridge, run: Run) -> Run:
    end(bridge, bridge.store.task(run.id, 3), S.COMPLETED, {})
    return bridge.store.move(bridge.store.run(run.id), S.FAILED, at=datetime.now(UTC))


def test_the_page_has_a_row_for_each_task_with_parameters_state_time_and_metrics(
    web: FlaskClient, sweep: Run
) -> None:
    page = web.get(f"/runs/{sweep.id}").get_data(as_text=True)
    assert page.count('<tr id="task-') == 4
    assert "3 of 4 ended, 1 not well" in page
    assert re.search(r'aria-current="step">\s*<span class="step-name">Code', page)
    row = page[page.index('<tr id="task-2"') :].partition("</tr>")[0]
    assert "<td>20</td>" in row
    assert 'data-state="FAILED"' in row
    assert "0.5" in row
    assert "3 s" in row


def test_a_large_sweep_is_shown_in_pages_sorted_by_what_the_address_says(
    web: FlaskClient, bridge: Bridge
) -> None:
    run = staged.swept_widely(bridge, 250)

    def shown(query: str) -> list[int]:
        page = web.get(f"/runs/{run.id}{query}").get_data(as_text=True)
        part = web.get(f"/runs/{run.id}/tasks/live{query}").get_data(as_text=True)
        told = re.findall(r'<tr id="task-(\d+)"', page)
        assert told == re.findall(r'<tr id="task-(\d+)"', part)
        return [int(index) for index in told]

    assert shown("") == list(range(100))
    assert shown("?page=3") == list(range(200, 250))
    assert shown("?sort=p.cutoff&order=down")[:3] == [249, 248, 247]
    rms = [index * 37 % 250 for index in shown("?sort=m.rms&order=down&page=2")]
    assert rms == sorted(rms, reverse=True) and len(rms) == 100
    assert len(shown("?page=all&sort=m.rms")) == 250
    assert shown("?page=9") == []
    assert shown("?page=x&sort=nothing&run_id=9") == list(range(100))


def test_a_task_has_a_page_with_its_log_files_and_parameters(web: FlaskClient, sweep: Run) -> None:
    page = web.get(f"/runs/{sweep.id}/tasks/1").get_data(as_text=True)
    assert "said by 1" in page
    assert "plot.png" in page
    assert "Cancel this task</button>" not in page
    assert "Cancel this task</button>" in web.get(f"/runs/{sweep.id}/tasks/3").get_data(
        as_text=True
    )
    with web.get(f"/runs/{sweep.id}/tasks/1/log.txt") as log:
        assert log.data == b"said by 1\n"
    with web.get(f"/runs/{sweep.id}/tasks/1/files/deep/é.txt") as file:
        assert file.data == b"x" * 5000
    assert web.get(f"/runs/{sweep.id}/tasks/1/files/../../../sweep.json").status_code == 404
    assert web.get(f"/runs/{sweep.id}/tasks/9").status_code == 404


def test_what_the_node_saw_in_a_tasks_files_is_shown_beside_them(
    web: FlaskClient, bridge: Bridge, sweep: Run
) -> None:
    folder = staged.here(bridge).run(sweep).task(1).previews
    folder.mkdir()
    (folder / "0001-a.svg").write_bytes(b"<svg/>")
    seen = {"deep/é.txt": {"kind": "text", "plots": ["0001-a.svg"]}}
    (folder / "index.json").write_text(json.dumps({"files": seen}))
    look, piece = f"/runs/{sweep.id}/tasks/1/look/deep/%C3%A9.txt", "tasks/1/previews/0001-a.svg"
    assert f'data-look="{look}"' in web.get(f"/runs/{sweep.id}/tasks/1").get_data(as_text=True)
    for how in ("", "?part"):
        shown = web.get(look + how).get_data(as_text=True)
        assert f'src="/runs/{sweep.id}/{piece}"' in shown
        assert f'href="/runs/{sweep.id}/tasks/1/files/deep/%C3%A9.txt"' in shown
    with web.get(f"/runs/{sweep.id}/{piece}") as answer:
        assert answer.data == b"<svg/>"
    assert web.get(look.replace("tasks/1", "tasks/0")).status_code == 404
    assert "data-look" not in web.get(f"/runs/{sweep.id}/tasks/0").get_data(as_text=True)


def test_the_results_are_one_zip_with_a_folder_for_each_task_that_has_ended(
    web: FlaskClient, sweep: Run, tmp_path: Path
) -> None:
    answer = web.get(f"/runs/{sweep.id}/results.zip")
    assert answer.content_length == len(answer.data)
    (tmp_path / "all.zip").write_bytes(answer.data)
    subprocess.run(["unzip", "-tq", tmp_path / "all.zip"], check=True, stdout=subprocess.DEVNULL)
    with zipfile.ZipFile(tmp_path / "all.zip") as found:
        assert {name.partition("/")[0] for name in found.namelist()} == {
            "0-cutoff=10,label==1+1",
            "1-cutoff=10,label=plain",
            "2-cutoff=20,label==1+1",
        }
        assert found.read("1-cutoff=10,label=plain/deep/é.txt") == b"x" * 5000


def test_what_a_tasks_code_made_of_its_zip_leads_nowhere(
    web: FlaskClient, sweep: Run, bridge: Bridge, tmp_path: Path
) -> None:
    files = staged.here(bridge).run(sweep)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
        bad.writestr("../../escaped", "x")
        bad.writestr("/absolute", "x")
        bad.writestr("fine", "x")
    files.task(0).results.write_bytes((tmp_path / "bad.zip").read_bytes())
    files.task(1).results.unlink()
    files.task(1).results.symlink_to(tmp_path / "bad.zip")
    files.task(2).results.write_bytes(b"no zip")
    with zipfile.ZipFile(io.BytesIO(web.get(f"/runs/{sweep.id}/results.zip").data)) as found:
        assert found.namelist() == ["0-cutoff=10,label==1+1/fine"]


def test_the_table_is_csv_without_formulas(web: FlaskClient, sweep: Run) -> None:
    answer = web.get(f"/runs/{sweep.id}/tasks.csv")
    rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))
    assert [row["label"] for row in rows] == ["'=1+1", "plain", "'=1+1", "plain"]
    assert (rows[2]["state"], rows[2]["rms"], rows[2]["seconds"]) == ("FAILED", "0.5", "3")
    assert rows[3]["rms"] == ""


def test_each_tasks_first_picture_is_in_one_grid(web: FlaskClient, sweep: Run) -> None:
    page = web.get(f"/runs/{sweep.id}/pictures").get_data(as_text=True)
    assert page.count("<figure>") == 3
    assert f"/runs/{sweep.id}/tasks/0/files/plot.png" in page


def test_the_api_tells_the_tasks(web: FlaskClient, sweep: Run) -> None:
    told = web.get(f"/api/v1/runs/{sweep.id}/tasks").get_json()
    assert (told["parameters"], told["metrics"]) == (["cutoff", "label"], ["rms"])
    assert [task["state"] for task in told["tasks"]] == [
        "COMPLETED", "COMPLETED", "FAILED", "PENDING",
    ]  # fmt: skip
    task = told["tasks"][2]
    assert (task["parameters"], task["exit_code"]) == ({"cutoff": 20, "label": "=1+1"}, 1)
    assert web.get(task["links"]["self"]).get_json() == task
    assert web.get(task["links"]["log"]).get_json()["text"] == "said by 2\n"
    assert len(web.get(task["links"]["files"]).get_json()["files"]) == 2
    assert web.get(f"/api/v1/runs/{sweep.id}").get_json()["tasks"] == 4


def test_one_task_can_be_cancelled_while_it_has_not_ended(
    web: FlaskClient, bridge: Bridge, sweep: Run
) -> None:
    assert web.post(f"/api/v1/runs/{sweep.id}/tasks/3/cancel").status_code == 202
    assert bridge.store.task(sweep.id, 3).cancel_asked_at
    answer = web.post(f"/api/v1/runs/{sweep.id}/tasks/0/cancel")
    assert (answer.status_code, answer.get_json()["detail"]) == (
        409,
        "This task has ended already (COMPLETED).",
    )


def test_the_failed_ones_run_again_as_a_new_run_of_only_those(
    web: FlaskClient, bridge: Bridge, sweep: Run, submit: Callable[..., TestResponse]
) -> None:
    early = web.post(f"/api/v1/runs/{sweep.id}/failed-again")
    assert "have not ended yet" in early.get_json()["detail"]
    ended(bridge, sweep)
    answer = submit(f"/runs/{sweep.id}/failed-again")
    new = bridge.store.run(int(answer.location.rpartition("/")[2]))
    assert (new.number, new.tasks, new.contents) == (2, 1, sweep.contents)
    assert bridge.store.task(new.id, 0).parameters == {"cutoff": 20, "label": "=1+1"}
    all_of_it = intake.repeat(bridge, bridge.store.run(sweep.id))
    assert all_of_it.tasks == 4


def test_a_single_job_has_no_tasks(web: FlaskClient, bridge: Bridge) -> None:
    run = staged.completed(bridge)
    assert web.get(f"/runs/{run.id}/tasks.csv").status_code == 404
    assert "Tasks</h2>" not in web.get(f"/runs/{run.id}").get_data(as_text=True)


def test_a_folder_in_the_zip_is_short_and_safe() -> None:
    task = Task(run_id=1, index=7, parameters={"path": "../../a b\\c", "long": "x" * 500})
    name = sweeps.folder_name(task, 1000)
    assert name.startswith("007-path=.._.._a_b_c,long=xxx")
    assert len(name) < 100


def test_the_record_and_the_crate_have_all_tasks(
    web: FlaskClient, bridge: Bridge, sweep: Run
) -> None:
    run = ended(bridge, sweep)
    (staged.here(bridge).run(run).task(0).folder / layout.LOCK).write_text("numpy==2.3.0 \\\n")
    told = web.get(f"/api/v1/runs/{run.id}/run.json").get_json()
    assert [task["parameters"]["cutoff"] for task in told["tasks"]] == [10, 10, 20, 20]
    assert told["requirements"]["installed"] == ["numpy==2.3.0"]
    body = web.get(f"/api/v1/runs/{run.id}/crate.zip").data
    with zipfile.ZipFile(io.BytesIO(body)) as crate:
        assert crate.testzip() is None
        plots = [name for name in crate.namelist() if name.endswith("/plot.png")]
        described = crate.read("ro-crate-metadata.json").decode()
    assert len(plots) == 3
    assert all(name.startswith("output/") and quote(name) in described for name in plots)
    again = web.post(f"/api/v1/runs/{run.id}/again?exactly=1").get_json()
    new = bridge.store.run(again["id"])
    assert (new.tasks, staged.here(bridge).run(new).exact_lock.is_file()) == (4, True)
