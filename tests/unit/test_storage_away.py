"""Shared storage that does not answer: nothing of it is known, nor concluded from that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import staged
from test_advance import Lab

from nias_bridge.domain import JobState
from nias_bridge.errors import StorageUnreachable
from nias_bridge.http import create_app
from nias_bridge.poller import Rounds
from nias_bridge.reach import Opened
from nias_bridge.services import desk
from nias_bridge.services.bridge import Bridge
from nias_bridge.slurm.fake import FakeScheduler
from nias_bridge.storage import Storage

WORDS = "The shared storage does not answer."


class Away:
    """A way to the storage on which nobody answers."""

    def call(self, operation: str, **arguments: Any) -> Any:
        raise StorageUnreachable(WORDS)

    def open(self, path: str) -> Opened:
        raise StorageUnreachable(WORDS)

    def open_beneath(self, root: str, path: str) -> Opened:
        raise StorageUnreachable(WORDS)


def away(bridge: Bridge) -> Bridge:
    return replace(bridge, storage=Storage(Away()))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(staged.make_bridge(tmp_path, lost_after=30, verdict_after=600))


@pytest.mark.parametrize("page", ["", "/log", "/results.zip", "/files/spectrum.csv"])
def test_a_page_that_needs_it_says_so(tmp_path: Path, page: str) -> None:
    bridge = staged.make_bridge(tmp_path)
    run = staged.completed(bridge)
    web = staged.program(create_app(away(bridge)), bridge)
    answer = web.get(f"/api/v1/runs/{run.id}{page}")
    assert answer.status_code == 503
    problem = answer.get_json()
    assert (problem["type"], problem["detail"]) == ("urn:nias-bridge:storage-unreachable", WORDS)


def test_an_upload_is_refused_and_what_needs_no_files_works(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path)
    staged.completed(bridge)
    web = staged.program(create_app(away(bridge)), bridge)
    assert web.post("/api/v1/runs", data=b"PK").status_code == 503
    assert web.get("/api/v1/runs").status_code == 200
    assert desk.health(away(bridge)).storage == WORDS


def test_a_lost_job_is_not_submitted_again_while_nobody_can_tell_whether_it_ran(lab: Lab) -> None:
    run = lab.submitted()
    lab.slurm.lose(run.job_id or 0)
    lab.step(run)
    lab.wait(31)
    here, lab.bridge = lab.bridge, away(lab.bridge)
    with pytest.raises(StorageUnreachable):
        lab.step(run)
    assert lab.bridge.store.run(run.id).state is JobState.PENDING
    lab.bridge = here
    assert lab.step(run).state is JobState.STAGED


def test_an_end_waits_for_what_the_node_wrote_of_it(lab: Lab) -> None:
    run = lab.started()
    lab.slurm.end(run.job_id or 0, JobState.COMPLETED, exit_code=0)
    here, lab.bridge = lab.bridge, away(lab.bridge)
    with pytest.raises(StorageUnreachable):
        lab.step(run)
    assert lab.bridge.store.run(run.id).state is JobState.RUNNING
    lab.bridge = here
    assert lab.step(run).state is JobState.COMPLETED


def test_the_poller_leaves_new_work_for_later(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path)
    run = staged.add(bridge, "psd-study")
    slurm = FakeScheduler()
    Rounds(away(bridge), slurm).take_new_work()
    assert bridge.store.run(run.id).state is JobState.RECEIVED
    assert slurm.jobs == []
    Rounds(bridge, slurm).take_new_work()
    assert bridge.store.run(run.id).state is JobState.PENDING
