"""The parsers, fed what each version of Slurm printed (see record.py)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from nias_bridge.cluster import PartitionReport
from nias_bridge.domain import JobState, SlurmReport
from nias_bridge.errors import Rejected
from nias_bridge.slurm import cluster, commands, configuration
from nias_bridge.slurm.answers import Output

RECORDED = sorted((Path(__file__).parent / "recorded").iterdir())
WORKDIR = "/shared/a|b é"
ODD_NAME = "a|name\twith é"


@pytest.fixture(params=RECORDED, ids=lambda folder: folder.name)
def recorded(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.param
    return folder


def well(file: Path) -> Output:
    return Output(0, file.read_text(), "")


def by_name(reports: list[SlurmReport]) -> dict[str, SlurmReport]:
    return {report.name: report for report in reports}


def test_every_job_of_the_queue_is_read_whatever_its_name(recorded: Path) -> None:
    jobs = by_name(commands.parse_queue(well(recorded / "squeue.txt")))
    assert jobs.pop("nias-swept")
    assert {name: job.state.value for name, job in jobs.items()} == {
        "nias-completed": "COMPLETED",
        "nias-failed": "FAILED",
        "nias-unlimited": "RUNNING",
        ODD_NAME: "RUNNING",
        "nias-next": "PENDING",
        "nias-held": "PENDING",
        "nias-array": "PENDING",
        "nias-cancelled": "CANCELLED",
    }
    assert {job.workdir for job in jobs.values()} == {WORKDIR}
    assert {job.partition for job in jobs.values()} == {"main"}


def test_the_queue_tells_place_reason_and_expected_start_of_who_waits(recorded: Path) -> None:
    jobs = by_name(commands.parse_queue(well(recorded / "squeue.txt")))
    waiting = jobs["nias-next"]
    assert (waiting.place, waiting.reason) == (1, "Resources")
    assert waiting.submitted_at and waiting.expected_start
    assert waiting.expected_start > waiting.submitted_at
    assert (waiting.started_at, waiting.ended_at, waiting.nodes) == (None, None, "")
    assert jobs["nias-array"].place == 2
    assert jobs["nias-held"].place is None
    assert jobs["nias-held"].expected_start is None


def test_the_queue_tells_limits_and_restarts(recorded: Path) -> None:
    jobs = by_name(commands.parse_queue(well(recorded / "squeue.txt")))
    assert jobs["nias-unlimited"].time_limit is None
    assert jobs["nias-next"].time_limit == 30 * 60
    assert (jobs[ODD_NAME].restarts, jobs[ODD_NAME].time_limit) == (1, 300)
    assert jobs["nias-completed"].elapsed and jobs["nias-completed"].elapsed >= 4
    assert jobs[ODD_NAME].ended_at is None
    never_ran = jobs["nias-cancelled"]
    assert never_ran.ended_at and never_ran.started_at is None


def test_an_accounting_record_has_its_figures(recorded: Path) -> None:
    job = by_name(commands.parse_accounting(well(recorded / "sacct.txt")))["nias-completed"]
    assert (job.state, job.exit_code, job.signal) == (JobState.COMPLETED, 0, None)
    assert job.max_rss and 50 * 1024**2 < job.max_rss < 100 * 1024**2
    assert job.cpu_time and 1 < job.cpu_time < 6
    assert job.memory_asked and job.memory_asked > 1024**2
    assert job.elapsed and 4 <= job.elapsed <= 6
    assert job.started_at and job.ended_at
    assert (job.ended_at - job.started_at).total_seconds() == job.elapsed
    assert job.started_at.tzinfo is UTC and job.started_at > datetime(2020, 1, 1, tzinfo=UTC)
    assert (job.workdir, job.cpus, job.reason) == (WORKDIR, 1, "")


def test_of_a_requeued_job_the_latest_attempt_counts(recorded: Path) -> None:
    records = commands.parse_accounting(well(recorded / "sacct.txt"))
    (job,) = [record for record in records if record.name == ODD_NAME]
    assert (job.state, job.restarts) == (JobState.RUNNING, 1)
    assert job.started_at and job.submitted_at and job.ended_at is None
    assert job.max_rss is None


def test_failure_limits_and_running_jobs_are_told_as_they_are(recorded: Path) -> None:
    jobs = by_name(commands.parse_accounting(well(recorded / "sacct.txt")))
    assert (jobs["nias-failed"].state, jobs["nias-failed"].exit_code) == (JobState.FAILED, 3)
    assert (jobs["nias-unlimited"].time_limit, jobs["nias-unlimited"].ended_at) == (None, None)
    assert jobs[ODD_NAME].time_limit == 300


def test_the_tasks_of_an_array_are_told_apart(recorded: Path) -> None:
    queue = commands.parse_queue(well(recorded / "squeue.txt"))
    (waiting,) = [report for report in queue if report.name == "nias-array"]
    assert waiting.array_tasks == (1, 2, 3)
    swept = [report for report in queue if report.name == "nias-swept"]
    records = commands.parse_accounting(well(recorded / "sacct.txt"))
    told = [report for report in records if report.name == "nias-swept"]
    for reports in (swept, told):
        assert {report.array_tasks: report.state.value for report in reports} == {
            (0,): "COMPLETED",
            (1,): "FAILED",
            (2,): "FAILED",
        }
    assert len({report.job_id for report in [*swept, *told]}) == 1
    assert {report.array_tasks: report.exit_code for report in told} == {(0,): 0, (1,): 1, (2,): 2}


def test_nodes_are_read_whatever_the_reason_says(recorded: Path) -> None:
    first, second = cluster.parse_nodes(well(recorded / "scontrol-show-nodes.txt"))
    assert (first.state, first.reason) == ("ALLOCATED", "")
    assert (second.state, second.reason) == ("ALLOCATED+DRAIN", "a disk = b [c]")
    assert (first.cpus, first.cpus_used, first.partitions) == (1, 1, ("main",))
    assert first.memory == first.memory_used > 1024**3
    assert first.gpus == 0


def test_partitions_are_read_with_their_time_limits(recorded: Path) -> None:
    assert cluster.parse_partitions(well(recorded / "scontrol-show-partitions.txt")) == [
        PartitionReport(name="main", state="UP", default=True),
        PartitionReport(name="long", state="UP", max_time=86400, default_time=1800),
        PartitionReport(name="old", state="DOWN", max_time=1800),
    ]


def test_slurmctlds_settings_are_read_and_as_of_when(recorded: Path) -> None:
    told = configuration.parse_config(well(recorded / "scontrol-show-config.txt"))
    assert f"slurm-{told['SLURM_VERSION']}".startswith(f"{recorded.name}.")
    assert told["AccountingStorageType"] == "accounting_storage/slurmdbd"
    assert "job_comment" in told["AccountingStoreFlags"].split(",")
    assert told["SchedulerParameters"].startswith("batch_sched_delay=0,")
    assert (told["MinJobAge"], told["KillWait"]) == ("300 sec", "30 sec")
    assert told["MaxArraySize"] == "1001"
    assert "memory" in told["SelectTypeParameters"].casefold()
    assert int(told[configuration.AS_OF]) > 1_700_000_000


def test_one_job_is_read_as_it_waits_runs_and_has_ended(recorded: Path) -> None:
    held, runs, failed = (
        configuration.parse_job(well(recorded / f"scontrol-show-job-{name}.txt"))
        for name in ("held", "running", "failed")
    )
    assert (held.state, held.reason, held.node) == ("PENDING", "JobHeldUser", "")
    assert held.waits and not held.ended
    assert (runs.state, runs.reason) == ("RUNNING", "")
    assert runs.node and not runs.waits and not runs.ended
    assert (failed.state, failed.exit_code) == ("FAILED", 3)
    assert failed.ended and not failed.waits


def test_a_refusal_is_told_in_slurms_own_words(recorded: Path) -> None:
    said = (recorded / "sbatch-no-such-partition.txt").read_text()
    with pytest.raises(Rejected) as refused:
        commands.parse_submit(Output(1, "", said))
    assert str(refused.value) == (
        "Invalid partition name specified (invalid partition specified: nowhere)"
    )
