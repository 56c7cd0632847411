"""How Slurm's commands are asked, and what their answers and failures mean."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest

from nias_bridge.domain import JobState, Usage
from nias_bridge.errors import (
    Rejected,
    SchedulerError,
    SubmissionUnclear,
    TryLater,
    Unreachable,
)
from nias_bridge.slurm import cluster, commands, values
from nias_bridge.slurm.answers import ARGUMENT_MAX, COLUMN, RECORD, Output
from nias_bridge.slurm.cli import CliScheduler

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
FAILED = "sbatch: error: Batch job submission failed: "


def record(**columns: str) -> str:
    return COLUMN.join(
        {
            **dict.fromkeys(commands._ACCOUNTING, ""),
            "State": "COMPLETED",
            "JobID": columns.get("JobIDRaw", ""),
            **columns,
        }.values()
    )


def queued(**columns: str) -> str:
    row = {**dict.fromkeys(commands._QUEUE, ""), "State": "PENDING", "Partition": "main", **columns}
    return COLUMN.join(row.values()) + COLUMN + RECORD + "\n"


def test_the_script_and_what_identifies_it_are_on_the_command_line() -> None:
    argv = commands.submit_argv(
        PurePosixPath("/s/runs/a b/1/job.sbatch"),
        name="nias-x-p",
        log=PurePosixPath("/s/runs/a b/1/slurm.out"),
    )
    assert argv == [
        "sbatch",
        "--parsable",
        "--job-name=nias-x-p",
        "--output=/s/runs/a b/1/slurm.out",
        "--open-mode=append",
        "--chdir=/s/runs/a b/1",
        "/s/runs/a b/1/job.sbatch",
    ]


@pytest.mark.parametrize("stdout", ["17\n", "17;mars\n", "a word from the site\n17\n"])
def test_the_id_is_read_from_sbatch(stdout: str) -> None:
    assert commands.parse_submit(Output(0, stdout, "")) == 17


@pytest.mark.parametrize(
    ("output", "error"),
    [
        (Output(1, "", FAILED + "Socket timed out on send/recv operation"), SubmissionUnclear),
        (Output(1, "", FAILED + "Zero Bytes were transmitted or received"), SubmissionUnclear),
        (
            Output(1, "", FAILED + "Unable to contact slurm controller (receive failure)"),
            SubmissionUnclear,
        ),
        (Output(-9, "", ""), SubmissionUnclear),
        (Output(-9, "", FAILED + "Invalid partition name specified"), SubmissionUnclear),
        (Output(1, "", ""), SubmissionUnclear),
        (Output(1, "", "sbatch: error: something new"), SubmissionUnclear),
        (Output(0, "", ""), SubmissionUnclear),
        (
            Output(1, "", FAILED + "Unable to contact slurm controller (connect failure)"),
            Unreachable,
        ),
        (Output(1, "", "sbatch: fatal: Unable to process configuration file"), Unreachable),
        (Output(1, "", FAILED + "Requested node configuration is not available"), Rejected),
        (
            Output(
                1,
                "",
                FAILED + "Requested time limit is invalid (missing or exceeds some limit)",
            ),
            Rejected,
        ),
        (Output(1, "", FAILED + "Invalid account or account/partition combination"), Rejected),
        (Output(255, "", "sbatch: error: Invalid --time specification"), Rejected),
        (Output(1, "", "sbatch: error: Memory specification can not be satisfied"), Rejected),
        (
            Output(
                1,
                "",
                "sbatch: error: AssocMaxSubmitJobLimit\n"
                + FAILED
                + "Job violates accounting/QOS policy (job submit limit, user's size and/or …)",
            ),
            TryLater,
        ),
        (
            Output(
                1,
                "",
                "sbatch: error: QOSMaxWallDurationPerJobLimit\n"
                + FAILED
                + "Job violates accounting/QOS policy (job submit limit, user's size and/or …)",
            ),
            Rejected,
        ),
        (Output(1, "", FAILED + "Unable to create job record, try again"), TryLater),
        (Output(1, "", FAILED + "System submissions disabled"), TryLater),
    ],
)
def test_a_failure_of_sbatch_is_told_for_what_it_is(
    output: Output, error: type[SchedulerError]
) -> None:
    with pytest.raises(SchedulerError) as raised:
        commands.parse_submit(output)
    assert type(raised.value) is error
    assert "sbatch: error" not in str(raised.value)


@pytest.mark.parametrize(
    "output",
    [
        Output(1, "", "slurm_load_jobs error: Socket timed out on send/recv operation"),
        Output(1, "", "sacct: error: Problem talking to the database: Connection refused"),
        Output(0, "", "sacct: error: slurm_persist_conn_open: something happened"),
        Output(1, record(JobIDRaw="1"), ""),
        Output(-9, "", "no end within 30 s"),
        Output(127, "", ""),
    ],
)
def test_a_failed_answer_never_looks_like_no_jobs(output: Output) -> None:
    for parse in (
        commands.parse_queue,
        commands.parse_accounting,
        cluster.parse_nodes,
        cluster.parse_partitions,
    ):
        with pytest.raises(Unreachable):
            parse(output)


def test_an_empty_answer_that_is_well_is_no_jobs() -> None:
    assert commands.parse_queue(Output(0, "", "")) == []
    assert commands.parse_accounting(Output(0, "\n", "")) == []


def test_both_jobs_of_an_id_that_was_given_twice_are_told() -> None:
    lines = [
        record(JobIDRaw="7", JobName="nias-one", Submit="1795398293", WorkDir="/a"),
        record(JobIDRaw="7.batch", JobName="batch", MaxRSS="10K"),
        record(JobIDRaw="7", JobName="nias-two", Submit="1795398892", WorkDir="/b"),
        record(JobIDRaw="7.batch", JobName="batch", MaxRSS="1.5M"),
        record(JobIDRaw="7.0", JobName="python", MaxRSS="1M"),
    ]
    one, two = commands.parse_accounting(Output(0, "\n".join(lines), ""))
    assert [(j.name, j.workdir, j.max_rss, j.restarts) for j in (one, two)] == [
        ("nias-one", "/a", 10 * 1024, 0),
        ("nias-two", "/b", 1536 * 1024, 0),
    ]


def test_a_record_whose_job_has_no_name_yet_has_none() -> None:
    line = record(JobIDRaw="7", State="FAILED", ExitCode="3:0", JobName="allocation")
    (job,) = commands.parse_accounting(Output(0, line, ""))
    assert (job.name, job.state, job.exit_code) == ("", JobState.FAILED, 3)


def test_a_job_in_an_unknown_state_is_passed_over_and_the_others_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = queued(JobArrayID="1", State="TELEPORTED") + queued(JobArrayID="2")
    with caplog.at_level(logging.WARNING):
        assert [job.job_id for job in commands.parse_queue(Output(0, text, ""))] == [2]
    assert "TELEPORTED" in caplog.text


def test_a_line_break_in_somebodys_job_name_does_no_harm() -> None:
    text = queued(JobArrayID="1", Name="a\nb") + queued(JobArrayID="2", Name="nias-x")
    assert [job.name for job in commands.parse_queue(Output(0, text, ""))] == ["a\nb", "nias-x"]
    lines = record(JobIDRaw="1", JobName="a\nb", WorkDir="/") + "\n" + record(JobIDRaw="2")
    assert [job.job_id for job in commands.parse_accounting(Output(0, lines, ""))] == [2]


def test_the_place_is_by_priority_within_the_partition() -> None:
    text = (
        queued(JobArrayID="1", PriorityLong="5")
        + queued(JobArrayID="2", PriorityLong="9")
        + queued(JobArrayID="3", PriorityLong="7", Partition="gpu")
        + queued(JobArrayID="4", PriorityLong="0")
        + queued(JobArrayID="5", PriorityLong="5")
        + queued(JobArrayID="6", PriorityLong="99", State="RUNNING")
    )
    jobs = commands.parse_queue(Output(0, text, ""))
    places = {job.job_id: job.place for job in jobs}
    assert places == {2: 1, 1: 2, 5: 3, 3: 1, 4: None, 6: None}


def test_a_thousand_ids_are_one_question() -> None:
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> Output:
        asked.append(argv)
        return Output(0, "", "")

    CliScheduler(run).accounting(since=SINCE, job_ids=range(10_000_000, 10_001_000))
    assert len(asked) == 1
    CliScheduler(run).accounting(since=SINCE)
    assert len(asked) == 1


def test_very_many_ids_are_asked_in_parts_the_kernel_takes() -> None:
    ids = range(10_000_000, 10_030_000)
    argvs = commands.accounting_argvs(since=SINCE, job_ids=ids)
    lists = [argv[-1].removeprefix("--jobs=") for argv in argvs]
    assert len(lists) == 3 and all(len(part) <= ARGUMENT_MAX for part in lists)
    assert [int(job_id) for part in lists for job_id in part.split(",")] == list(ids)


def test_accounting_is_asked_from_a_moment_free_of_time_zones() -> None:
    (argv,) = commands.accounting_argvs(since=SINCE, names=["nias-a", "nias-b"])
    assert f"--starttime=uts{int(SINCE.timestamp())}" in argv
    assert argv[-1] == "--name=nias-a,nias-b"


def test_a_cancel_that_failed_is_told_and_one_that_came_late_is_not() -> None:
    late = "scancel: error: Kill job error on job id 9: Invalid job id specified"
    commands.parse_cancel(Output(1, "", late))
    for said in ("Socket timed out on send/recv operation", "Access/permission denied", ""):
        with pytest.raises(Unreachable):
            commands.parse_cancel(Output(1, "", said))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:02.516", 2.516), ("3:05", 185), ("01:00:00", 3600), ("7-00:00:01", 604801)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert values.duration(text) == seconds


def test_a_cpu_time_of_minus_one_is_unknown() -> None:
    assert values.duration("213503982334-14:25:51.000") is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("77532K", 77532 * 1024), ("1.50G", 1610612736), ("0", 0), ("500Mn", 500 << 20)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert values.size(text) == size


@pytest.mark.parametrize(
    "text", ["", "N/A", "NONE", "None", "Unknown", "UNLIMITED", "NOT_SET", "Partition_Limit", "16?"]
)
def test_what_slurm_does_not_know_is_none(text: str) -> None:
    for read in (
        values.count,
        values.moment,
        values.size,
        values.duration,
        values.whole_seconds,
        values.minutes_in_seconds,
    ):
        assert read(text) is None


def test_usage_is_asked_of_the_batch_steps_and_missing_ones_are_no_harm() -> None:
    (argv,) = commands.usage_argvs([7, 8])
    assert argv[-1] == "--jobs=7.batch,8.batch"
    said = "7.batch|00:01:05|60860K\n9.batch||0\n10.batch|00:00:00|0\nnoise\n"
    used = commands.parse_usage(Output(0, said, "sstat: error: StepId=8.batch not found running."))
    assert used == {
        7: Usage(cpu_time=65.0, max_rss=60860 * 1024),
        10: Usage(cpu_time=0.0, max_rss=None),
    }, "of 9 nothing was measured yet"
    assert commands.usage_argvs([]) == []
    with pytest.raises(Unreachable):
        commands.parse_usage(Output(1, "", "slurm_load_jobs error: Unable to contact"))


@pytest.mark.parametrize(
    ("text", "job_id", "tasks"),
    [
        ("12", 12, ()),
        ("12_3", 12, (3,)),
        ("12_[5-9%4]", 12, (5, 6, 7, 8, 9)),
        ("12_[0,4-6,11]", 12, (0, 4, 5, 6, 11)),
        ("12_[0-10:5]", 12, (0, 5, 10)),
        ("12_[0-2,...]", 12, (0, 1, 2)),
        ("12+1", 12, ()),
        ("12.batch", None, ()),
    ],
)
def test_the_tasks_of_an_array_are_read(
    text: str, job_id: int | None, tasks: tuple[int, ...]
) -> None:
    assert values.job(text) == (job_id, tasks)


def test_tasks_of_an_array_are_cancelled_in_one_call_and_only_those_of_the_name() -> None:
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> Output:
        asked.append(argv)
        rows = queued(JobArrayID="12_[3-9]", Name="nias-x") + queued(JobArrayID="13_3", Name="y")
        return Output(0, rows if argv[0] == "squeue" else "", "")

    CliScheduler(run).cancel(12, name="nias-x", tasks=[3, 7, 11])
    CliScheduler(run).cancel(13, name="nias-x", tasks=[3])
    cancelled = [argv for argv in asked if argv[0] == "scancel"]
    assert cancelled == [["scancel", "12_3", "12_7"]]


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("(null)", 0),
        ("gpu:2", 2),
        ("gpu:a100:4(S:0-1)", 4),
        ("craynetwork:3,gpu:a100:2(S:0,2),gpu:v100:1(S:1),shard:8", 3),
    ],
)
def test_the_gpus_of_a_node_are_counted_whatever_their_kind(gres: str, gpus: int) -> None:
    line = f"NodeName=n1 CPUTot=4 Gres={gres} NodeAddr=n1 RealMemory=100 State=IDLE Partitions=main"
    (node,) = cluster.parse_nodes(Output(0, line, ""))
    assert node.gpus == gpus


@pytest.mark.parametrize(
    ("command", "typed", "whole"),
    [
        ("/s/nias.sbatch", "sbatch --mem=1G /s/nias.sbatch a/psd", "/s/nias.sbatch a/psd"),
        ("/s/nias.sbatch", "sbatch nias.sbatch a psd", "/s/nias.sbatch a psd"),
        ("/s/nias.sbatch", "sbatch --job-name=nias.sbatch nias.sbatch a", "/s/nias.sbatch a"),
        ("/s/nias.sbatch a/psd", "sbatch --job-name=psd /s/nias.sbatch a/psd", None),
        ("/s/nias.sbatch a psd", "sbatch /s/nias.sbatch a psd", None),
        ("/s/nias.sbatch a/psd/", "sbatch /s/nias.sbatch a/psd/", None),
        ("", "sbatch", None),
        ("/s/nias.sbatch", "", None),
        ("/s/nias.sbatch", "sbatch --wrap=other", None),
    ],
)
def test_a_script_has_its_arguments_whatever_the_release_tells(
    command: str, typed: str, whole: str | None
) -> None:
    assert commands.with_arguments(command, typed) == (whole or command)


def test_what_was_typed_is_told_by_job() -> None:
    told = f"12{COLUMN}sbatch a b\n13_2{COLUMN}sbatch c\n"
    assert commands.parse_submit_lines(Output(0, told, "")) == {12: "sbatch a b", 13: "sbatch c"}
    with pytest.raises(Unreachable):
        commands.parse_submit_lines(Output(1, "", "sacct: error: Problem talking to the database"))
