"""One suite for every way to Slurm: what the bridge may rely on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from ways import Ending, Way, until

from nias_bridge.domain import JobState, SlurmReport, Usage
from nias_bridge.errors import Rejected

UNKNOWN_ID = 99_999_999


FAILS = "nias-t1-fails"


@pytest.fixture(scope="module")
def ids(way: Way) -> dict[str, int]:
    """Jobs that have ended, by name: made once, for a name can take 5 s to reach the accounting."""
    with pytest.MonkeyPatch.context() as gateway:
        gateway.setenv("NIAS_BRIDGE_SECRET_KEY", "not for jobs")
        made = {
            way.well: way.submit(way.well, Ending.WELL),
            FAILS: way.submit(FAILS, Ending.EXIT_3),
        }
    for job_id in made.values():
        way.record(job_id)
    return made


def test_a_job_that_ends_well_is_completed_on_record(way: Way, ids: dict[str, int]) -> None:
    record = way.record(ids[way.well])
    assert (record.state, record.exit_code, record.signal) == (JobState.COMPLETED, 0, None)
    assert (record.name, record.restarts) == (way.well, 0)
    assert record.workdir == str(way.where(way.well))
    assert record.nodes and record.cpus and record.time_limit != 0
    assert record.submitted_at and record.started_at and record.ended_at
    assert record.submitted_at <= record.started_at <= record.ended_at
    assert timedelta() < record.ended_at - way.since < timedelta(minutes=3)


def test_the_queue_still_has_a_job_that_just_ended(way: Way, ids: dict[str, int]) -> None:
    report = way.queued(ids[way.well])
    assert report and report.state is JobState.COMPLETED
    assert (report.name, report.workdir) == (way.well, str(way.where(way.well)))
    assert report.place is None
    assert report.submitted_at == way.record(ids[way.well]).submitted_at


def test_a_job_that_fails_has_its_exit_code_on_record(way: Way, ids: dict[str, int]) -> None:
    record = way.record(ids[FAILS])
    assert (record.state, record.exit_code) == (JobState.FAILED, 3)


def test_a_job_that_runs_is_cancelled_by_id_and_name(way: Way) -> None:
    job_id = way.submit("nias-t1-cancelled", Ending.NEVER)
    running = way.queued_as(job_id, JobState.RUNNING)
    assert running.nodes and running.started_at and not running.ended_at
    way.scheduler.cancel(job_id, name="nias-t1-another")
    assert way.queued_as(job_id, JobState.RUNNING)
    way.scheduler.cancel(job_id, name="nias-t1-cancelled")
    assert way.record(job_id).state is JobState.CANCELLED


def test_what_a_job_that_runs_uses_is_told_where_it_is_the_bridges(way: Way) -> None:
    job_id = way.submit("nias-t1-busy", Ending.NEVER)
    try:
        way.queued_as(job_id, JobState.RUNNING)
        asked = [job_id, UNKNOWN_ID]
        if way.tells_usage:

            def measured() -> Usage | None:
                used = way.scheduler.usage(asked).get(job_id)
                return used if used and used.cpu_time is not None and used.max_rss else None

            used = until(measured)
            assert (used.cpu_time or 0) < 5 and (used.max_rss or 0) < 100 * 1024**2
        else:
            assert way.scheduler.usage(asked) == {}
    finally:
        way.scheduler.cancel(job_id, name="nias-t1-busy")


def test_cancelling_what_has_ended_or_never_was_is_no_error(way: Way, ids: dict[str, int]) -> None:
    way.scheduler.cancel(ids[way.well], name=way.well)
    way.scheduler.cancel(UNKNOWN_ID, name=way.well)
    assert way.record(ids[way.well]).state is JobState.COMPLETED


def test_a_job_for_a_partition_that_is_not_there_is_rejected(way: Way) -> None:
    script = way.script("nias-t1-nowhere", Ending.WELL, "--partition=nowhere")
    way.before_bad_partition()
    with pytest.raises(Rejected, match="Invalid partition name specified"):
        way.scheduler.submit(script, name="nias-t1-nowhere", log=script.parent / "slurm.out")
    assert not way.scheduler.accounting(since=way.since, names=["nias-t1-nowhere"])


def test_an_array_is_told_task_by_task(way: Way) -> None:
    script = way.script("nias-t1-array", Ending.WELL, "--array=0-2%2")
    job_id = way.scheduler.submit(script, name="nias-t1-array", log=script.parent / "tasks-%a.out")
    way.play(job_id, Ending.WELL)

    def records() -> dict[int, SlurmReport] | None:
        told = way.scheduler.accounting(since=way.since, job_ids=[job_id])
        ended = {t: r for r in told for t in r.array_tasks if r.state.ended and r.name}
        return ended if len(ended) == 3 else None

    for task, record in until(records).items():
        assert (record.job_id, record.array_tasks) == (job_id, (task,))
        assert (record.state, record.exit_code) == (JobState.COMPLETED, 0)
    queue = [report for report in way.scheduler.queue() if report.job_id == job_id]
    assert sorted(report.array_tasks for report in queue) == [(0,), (1,), (2,)]


def test_what_a_task_of_an_array_uses_is_told_by_the_id_of_its_own(way: Way) -> None:
    script = way.script("nias-t1-uses", Ending.NEVER, "--array=0-1%1")
    job_id = way.scheduler.submit(script, name="nias-t1-uses", log=script.parent / "tasks-%a.out")
    try:
        way.play(job_id, Ending.NEVER)

        def own_id() -> int | None:
            told = way.scheduler.accounting(since=way.since, job_ids=[job_id])
            return next((r.task_job_id for r in told if r.array_tasks == (0,)), None)

        task = until(own_id)
        if not way.tells_usage:
            assert way.scheduler.usage([task, UNKNOWN_ID]) == {}
            return
        used = until(lambda: way.scheduler.usage([task, UNKNOWN_ID]).get(task))
        assert used.cpu_time is not None and used.cpu_time < 5
        assert used.max_rss and used.max_rss < 100 * 1024**2
    finally:
        way.scheduler.cancel(job_id, name="nias-t1-uses")


def test_some_tasks_of_an_array_are_cancelled_and_the_others_stay(way: Way) -> None:
    script = way.script("nias-t1-some", Ending.NEVER, "--array=0-3%1")
    job_id = way.scheduler.submit(script, name="nias-t1-some", log=script.parent / "tasks-%a.out")

    def alive() -> set[int]:
        mine = [r for r in way.scheduler.queue() if r.job_id == job_id and not r.state.ended]
        return {task for report in mine for task in report.array_tasks}

    assert alive() == {0, 1, 2, 3}
    way.scheduler.cancel(job_id, name="nias-t1-some", tasks=[1, 3])
    until(lambda: alive() == {0, 2} or None)
    way.scheduler.cancel(job_id, name="nias-t1-another", tasks=[2])
    assert 2 in alive()
    way.scheduler.cancel(job_id, name="nias-t1-some")
    until(lambda: alive() == set() or None)


def test_when_a_script_would_start_is_told_without_submitting_it(way: Way) -> None:
    script = way.script("nias-t1-when", Ending.WELL)
    assert way.scheduler.estimate(script) > way.since
    way.before_bad_partition()
    with pytest.raises(Rejected, match="Invalid partition name specified"):
        way.scheduler.estimate(way.script("nias-t1-when", Ending.WELL, "--partition=nowhere"))
    assert not way.scheduler.accounting(since=way.since, names=["nias-t1-when"])


def test_a_job_is_found_by_its_name_alone(way: Way, ids: dict[str, int]) -> None:
    (record,) = way.scheduler.accounting(since=way.since, names=[way.well, "nias-t1-not-there"])
    assert (record.job_id, record.name) == (ids[way.well], way.well)


def test_what_is_not_there_is_absent_and_no_error(way: Way) -> None:
    assert way.scheduler.accounting(since=way.since, job_ids=[UNKNOWN_ID]) == []
    assert way.scheduler.accounting(since=way.since, names=["nias-t1-not-there"]) == []
    assert way.scheduler.accounting(since=way.since) == []
    assert way.queued(UNKNOWN_ID) is None


def test_a_job_found_by_id_and_by_name_is_told_once(way: Way, ids: dict[str, int]) -> None:
    both = way.scheduler.accounting(since=way.since, job_ids=[ids[way.well]], names=[way.well])
    assert [record.job_id for record in both] == [ids[way.well]]


def test_what_does_not_run_uses_nothing(way: Way, ids: dict[str, int]) -> None:
    assert way.scheduler.usage([ids[way.well], UNKNOWN_ID]) == {}
    assert way.scheduler.usage([]) == {}


def test_the_nodes_are_told_with_what_they_have(way: Way) -> None:
    nodes = way.scheduler.nodes()
    assert len(nodes) == 2
    for node in nodes:
        assert node.name and node.state
        assert node.cpus >= 1 and node.memory > 100 * 1024**2
        assert 0 <= node.cpus_used <= node.cpus
        assert node.partitions == ("main",)
        assert node.gpus == 0


def test_the_partitions_are_told_with_the_default_one(way: Way) -> None:
    (only,) = way.scheduler.partitions()
    assert (only.name, only.state, only.default) == ("main", "UP", True)
    assert (only.max_time, only.default_time) == (None, None)


def test_what_a_job_runs_is_told_by_its_id_until_it_is_forgotten(
    way: Way, ids: dict[str, int]
) -> None:
    told = way.scheduler.commands([ids[way.well], ids[FAILS], UNKNOWN_ID])
    assert told == {ids[name]: str(way.where(name) / "job.sbatch") for name in (way.well, FAILS)}
    assert way.scheduler.commands([UNKNOWN_ID]) == {}
