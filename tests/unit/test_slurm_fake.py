"""The Slurm in memory plays the mishaps that services must survive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

import pytest

from nias_bridge.domain import JobState
from nias_bridge.errors import Rejected, SubmissionUnclear, TryLater, Unreachable
from nias_bridge.slurm.fake import FakeScheduler

SCRIPT, LOG = PurePosixPath("/shared/job.sbatch"), PurePosixPath("/shared/slurm.out")


def since() -> datetime:
    return datetime.now(UTC) - timedelta(minutes=1)


def names(slurm: FakeScheduler) -> list[str]:
    return [report.name for report in slurm.queue()]


def test_an_unclear_submission_may_be_there_or_not() -> None:
    slurm = FakeScheduler()
    for how in ("unclear-and-absent", "unclear-but-there"):
        slurm.next_submit(how)
        with pytest.raises(SubmissionUnclear):
            slurm.submit(SCRIPT, name=how, log=LOG)
    assert names(slurm) == ["unclear-but-there"]
    assert slurm.calls["submit"] == 2


@pytest.mark.parametrize(
    ("how", "error"), [("reject", Rejected), ("later", TryLater), ("unreachable", Unreachable)]
)
def test_a_refused_job_is_not_there_and_the_next_is_taken(how: str, error: type[Exception]) -> None:
    slurm = FakeScheduler()
    slurm.next_submit(how)
    with pytest.raises(error):
        slurm.submit(SCRIPT, name="a", log=LOG)
    assert slurm.submit(SCRIPT, name="b", log=LOG) == 1
    assert names(slurm) == ["b"]


def test_a_lost_jobs_id_is_given_to_the_next_one() -> None:
    slurm = FakeScheduler()
    lost = slurm.submit(SCRIPT, name="lost", log=LOG)
    slurm.lose(lost)
    assert slurm.accounting(since=since(), names=["lost"]) == []
    assert slurm.submit(SCRIPT, name="other", log=LOG) == lost
    slurm.cancel(lost, name="lost")
    (other,) = slurm.queue()
    assert (other.name, other.state) == ("other", JobState.PENDING)


def test_a_forgotten_job_keeps_its_record_also_when_its_id_comes_again() -> None:
    slurm = FakeScheduler()
    job_id = slurm.submit(SCRIPT, name="old", log=LOG)
    slurm.start(job_id)
    slurm.end(job_id, JobState.FAILED, exit_code=3)
    slurm.forget(job_id)
    slurm.give_again(job_id)
    slurm.submit(SCRIPT, name="new", log=LOG)
    assert names(slurm) == ["new"]
    records = slurm.accounting(since=since(), job_ids=[job_id])
    assert [(r.name, r.exit_code) for r in records] == [("old", 3), ("new", None)]


def test_a_requeued_job_waits_again_under_its_id() -> None:
    slurm = FakeScheduler()
    job_id = slurm.submit(SCRIPT, name="a", log=LOG)
    slurm.start(job_id)
    slurm.requeue(job_id)
    (job,) = slurm.queue()
    assert (job.job_id, job.state, job.restarts, job.place) == (job_id, JobState.PENDING, 1, 1)


def test_each_daemon_can_be_away_by_itself() -> None:
    slurm = FakeScheduler()
    slurm.unreachable(accounting=True)
    assert slurm.queue() == []
    with pytest.raises(Unreachable):
        slurm.accounting(since=since(), job_ids=[1])
    slurm.unreachable(queue=True)
    assert slurm.accounting(since=since(), job_ids=[1]) == []
    for ask in (slurm.queue, slurm.nodes):
        with pytest.raises(Unreachable):
            ask()
