"""Slurm's commands as pairs: how each is asked (argv), and how its answer is read. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath

from nias_bridge.domain import JobState, SlurmReport, Usage
from nias_bridge.errors import SubmissionUnclear, Unreachable
from nias_bridge.slurm import values
from nias_bridge.slurm.answers import (
    COLUMN,
    RECORD,
    Argv,
    Output,
    chunks,
    known,
    must_be_well,
    no_answer,
    row_of,
    state_of,
)
from nias_bridge.slurm.refusals import refusal

# --- sbatch ---


def submit_argv(script: PurePosixPath, *, name: str, log: PurePosixPath) -> Argv:
    """What identifies this submission; what the job needs is in the script's #SBATCH lines."""
    return [
        "sbatch",
        "--parsable",
        f"--job-name={name}",
        f"--output={log}",
        "--open-mode=append",
        f"--chdir={script.parent}",
        str(script),
    ]


def parse_submit(output: Output) -> int:
    """The job's id. Raises Rejected, TryLater, Unreachable or SubmissionUnclear."""
    if output.status != 0:
        raise refusal(output.stderr, killed=output.status < 0)
    job_id, _, _cluster = output.stdout.strip().rpartition("\n")[2].partition(";")
    number = values.count(job_id)
    if number is None:
        raise SubmissionUnclear(f"sbatch ended well but gave no job id: “{output.stdout.strip()}”")
    return number


_ESTIMATE = re.compile(r"Job \d+ to start at (\S+) ")


def estimate_argv(script: PurePosixPath) -> Argv:
    """What would become of a script, without submitting it."""
    return ["sbatch", "--test-only", str(script)]


def parse_estimate(output: Output) -> datetime | None:
    """When the job would start. Raises Rejected, TryLater or Unreachable."""
    if output.status != 0:
        error = refusal(output.stderr, killed=output.status < 0)
        # Nothing was to be submitted: what is unclear is no more than a missing answer.
        raise Unreachable(str(error)) if isinstance(error, SubmissionUnclear) else error
    told = _ESTIMATE.search(output.stderr)
    return values.moment(told[1]) if told else None


# --- squeue ---

# -O and not -o, for the count of restarts. "Name:SUFFIX" without a width is not cut off.
_QUEUE = (
    "JobArrayID",
    "State",
    "RestartCnt",
    "PriorityLong",
    "SubmitTime",
    "StartTime",
    "EndTime",
    "TimeUsed",
    "TimeLimit",
    "NumCPUs",
    "UserName",
    "Partition",
    "NodeList",
    "Reason",
    "Name",
    "WorkDir",
)


def queue_argv() -> Argv:
    """Every job that slurmctld remembers, whosever it is."""
    columns = ",".join(f"{column}:{COLUMN}" for column in _QUEUE)
    return ["squeue", "--all", "--states=all", "--noheader", f"--Format={columns}{RECORD}"]


def parse_queue(output: Output) -> list[SlurmReport]:
    """The jobs, waiting ones with their place in their partition. Raises Unreachable."""
    must_be_well("squeue", output)
    reports: list[tuple[int, SlurmReport]] = []
    for record in output.stdout.split(RECORD):
        row = row_of(_QUEUE, record.lstrip("\n").removesuffix(COLUMN))
        if row and (report := _queued(row)):
            reports.append((values.count(row["PriorityLong"]) or 0, report))
    return placed(reports)


def _queued(row: Mapping[str, str]) -> SlurmReport | None:
    job_id, tasks = values.job(row["JobArrayID"])
    state = state_of(row["State"], row["JobArrayID"])
    if job_id is None or state is None:
        return None
    start = values.moment(row["StartTime"])
    # squeue gives an ended job that never started the time of its end as its start.
    waits, ran = state is JobState.PENDING, row["NodeList"] != ""
    return SlurmReport(
        job_id=job_id,
        name=row["Name"],
        state=state,
        reason=known(row["Reason"]),
        user=row["UserName"],
        workdir=row["WorkDir"],
        partition=row["Partition"],
        nodes=row["NodeList"],
        submitted_at=values.moment(row["SubmitTime"]),
        started_at=start if ran and not waits else None,
        ended_at=values.moment(row["EndTime"]) if state.ended else None,
        expected_start=start if waits else None,
        elapsed=values.whole_seconds(row["TimeUsed"]),
        time_limit=values.whole_seconds(row["TimeLimit"]),
        cpus=values.count(row["NumCPUs"]),
        restarts=values.count(row["RestartCnt"]) or 0,
        array_tasks=tasks,
    )


