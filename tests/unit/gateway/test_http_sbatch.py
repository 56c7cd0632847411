"""Runs by plain sbatch on the pages and over the API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import shown
import staged
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from nias_bridge.domain import (
    Contents,
    JobState,
    Native,
    NewRun,
    Resources,
    Run,
    SlurmReport,
    Unclaimed,
)
from nias_bridge.services.bridge import Bridge


def adopted(bridge: Bridge, *, name: str = "nias", tasks: tuple[int, ...] = ()) -> Run:
    """A run that a person gave to sbatch on a login node, and that runs."""
    now = datetime.now(UTC)
    report = SlurmReport(
        job_id=12, name=name, state=JobState.RUNNING, user="ada", submitted_at=now, started_at=now
    )
    job = Unclaimed(
        native=Native(user="ada", job_name=name, folder="ada/12"),
        project="psd-study",
        report=report,
        tasks=tasks,
    )
    new = NewRun(
        owner=bridge.person.handle,
        project="psd-study",
        slug="psd-study",
        token=job.token,
        resources=Resources(),
        contents=Contents(size=0, unpacked_size=0, files=0),
        created_at=now,
    )
    run = bridge.store.adopt(new, job)
    assert run
    return bridge.store.move(run, JobState.RUNNING, at=now)


def test_the_list_marks_what_came_by_sbatch_and_nothing_else(
    web: FlaskClient, bridge: Bridge
) -> None:
    mark = '">sbatch</span>'
    staged.add(bridge, "uploaded")
    assert mark not in shown.page(web, "/results")
    adopted(bridge)
    assert shown.page(web, "/results").count(mark) == 1


def test_its_page_says_whose_job_it_is_and_how_to_cancel_it(
    web: FlaskClient, bridge: Bridge
) -> None:
    run = adopted(bridge)
    text = shown.page(web, f"/runs/{run.id}")
    assert "<code>scancel 12</code>" in text
    assert 'form="cancel"' not in text
    assert '<dd class="mono">ada</dd>' in text
    assert "Uploaded" not in text
    answer = web.post(f"/api/v1/runs/{run.id}/cancel")
    assert answer.status_code == 409
    assert "`scancel 12`" in answer.get_json()["detail"]


@pytest.mark.parametrize(("name", "cancels"), [("nias", True), ("of, my own", False)])
def test_where_the_bridge_can_be_the_account_it_cancels_the_job(
    web: FlaskClient, bridge: Bridge, monkeypatch: pytest.MonkeyPatch, name: str, cancels: bool
) -> None:
    monkeypatch.setitem(bridge.settings.__dict__, "identity", "unix")
    run = adopted(bridge, name=name)
    text = shown.page(web, f"/runs/{run.id}")
    assert ('form="cancel"' in text, "scancel" in text) == (cancels, not cancels)
    answer = web.post(f"/api/v1/runs/{run.id}/cancel")
    assert answer.status_code == (202 if cancels else 409)


def test_a_task_of_an_array_is_its_accounts_to_cancel_too(web: FlaskClient, bridge: Bridge) -> None:
    run = adopted(bridge, tasks=(3, 5))
    assert 'form="cancel"' not in shown.page(web, f"/runs/{run.id}/tasks/5")
    assert web.post(f"/api/v1/runs/{run.id}/tasks/5/cancel").status_code == 409
    told = web.get(f"/api/v1/runs/{run.id}/tasks").get_json()["tasks"]
    assert [task["index"] for task in told] == [3, 5]


def test_an_array_is_not_run_again_with_other_numbers(
    web: FlaskClient, bridge: Bridge, submit: Callable[..., TestResponse]
) -> None:
    run = adopted(bridge, tasks=(3, 5))
    bridge.store.move(run, JobState.COMPLETED, at=datetime.now(UTC))
    assert 'form="again"' not in shown.page(web, f"/runs/{run.id}")
    assert submit(f"/runs/{run.id}/again").status_code == 409


def test_the_api_says_how_a_run_came_to_slurm(web: FlaskClient, bridge: Bridge) -> None:
    uploaded, run = staged.add(bridge, "uploaded"), adopted(bridge, name="mine")

    def told(run: Run) -> dict[str, Any]:
        return dict(web.get(f"/api/v1/runs/{run.id}").get_json())

    assert told(uploaded)["origin"] == "web"
    assert (told(run)["origin"], told(run)["job_name"]) == ("sbatch", "mine")
