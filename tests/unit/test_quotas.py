"""Claims about what one person may have, and about the figures that she is told."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import staged
from client import zipped

from nias_bridge.domain import JobState, Run
from nias_bridge.errors import OverQuota
from nias_bridge.http import create_app
from nias_bridge.people import Quotas, Role
from nias_bridge.services import administration, desk, intake, quotas, retention
from nias_bridge.services.bridge import Bridge


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    return staged.make_bridge(tmp_path)


def limit(bridge: Bridge, **own: float) -> Bridge:
    """The bridge, its caller's limits being these."""
    administration.set_quotas(bridge, bridge.person.id, Quotas(**own))  # type: ignore[arg-type]
    return staged.as_person(bridge, bridge.person.handle)


def refusal(bridge: Bridge, project: str = "one-more") -> str:
    with pytest.raises(OverQuota) as refused:
        staged.add(bridge, project)
    assert list(staged.here(bridge).uploads.iterdir()) == [], "nothing of it is kept"
    return str(refused.value)


def test_without_limits_nothing_is_refused(bridge: Bridge) -> None:
    for number in range(5):
        staged.add(bridge, f"project-{number}")
    assert quotas.share(bridge, bridge.person).used.open_runs == 5


def test_a_run_too_many_is_refused_with_the_figures(bridge: Bridge) -> None:
    bridge = limit(bridge, open_runs=2)
    staged.completed(bridge)
    staged.running(bridge)
    staged.pending(bridge)
    assert "2 of your runs are waiting or running, and you may have 2 at once" in refusal(bridge)


def test_of_two_that_are_sent_at_once_no_more_are_taken_than_may_be(bridge: Bridge) -> None:
    bridge = limit(bridge, open_runs=1)
    both = threading.Barrier(2)

    def send(project: str) -> Run | None:
        both.wait(30)
        try:
            return staged.add(bridge, project)
        except OverQuota:
            return None

    for turn in range(5):
        with ThreadPoolExecutor(2) as pool:
            (run,) = filter(None, pool.map(send, [f"one-{turn}", f"other-{turn}"]))
        staged.move(bridge, run, JobState.CANCELLED)


def test_the_runs_of_others_and_ended_ones_do_not_count(bridge: Bridge) -> None:
    bridge = limit(bridge, open_runs=1)
    staged.failed(bridge)
    staged.running(staged.as_person(bridge, "berta"))
    staged.add(bridge, "mine")


def test_running_again_and_holding_an_upload_are_runs_too(bridge: Bridge) -> None:
    done = staged.completed(bridge)
    staged.running(bridge)
    bridge = limit(bridge, open_runs=1)
    with pytest.raises(OverQuota):
        desk.again(bridge, done.id)
    part = staged.arrived(bridge, zipped("held", {"code.py": ""}))
    with pytest.raises(OverQuota):
        intake.hold(bridge, part, "held.zip")
    assert not Path(part).exists()


def test_an_upload_that_was_held_is_judged_once_more_when_it_is_started(bridge: Bridge) -> None:
    bridge = limit(bridge, open_runs=1)
    part = staged.arrived(bridge, zipped("held", {"code.py": ""}))
    upload_id = intake.hold(bridge, part, "held.zip")
    staged.running(bridge)
    with pytest.raises(OverQuota):
        intake.receive_held(bridge, upload_id)
    assert Path(part).exists(), "it can be started once there is room"


def test_stored_bytes_count_what_lies_there_and_what_would_free_most_is_named(
    bridge: Bridge,
) -> None:
    small, large = staged.completed(bridge, "small"), staged.completed(bridge, "large")
    (staged.here(bridge).run(large).output / "big.bin").write_bytes(b"x" * 300_000)
    retention.tidy(bridge)
    used = quotas.used(bridge, bridge.person)
    assert used.stored_bytes == sum(bridge.store.run(run.id).stored_bytes for run in (small, large))
    assert used.stored_bytes > 300_000
    told = refusal(limit(bridge, stored_bytes=300_000))
    assert "of the 300.0 kB that you may store" in told
    assert "“large”, run 1, would free" in told