def command_lines_argv(job_ids: Iterable[int]) -> Argv:
    """What script with which arguments these jobs are: one call."""
    columns = f"JobArrayID:{COLUMN},Command:{COLUMN}{RECORD}"
    jobs = ",".join(map(str, job_ids))
    return ["squeue", "--states=all", "--noheader", f"--Format={columns}", f"--jobs={jobs}"]


def parse_command_lines(output: Output) -> dict[int, str]:
    """By job id; of ids that slurmctld forgot meanwhile it complains. Raises Unreachable."""
    if output.status != 0 and "invalid job id" not in output.stderr.casefold():
        raise no_answer("squeue", output)
    told = {}
    for record in output.stdout.split(RECORD):
        job_id, _, command = record.lstrip("\n").removesuffix(COLUMN).partition(COLUMN)
        number, _ = values.job(job_id)
        if number is not None:
            told[number] = command
    return told


def submit_lines_argv(job_ids: Iterable[int]) -> Argv:
    """What was typed to submit these jobs: one call."""
    return [
        *("sacct", "--allusers", "--allocations", "--parsable2", "--noheader"),
        *(f"--delimiter={COLUMN}", "--starttime=uts0", "--format=JobID,SubmitLine"),
        f"--jobs={','.join(map(str, job_ids))}",
    ]


def parse_submit_lines(output: Output) -> dict[int, str]:
    """By job id. Raises Unreachable."""
    must_be_well("sacct", output)
    told = {}
    for line in output.stdout.splitlines():
        job_id, _, typed = line.partition(COLUMN)
        number, _ = values.job(job_id)
        if number is not None:
            told[number] = typed
    return told


def with_arguments(command: str, typed: str) -> str:
    """A job's script as squeue tells it, with the arguments that were typed behind it.

    squeue tells them itself up to Slurm 22.05, and then nothing is behind the last of them.
    """
    last = command.rpartition("/")[2]
    _, found, arguments = typed.rpartition(last) if last else ("", "", "")
    return f"{command} {arguments.strip()}".rstrip() if found else command


def placed(reports: Iterable[tuple[int, SlurmReport]]) -> list[SlurmReport]:
    """The reports, highest priority first; a held job (priority 0) has no place."""
    waiting: dict[str, int] = {}
    placed = []
    for priority, report in sorted(reports, key=lambda pair: (-pair[0], pair[1].job_id)):
        place = None
        if report.state is JobState.PENDING and priority > 0:
            place = waiting[report.partition] = waiting.get(report.partition, 0) + 1
        placed.append(replace(report, place=place))
    return placed


# --- sacct ---

_ACCOUNTING = (
    "JobID",
    "JobIDRaw",
    "State",
    "ExitCode",
    "Reason",
    "Submit",
    "Start",
    "End",
    "ElapsedRaw",
    "TimelimitRaw",
    "TotalCPU",
    "AllocCPUS",
    "ReqMem",
    "MaxRSS",
    "NodeList",
    "User",
    "Partition",
    "JobName",
    "WorkDir",
)


def accounting_argvs(
    *, since: datetime, job_ids: Sequence[int] = (), names: Sequence[str] = ()
) -> list[Argv]:
    """As few calls as there can be: ids and names are a call each, very many of them several.

    With --duplicates, because without it sacct hides not only the earlier attempts of a requeued
    job, but also the other job of an id that was given twice. parse_accounting tells them apart.
    """
    asked = [
        *(f"--jobs={part}" for part in chunks(str(job_id) for job_id in job_ids)),
        *(f"--name={part}" for part in chunks(names)),
    ]
    start = since if since.tzinfo else since.replace(tzinfo=UTC)
    return [
        [
            "sacct",
            "--allusers",
            "--duplicates",
            "--parsable2",
            "--noheader",
            f"--delimiter={COLUMN}",
            f"--starttime=uts{int(start.timestamp())}",  # free of time zones
            f"--format={','.join(_ACCOUNTING)}",
            which,
        ]
        for which in asked
    ]


def parse_accounting(output: Output) -> list[SlurmReport]:
    """The jobs' records: of several attempts of one job the latest, an id's other jobs too.

    The attempts of a job share id, name and user; `restarts` is how many there were before the
    latest. Raises Unreachable.
    """
    must_be_well("sacct", output)
    attempts: dict[tuple[int, tuple[int, ...], str, str], list[SlurmReport]] = {}
    for job, steps in _jobs_with_steps(output.stdout):
        if report := _recorded(job, steps):
            same = (report.job_id, report.array_tasks, report.name, report.user)
            attempts.setdefault(same, []).append(report)
    return [_latest(reports) for reports in attempts.values()]


