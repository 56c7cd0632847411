"""The rules by which a run goes on, each against a Slurm in memory and a clock of our own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import staged

from nias_bridge.domain import JobState, Resources, Run
from nias_bridge.errors import Stale
from nias_bridge.poller import look
from nias_bridge.services import desk
from nias_bridge.services.advance import STEPS, Desk, advance
from nias_bridge.services.bridge import Bridge
from nias_bridge.slurm.fake import FakeScheduler


@dataclass
class Lab:
    """A bridge, a Slurm in memory, and the time that both go by."""

    bridge: Bridge
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.slurm = FakeScheduler(clock=self.clock)

    def clock(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def step(self, run: Run) -> Run:
        """One step with a fresh look at Slurm."""
        run = self.bridge.store.run(run.id)
        sight = look(self.slurm, [run]) if run.state not in ("RECEIVED", "STAGED") else None
        return advance(Desk(self.bridge, self.slurm, self.clock, sight), run)

    def submitted(self, name: str = "psd-study") -> Run:
        """A run that Slurm has."""
        return self.step(self.step(staged.add(self.bridge, name)))

    def started(self) -> Run:
        """A run that Slurm runs and whose job has claimed it."""
        run = self.submitted()
        self.claim(run, run.job_id)
        self.slurm.start(run.job_id or 0)
        return self.step(run)

    def claim(self, run: Run, job_id: int | None) -> None:
        folder = staged.here(self.bridge).run(run).claim
        folder.mkdir(parents=True)
        told = {"job_id": job_id, "at": self.now.timestamp()}
        (folder / "job").write_text(json.dumps(told))

    def node_says(self, run: Run, exit_code: int | None, reason: str = "finished") -> None:
        said = {"exit_code": exit_code, "reason": reason}
        staged.here(self.bridge).run(run).exit.write_text(json.dumps(said))

    def node_is_alive(self, run: Run) -> None:
        told = {"at": self.now.timestamp()}
        (staged.here(self.bridge).run(run).claim / "alive").write_text(json.dumps(told))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    yield Lab(staged.make_bridge(tmp_path, lost_after=30, verdict_after=600))


def test_every_state_that_is_no_end_has_a_step() -> None:
    assert set(STEPS) == {state for state in JobState if not state.ended}


def test_each_further_run_of_a_person_stands_behind_those_of_others(lab: Lab) -> None:
    def nice(bridge: Bridge, name: str) -> str:
        run = lab.step(staged.add(bridge, name))
        script = staged.here(lab.bridge).run(run).script.read_text()
        found = re.search(r"^#SBATCH --nice=(\d+)$", script, re.MULTILINE)
        return found[1] if found else ""

    other = staged.as_person(lab.bridge, "bento")
    assert [nice(lab.bridge, name) for name in "abc"] == ["", "100", "200"]
    assert nice(other, "a") == ""


def test_a_run_is_staged_submitted_followed_and_ended(lab: Lab) -> None:
    run = lab.submitted()
    assert (run.state, run.job_id is None) == (JobState.PENDING, False)
    lab.slurm.start(run.job_id or 0)
    assert lab.step(run).state is JobState.RUNNING
    lab.slurm.end(run.job_id or 0, JobState.FAILED, exit_code=3)
    run = lab.step(run)
    assert run.state is JobState.FAILED
    assert run.report and run.report.exit_code == 3


def test_a_run_cancelled_before_slurm_has_it_never_gets_there(lab: Lab) -> None:
    run = staged.add(lab.bridge, "psd-study")
    desk.cancel(lab.bridge, run.id)
    assert lab.step(run).state is JobState.CANCELLED
    assert not lab.slurm.jobs


def test_a_wish_to_cancel_reaches_slurm(lab: Lab) -> None:
    run = lab.submitted()
    desk.cancel(lab.bridge, run.id)
    lab.step(run)
    assert lab.step(run).state is JobState.CANCELLED


def test_what_slurm_refuses_for_good_is_rejected(lab: Lab) -> None:
    run = lab.step(staged.add(lab.bridge, "psd-study"))
    lab.slurm.next_submit("reject")
    run = lab.step(run)
    assert run.state is JobState.REJECTED
    assert run.note


@pytest.mark.parametrize("failure", ["later", "unreachable"])
def test_what_surely_was_not_submitted_is_tried_again_after_a_pause(lab: Lab, failure: str) -> None:
    run = lab.step(staged.add(lab.bridge, "psd-study"))
    lab.slurm.next_submit(failure)
    run = lab.step(run)
    assert run.state is JobState.STAGED
    assert lab.step(run).state is JobState.STAGED, "not at once"
    lab.wait(61)
    assert lab.step(run).state is JobState.PENDING


def test_an_unclear_submission_that_arrived_is_found_by_its_name(lab: Lab) -> None:
    run = lab.step(staged.add(lab.bridge, "psd-study"))
    lab.slurm.next_submit("unclear-but-there")
    run = lab.step(run)
    assert (run.state, run.job_id) == (JobState.SUBMITTING, None)
    run = lab.step(run)
    assert run.state is JobState.PENDING
    assert [job.report.job_id for job in lab.slurm.jobs] == [run.job_id]


def test_an_unclear_submission_is_repeated_only_when_squeue_and_sacct_deny_it_for_long(
    lab: Lab,
) -> None:
    run = lab.step(staged.add(lab.bridge, "psd-study"))
    lab.slurm.next_submit("unclear-and-absent")
    run = lab.step(run)
    lab.slurm.unreachable(accounting=True)
    for _ in range(3):
        lab.wait(100)
        assert lab.step(run).state is JobState.SUBMITTING, "one of two said nothing"
    lab.slurm.unreachable()
    assert lab.step(run).state is JobState.SUBMITTING, "the denial has just begun"
    lab.wait(31)
    assert lab.step(run).state is JobState.STAGED
    lab.wait(61)
    assert lab.step(run).state is JobState.PENDING
    assert len(lab.slurm.jobs) == 1


def test_no_answer_of_slurm_changes_nothing(lab: Lab) -> None:
    run = lab.started()
    lab.slurm.end(run.job_id or 0, JobState.COMPLETED)
    lab.slurm.unreachable(queue=True, accounting=True)
    lab.wait(10_000)
    assert lab.step(run) == run


def test_a_job_that_vanished_before_it_started_is_submitted_once_more_under_its_name(
    lab: Lab,
) -> None:
    run = lab.submitted()
    lab.slurm.lose(run.job_id or 0)
    other = lab.submitted("another")
    assert other.job_id == run.job_id, "its id was given to the next"
    assert lab.step(run).state is JobState.PENDING
    lab.wait(31)
    assert lab.step(run).state is JobState.STAGED
    lab.wait(61)
    again = lab.step(run)
    assert again.state is JobState.PENDING
    assert again.job_id != other.job_id
    assert again.job_name == run.job_name


def test_a_job_that_vanished_after_it_started_is_not_submitted_again(lab: Lab) -> None:
    run = lab.started()
    lab.slurm.lose(run.job_id or 0)
    lab.step(run)
    lab.wait(60)
    assert lab.step(run).state is JobState.RUNNING
    lab.wait(600)
    run = lab.step(run)
    assert run.state is JobState.NODE_FAIL
    assert run.note


def test_a_job_that_slurm_forgot_is_shown_as_its_node_tells_and_that_is_said(lab: Lab) -> None:
    run = lab.submitted()
    lab.claim(run, run.job_id)
    lab.slurm.lose(run.job_id or 0)
    run = lab.step(run)
    assert (run.state, run.job_id) == (JobState.RUNNING, lab.bridge.store.run(run.id).job_id)
    assert run.note == "Slurm has forgotten this job; its node last said that it is at work on it."
    lab.node_says(run, exit_code=0)
    run = lab.step(run)
    assert run.state is JobState.COMPLETING
    assert run.note == "Slurm has forgotten this job; its node says that it has ended."
    lab.wait(31)
    run = lab.step(run)
    assert run.state is JobState.COMPLETED
    assert run.note == "Slurm has forgotten this job; this is what its node wrote."


def test_what_slurm_tells_again_goes_before_what_the_node_said(lab: Lab) -> None:
    run = lab.submitted()
    lab.claim(run, run.job_id)
    (job,) = lab.slurm.jobs
    lab.slurm.jobs.remove(job)
    assert lab.step(run).state is JobState.RUNNING
    lab.slurm.jobs.append(job)
    run = lab.step(run)
    assert (run.state, run.note, run.missing_since) == (JobState.PENDING, "", None)


def test_a_forgotten_job_runs_for_as_long_as_its_node_says_so(lab: Lab) -> None:
    run = lab.started()
    lab.slurm.lose(run.job_id or 0)
    for _ in range(100):
        lab.wait(15)
        lab.node_is_alive(run)
        assert lab.step(run).state is JobState.RUNNING
    lab.wait(130)
    run = lab.step(run)
    assert run.state is JobState.NODE_FAIL, "both have been silent"
    assert "its node has written no end" in run.note


@pytest.mark.parametrize("at", ["now", None, [], float("nan"), 1e300, -1, 99_999_999_999])
def test_what_is_no_time_of_late_is_no_sign_of_life(lab: Lab, at: object) -> None:
    run = lab.started()
    lab.slurm.lose(run.job_id or 0)
    lab.step(run)
    (staged.here(lab.bridge).run(run).claim / "alive").write_text(json.dumps({"at": at}))
    lab.wait(601)
    assert lab.step(run).state is JobState.NODE_FAIL


def test_a_forgotten_job_whose_submission_was_unclear_is_shown_as_its_node_tells(lab: Lab) -> None:
    run = lab.step(staged.add(lab.bridge, "psd-study"))
    lab.slurm.next_submit("unclear-but-there")
    run = lab.step(run)
    (job,) = lab.slurm.jobs
    lab.claim(run, job.report.job_id)
    lab.slurm.lose(job.report.job_id)
    run = lab.step(run)
    assert (run.state, run.job_id) == (JobState.RUNNING, job.report.job_id)


@pytest.mark.parametrize(
    ("exit_code", "reason", "state"),
    [
        (0, "finished", JobState.COMPLETED),
        (3, "finished", JobState.FAILED),
        (None, "told to stop", JobState.FAILED),
        (None, "time limit", JobState.TIMEOUT),
    ],
)
def test_the_end_of_a_forgotten_job_is_what_its_node_wrote(
    lab: Lab, exit_code: int | None, reason: str, state: JobState
) -> None:
    run = lab.started()
    lab.node_says(run, exit_code, reason)
    lab.slurm.lose(run.job_id or 0)
    assert lab.step(run).state is JobState.COMPLETING
    lab.wait(31)
    run = lab.step(run)
    assert (run.state, "its node wrote" in run.note) == (state, True)


def test_only_denials_in_a_row_count(lab: Lab) -> None:
    run = lab.started()
    lab.node_says(run, exit_code=0)
    lab.slurm.lose(run.job_id or 0)
    lab.step(run)
    lab.slurm.unreachable(accounting=True)
    lab.wait(100)
    assert lab.step(run).state is JobState.COMPLETING
    lab.slurm.unreachable()
    assert lab.step(run).state is JobState.COMPLETING, "the denial has just begun anew"
    lab.wait(31)
    assert lab.step(run).state is JobState.COMPLETED


def test_of_two_jobs_under_one_name_the_one_with_the_claim_is_the_runs(lab: Lab) -> None:
    run = lab.submitted()
    lab.claim(run, (run.job_id or 0) + 1000)
    lab.slurm.start(run.job_id or 0)
    lab.slurm.end(run.job_id or 0, JobState.FAILED, exit_code=75)
    run = lab.step(run)
    assert not run.state.ended
    assert run.job_id is not None and run.job_id > 1000


def test_the_end_of_a_second_start_of_one_job_is_not_the_runs_end(lab: Lab) -> None:
    run = lab.started()
    lab.slurm.end(run.job_id or 0, JobState.FAILED, exit_code=75)
    assert lab.step(run).state is JobState.RUNNING
    lab.node_says(run, exit_code=0)
    run = lab.step(run)
    assert run.state is JobState.COMPLETED
    assert "twice" in run.note


def test_a_program_that_itself_ends_with_75_has_failed(lab: Lab) -> None:
    run = lab.started()
    lab.node_says(run, exit_code=75)
    lab.slurm.end(run.job_id or 0, JobState.FAILED, exit_code=75)
    assert lab.step(run).state is JobState.FAILED


def test_a_requeued_job_has_not_ended(lab: Lab) -> None:
    run = lab.started()
    run = lab.bridge.store.update(run, resources=Resources(requeue=True))
    lab.slurm.requeue(run.job_id or 0)
    run = lab.step(run)
    assert not run.state.ended


def test_a_run_that_changed_meanwhile_is_left_for_the_next_round(lab: Lab) -> None:
    run = lab.submitted()
    lab.bridge.store.update(run, note="somebody else was here")
    lab.slurm.start(run.job_id or 0)
    seen = look(lab.slurm, [run])
    with pytest.raises(Stale):
        advance(Desk(lab.bridge, lab.slurm, lab.clock, seen), run)