def test_room_comes_back_when_the_files_of_a_run_are_deleted(bridge: Bridge) -> None:
    run = staged.completed(bridge)
    (staged.here(bridge).run(run).output / "big.bin").write_bytes(b"x" * 300_000)
    retention.tidy(bridge)
    bridge = limit(bridge, stored_bytes=200_000)
    refusal(bridge)
    retention.remove(bridge, run.id)
    retention.tidy(bridge)
    staged.add(bridge, "one-more")


def test_cpu_hours_are_those_that_slurm_gave_in_this_month(bridge: Bridge) -> None:
    run = staged.move(
        bridge, staged.add(bridge, "a"), *staged.STARTED, JobState.COMPLETED, elapsed=7200, cpus=4
    )
    assert quotas.used(bridge, bridge.person).cpu_seconds == 4 * 7200
    live = staged.move(
        bridge,
        staged.add(bridge, "b"),
        *staged.STARTED,
        started_at=datetime.now(UTC) - timedelta(hours=1),
        cpus=2,
    )
    hours = quotas.share(bridge, bridge.person).cpu_hours
    assert 10 <= hours < 10.1
    told = refusal(limit(bridge, cpu_hours=10))
    assert "10.0 CPU hours, and you may have 10 a month" in told
    later = run.changed_at + timedelta(seconds=1)
    assert 7200 <= bridge.store.used(since=later)["lab"].cpu_seconds < 7300, "of the one that runs"
    assert not live.state.ended


def test_the_tasks_of_a_sweep_count_each_with_its_cpus(bridge: Bridge) -> None:
    run = staged.swept(bridge)
    for task in bridge.store.tasks(run.id):
        if task.report:
            bridge.store.save_tasks([replace(task, report=replace(task.report, cpus=2))])
    assert quotas.used(bridge, bridge.person).cpu_seconds == 3 * 3 * 2


def test_the_limit_of_a_person_stands_before_the_sites(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path, quota_open_runs=1, quota_stored_bytes=10)
    told = quotas.limits(bridge.settings, bridge.person)
    assert (told.open_runs, told.stored_bytes) == (1, 10)
    bridge = limit(bridge, open_runs=5)
    told = quotas.limits(bridge.settings, bridge.person)
    assert (told.open_runs, told.stored_bytes) == (5, 10)


def test_a_program_is_told_by_status_and_word(bridge: Bridge) -> None:
    bridge = limit(bridge, open_runs=0)
    web = staged.program(create_app(bridge), bridge)
    body = zipped("project", {"code.py": ""})
    answer = web.post("/api/v1/runs?filename=project.zip", data=body)
    assert answer.status_code == 409
    assert answer.get_json()["type"] == "urn:nias-bridge:over-quota"
    assert "at once" in answer.get_json()["detail"]


def test_the_largest_zip_is_a_persons_own(bridge: Bridge) -> None:
    bridge = limit(bridge, upload_bytes=1000)
    web = staged.program(create_app(bridge), bridge)
    answer = web.post("/api/v1/runs", data=b"0" * 1001)
    assert answer.status_code == 422
    assert "at most 1,000" in answer.get_json()["detail"]
    assert 'data-max-bytes="1000"' in web.get("/upload").get_data(as_text=True)


def test_the_account_page_shows_what_is_used_of_what(bridge: Bridge) -> None:
    staged.running(bridge)
    bridge = limit(bridge, open_runs=4, cpu_hours=100)
    web = staged.program(create_app(bridge), bridge)
    text = " ".join(web.get("/account").get_data(as_text=True).split())
    assert '1 run <span class="text-quiet">of 4</span>' in text
    assert 'value="25" aria-label="Waiting or running' in text


def test_an_administrator_has_the_sites_limits_like_everybody(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path, quota_open_runs=1)
    chief = staged.as_person(bridge, "chief", Role.ADMINISTRATOR)
    staged.running(chief)
    refusal(chief)