def _jobs_with_steps(text: str) -> Iterator[tuple[dict[str, str], list[dict[str, str]]]]:
    """Each job's row with the rows of its steps (12.batch, 12.extern, 12.0), which follow it."""
    rows = [row for line in text.split("\n") if (row := row_of(_ACCOUNTING, line))]
    jobs: list[tuple[dict[str, str], list[dict[str, str]]]] = []
    for row in rows:
        if "." not in row["JobIDRaw"]:
            jobs.append((row, []))
        elif jobs and row["JobIDRaw"].startswith(jobs[-1][0]["JobIDRaw"] + "."):
            jobs[-1][1].append(row)
    yield from jobs


def _recorded(row: Mapping[str, str], steps: Sequence[Mapping[str, str]]) -> SlurmReport | None:
    job_id, tasks = values.job(row["JobID"])
    state = state_of(row["State"], row["JobID"])
    if job_id is None or state is None:
        return None
    # slurmctld tells who a job is every five seconds, but its end at once: until then slurmdbd
    # fills in a name.
    nameless = row["JobName"] == "allocation" and not row["WorkDir"]
    exit_code, _, signal = row["ExitCode"].partition(":")
    peaks = [values.size(step["MaxRSS"]) for step in (row, *steps)]
    return SlurmReport(
        job_id=job_id,
        name="" if nameless else row["JobName"],
        state=state,
        reason=known(row["Reason"]),
        user=row["User"],
        workdir=row["WorkDir"],
        partition=row["Partition"],
        nodes=known(row["NodeList"]),
        submitted_at=values.moment(row["Submit"]),
        started_at=values.moment(row["Start"]),
        ended_at=values.moment(row["End"]),
        elapsed=values.count(row["ElapsedRaw"]),
        time_limit=values.minutes_in_seconds(row["TimelimitRaw"]),
        cpu_time=values.duration(row["TotalCPU"]),
        cpus=values.count(row["AllocCPUS"]),
        memory_asked=values.size(row["ReqMem"], unit="M"),
        max_rss=max((peak for peak in peaks if peak is not None), default=None),
        exit_code=values.count(exit_code),
        signal=values.count(signal) or None,
        array_tasks=tasks,
        task_job_id=values.count(row["JobIDRaw"]) if len(tasks) == 1 else None,
    )


def _latest(reports: Sequence[SlurmReport]) -> SlurmReport:
    def order(report: SlurmReport) -> float:
        return report.submitted_at.timestamp() if report.submitted_at else 0.0

    # sorted() keeps sacct's order, oldest first, where two were submitted in one second.
    return replace(sorted(reports, key=order)[-1], restarts=len(reports) - 1)


# --- sstat ---

_USAGE = ("JobID", "AveCPU", "MaxRSS")


def usage_argvs(job_ids: Sequence[int]) -> list[Argv]:
    """The batch step is all of a job of ours; its only task's average is its sum.

    sstat takes 12_3 for 12, and says that it does not run: a task needs the id of its own.
    """
    return [
        ["sstat", "--parsable2", "--noheader", f"--format={','.join(_USAGE)}", f"--jobs={part}"]
        for part in chunks(f"{job_id}.batch" for job_id in job_ids)
    ]


def parse_usage(output: Output) -> dict[int, Usage]:
    """By job id; of a job that has ended meanwhile sstat complains, and says the others.

    Raises Unreachable.
    """
    if output.status != 0:
        raise no_answer("sstat", output)
    used = {}
    for line in output.stdout.splitlines():
        step, _, figures = line.partition("|")
        job_id = values.count(step.partition(".")[0])
        if job_id is not None and figures.count("|") == 1:
            cpu_time, max_rss = figures.split("|")
            measured = Usage(
                cpu_time=values.duration(cpu_time), max_rss=values.size(max_rss) or None
            )
            if measured.cpu_time is not None or measured.max_rss is not None:
                used[job_id] = measured
    return used


# --- scancel ---

_GONE_ALREADY = ("invalid job id specified", "already completing or completed")


def cancel_argv(job_id: int, *, name: str) -> Argv:
    """Id and name must fit: Slurm gives a lost job's id to the next one."""
    return ["scancel", f"--name={name}", str(job_id)]


def cancel_tasks_argv(job_id: int, tasks: Iterable[int]) -> Argv:
    """Without a name: scancel would take it for the whole array's, and end all that wait."""
    return ["scancel", *(f"{job_id}_{task}" for task in tasks)]


def parse_cancel(output: Output) -> None:
    """Nothing where the job is cancelled or was gone already. Raises Unreachable."""
    if output.status == 0:
        return
    lines = [line.casefold() for line in output.stderr.splitlines() if line.strip()]
    if not lines or not all(any(words in line for words in _GONE_ALREADY) for line in lines):
        raise no_answer("scancel", output)
