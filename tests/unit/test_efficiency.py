"""What a job used of what it asked for, and when that is worth advice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import staged

from nias_bridge.domain import JobState, Resources, Run, Usage
from nias_bridge.http import create_app
from nias_bridge.poller import Rounds
from nias_bridge.services.advance import note_usage
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.efficiency import Efficiency, efficiency
from nias_bridge.services.evidence import Evidence, peak_memory
from nias_bridge.settings import Settings
from nias_bridge.slurm.fake import FakeScheduler

GIB, MIB = staged.GIB, staged.MIB


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    return staged.make_bridge(tmp_path, slot_cpus=4, slot_memory="8G")


def ended(bridge: Bridge, **report: object) -> Run:
    figures = {
        "elapsed": 100, "cpus": 4, "cpu_time": 40.0, "max_rss": 900 * MIB, "memory_asked": 8 * GIB
    }  # fmt: skip
    states = (*staged.STARTED, JobState.COMPLETED)
    return staged.move(bridge, staged.add(bridge, "emg"), *states, **{**figures, **report})


def by_slurm(run: Run, settings: Settings) -> Efficiency | None:
    return efficiency(run, settings, peak_memory(run.report, Evidence()))


def told(bridge: Bridge, run: Run) -> Efficiency:
    found = by_slurm(run, bridge.settings)
    assert found
    return found


def test_what_was_hardly_used_is_told_with_what_would_have_been_enough(bridge: Bridge) -> None:
    found = told(bridge, ended(bridge))
    assert found.cpu == 0.1
    assert found.memory == pytest.approx(0.11, abs=0.001)
    assert (found.cpus_enough, found.memory_enough) == (1, 2 * GIB)


@pytest.mark.parametrize(
    "report",
    [
        {"cpu_time": 200.0, "max_rss": 3 * GIB},
        {"elapsed": 20, "cpu_time": 1.0},  # what Slurm sampled in so short a time is chance
        {"cpus": 1, "cpu_time": 1.0, "memory_asked": 100 * MIB, "max_rss": 30 * MIB},
        {"cpu_time": None, "max_rss": None, "memory_asked": None},
    ],
)
def test_there_is_no_advice_where_it_would_not_help(bridge: Bridge, report: object) -> None:
    found = by_slurm(ended(bridge, **report), bridge.settings)
    assert found is None or (found.cpus_enough, found.memory_enough) == (None, None)


def test_of_a_node_that_is_given_whole_only_what_was_asked_for_is_advised(
    bridge: Bridge, tmp_path: Path
) -> None:
    whole = bridge.settings.model_copy(update={"slot_cpus": None})
    run = ended(bridge)
    found = by_slurm(run, whole)
    assert found and (found.cpus_enough, found.memory_enough) == (None, None)
    found = by_slurm(replace(run, resources=Resources(memory="8G")), whole)
    assert found and (found.cpus_enough, found.memory_enough) == (None, 2 * GIB)


def test_what_a_running_job_uses_is_kept_until_its_record_comes(bridge: Bridge) -> None:
    started = datetime.now(UTC) - timedelta(seconds=100)
    run = staged.move(
        bridge, staged.add(bridge, "emg"), *staged.STARTED,
        cpus=4, started_at=started, memory_asked=8 * GIB,
    )  # fmt: skip
    assert by_slurm(run, bridge.settings) is None
    at = started + timedelta(seconds=100)
    run = note_usage(bridge, run, Usage(cpu_time=300.0, max_rss=2 * GIB), at)
    found = told(bridge, run)
    assert (found.cpu, found.memory, found.cpus_enough) == (0.75, 0.25, None)
    assert len(bridge.store.events(run.id)) == 5, "it is no event"
    same = note_usage(bridge, run, Usage(cpu_time=301.0, max_rss=2 * GIB), at)
    assert same.version == run.version, "a hundredth more is not written"


def test_pages_and_programs_are_told(bridge: Bridge) -> None:
    web = staged.program(create_app(bridge), bridge)
    for run, words, share in (
        (staged.running(bridge), "1.6 of 2 CPUs", 0.25),
        (ended(bridge), "8 GiB, used 900 MiB: 2 GiB would have been enough", 900 / 8192),
    ):
        assert words in " ".join(web.get(f"/runs/{run.id}").get_data(as_text=True).split())
        assert web.get(f"/api/v1/runs/{run.id}").get_json()["usage"]["memory"] == share


def test_the_poller_measures_running_jobs_and_squeue_does_not_wipe_it_out(bridge: Bridge) -> None:
    run = staged.add(bridge, "emg")
    scheduler = FakeScheduler()
    rounds = Rounds(bridge, scheduler)
    rounds.turn()
    scheduler.start(1)
    rounds.follow_jobs()
    rounds.wait_aside(10)
    rounds._measure()
    rounds.follow_jobs()
    report = bridge.store.run(run.id).report
    assert report and report.measured_at
    assert (report.cpu_time, report.max_rss) == (0.0, MIB)
    version = bridge.store.run(run.id).version
    rounds.follow_jobs()
    assert bridge.store.run(run.id).version == version
    scheduler.unreachable(queue=True)
    rounds.measure()  # no answer is no harm
    rounds.wait_aside(10)
    scheduler.unreachable()
    scheduler.end(1)
    rounds.follow_jobs()
    report = bridge.store.run(run.id).report
    assert report and report.state is JobState.COMPLETED and report.measured_at is None
