"""The rules by which a sweep goes on, each against a Slurm in memory and the test's own clock."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

import pytest
import staged
from client import zipped

from nias_bridge.domain import JobState, Run
from nias_bridge.paths import SharedPaths
from nias_bridge.poller import MEASURED_AT_ONCE, Rounds, in_turn, look
from nias_bridge.services import intake
from nias_bridge.services.advance import advance
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.sight import Desk
from nias_bridge.slurm.fake import FakeScheduler

S = JobState


@dataclass
class Lab:
    """A bridge with one sweep, a Slurm in memory, and the time that both go by."""

    bridge: Bridge
    run: Run
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.slurm = FakeScheduler(clock=lambda: self.now)

    def step(self, seconds: float = 0) -> Run:
        """One step with a fresh look at Slurm."""
        self.now += timedelta(seconds=seconds)
        run = self.bridge.store.run(self.run.id)
        sight = look(self.slurm, [run]) if run.state not in ("RECEIVED", "STAGED") else None
        self.run = advance(Desk(self.bridge, self.slurm, lambda: self.now, sight), run)
        return self.run

    @property
    def job(self) -> int:
        return self.run.job_id or 0

    def states(self) -> str:
        return " ".join(task.state for task in self.bridge.store.tasks(self.run.id))

    def leave(self, index: int, **told: object) -> None:
        """What the node writes of a task at its end."""
        folder = staged.here(self.bridge).run(self.run).task(index).folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "exit.json").write_text(json.dumps({"exit_code": 0, **told}))

    def claim(self, index: int, job_id: int) -> None:
        claim = staged.here(self.bridge).run(self.run).task(index).claim
        claim.mkdir(parents=True)
        told = {"job_id": job_id, "at": self.now.timestamp()}
        (claim / "job").write_text(json.dumps(told))


def received(folder: Path, tasks: int) -> Lab:
    made = staged.make_bridge(folder)
    # The Slurm in memory reads the script: it is where the gateway has it.
    paths = SharedPaths(folder / "shared", PurePosixPath(folder / "shared"))
    bridge = replace(made, paths=paths)
    toml = f"[sweep]\ngrid = {{ n = {list(range(tasks))} }}\nmax_parallel = 2\n"
    part = staged.arrived(bridge, zipped("p", {"code.py": "", "nias.toml": toml}))
    return Lab(bridge, intake.receive(bridge, part, "p.zip"))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = received(tmp_path, 3)
    made.step()
    made.step()
    assert made.run.state is S.PENDING
    yield made
    made.bridge.store.close()  # type: ignore[attr-defined]


def test_a_sweep_is_one_submission_of_one_array(lab: Lab) -> None:
    files = staged.here(lab.bridge).run(lab.run)
    assert lab.slurm.calls["submit"] == 1
    assert "#SBATCH --array=0-2%2\n" in files.script.read_text()
    assert json.loads(files.sweep.read_text()) == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert {str(job.log) for job in lab.slurm.jobs} == {str(files.folder / "tasks-%a.out")}


@pytest.mark.parametrize(("slurms", "nodes", "peak"), [(3, 7, 7), (7, 3, 7), (None, 3, 3)])
def test_a_tasks_peak_of_memory_is_the_larger_of_what_slurm_and_its_node_saw(
    lab: Lab, slurms: int | None, nodes: int, peak: int
) -> None:
    lab.slurm.start(lab.job, 0)
    lab.slurm.jobs[0].change(max_rss=slurms)
    lab.slurm.end(lab.job, task=0)
    lab.leave(0, max_rss=nodes)
    lab.step()
    report = lab.bridge.store.task(lab.run.id, 0).report
    assert report and report.max_rss == peak


def test_the_run_runs_while_any_task_does_and_is_completed_when_all_are(lab: Lab) -> None:
    lab.slurm.start(lab.job, 0)
    assert lab.step().state is S.RUNNING
    assert lab.states() == "RUNNING PENDING PENDING"
    lab.slurm.end(lab.job, task=0)
    lab.leave(0, metrics={"rms": 0.5, "odd": "x"})
    assert lab.step().state is S.RUNNING
    assert lab.bridge.store.task(lab.run.id, 0).metrics == {"rms": 0.5}
    for task in (1, 2):
        lab.slurm.start(lab.job, task)
        lab.slurm.end(lab.job, task=task)
    assert lab.step().state is S.COMPLETED
    assert lab.run.report and lab.run.report.ended_at == lab.now


def test_the_gravest_end_of_a_task_is_the_runs(lab: Lab) -> None:
    lab.slurm.start(lab.job)
    lab.slurm.end(lab.job, task=0)
    lab.slurm.end(lab.job, S.FAILED, exit_code=3, task=1)
    lab.slurm.end(lab.job, S.CANCELLED, task=2)
    assert lab.step().state is S.FAILED
    assert lab.states() == "COMPLETED FAILED CANCELLED"
    assert lab.run.note == "2 of 3 tasks did not end well."
    assert lab.run.report and lab.run.report.exit_code == 3


def test_one_look_is_one_question_each_however_many_tasks(lab: Lab) -> None:
    before = Counter(lab.slurm.calls)
    lab.slurm.start(lab.job)
    lab.step()
    assert lab.slurm.calls - before == {"queue": 1, "accounting": 1}


def test_an_answer_that_did_not_come_changes_nothing(lab: Lab) -> None:
    lab.slurm.start(lab.job)
    lab.step()
    lab.slurm.forget(lab.job)
    lab.slurm.end(lab.job)
    for away in ({"queue": True, "accounting": True}, {"accounting": True}):
        lab.slurm.unreachable(**away)
        lab.step(9999)
        lab.step(9999)
        assert lab.states() == "RUNNING RUNNING RUNNING"


def test_a_requeued_tasks_earlier_end_is_not_its_end(lab: Lab) -> None:
    lab.slurm.start(lab.job)
    lab.slurm.requeue(lab.job, 1)
    lab.step()
    assert lab.states() == "RUNNING PENDING RUNNING"
    assert lab.bridge.store.task(lab.run.id, 1).report


def test_an_array_that_slurm_lost_before_it_started_is_submitted_again(lab: Lab) -> None:
    lab.slurm.lose(lab.job)
    lab.step()
    assert lab.step(29).state is S.PENDING
    assert lab.step(2).state is S.STAGED
    assert lab.step(60).state is S.PENDING
    assert lab.slurm.calls["submit"] == 2


def test_an_array_with_a_claim_is_never_submitted_again(lab: Lab) -> None:
    lab.claim(1, lab.job)
    lab.slurm.lose(lab.job)
    lab.step()
    lab.step(31)
    lab.leave(1, exit_code=0)
    lab.step(9999)
    assert lab.slurm.calls["submit"] == 1
    assert lab.states() == "CANCELLED COMPLETED CANCELLED"


def test_a_task_that_slurm_forgot_is_told_by_its_node(lab: Lab) -> None:
    lab.slurm.start(lab.job)
    lab.step()
    gone = next(job for job in lab.slurm.jobs if job.report.array_tasks == (2,))
    lab.slurm.jobs.remove(gone)
    lab.claim(2, lab.job)
    lab.step()
    lab.step()
    assert lab.states() == "RUNNING RUNNING RUNNING"
    assert "its node last said that it is at work" in lab.bridge.store.task(lab.run.id, 2).note
    lab.leave(2, exit_code=1)
    lab.step()
    assert lab.states() == "RUNNING RUNNING COMPLETING"
    lab.step(31)
    assert lab.states() == "RUNNING RUNNING FAILED"
    assert "this is what its node wrote" in lab.bridge.store.task(lab.run.id, 2).note


def test_a_task_that_slurm_and_its_node_are_silent_of_has_failed_with_its_node(lab: Lab) -> None:
    lab.slurm.start(lab.job)
    lab.step()
    gone = next(job for job in lab.slurm.jobs if job.report.array_tasks == (2,))
    lab.slurm.jobs.remove(gone)
    lab.step()
    lab.step(590)
    assert lab.states() == "RUNNING RUNNING RUNNING"
    lab.step(20)
    assert lab.states() == "RUNNING RUNNING NODE_FAIL"


def test_one_task_is_cancelled_and_the_others_go_on(lab: Lab) -> None:
    lab.slurm.start(lab.job, 0)
    lab.bridge.store.ask_cancel_task(lab.run.id, 0, at=lab.now)
    lab.step()
    lab.step()
    assert lab.states() == "CANCELLED PENDING PENDING"
    assert lab.run.state is S.RUNNING


def test_a_waiting_task_that_was_cancelled_leaves_no_record_and_is_cancelled(lab: Lab) -> None:
    lab.slurm.start(lab.job, 0)
    lab.bridge.store.ask_cancel_task(lab.run.id, 2, at=lab.now)
    lab.slurm.jobs = [job for job in lab.slurm.jobs if job.report.array_tasks != (2,)]
    lab.step()
    assert lab.states() == "RUNNING PENDING CANCELLED"


def test_all_is_cancelled_at_once(lab: Lab) -> None:
    lab.bridge.store.ask_cancel(lab.run.id, at=lab.now)
    lab.step()
    assert lab.step().state is S.CANCELLED
    assert lab.slurm.calls["submit"] == 1


def test_a_sweep_cancelled_before_slurm_had_it_has_only_cancelled_tasks(tmp_path: Path) -> None:
    lab = received(tmp_path, 2)
    lab.bridge.store.ask_cancel(lab.run.id, at=lab.now)
    assert lab.step().state is S.CANCELLED
    assert lab.states() == "CANCELLED CANCELLED"


def test_a_thousand_tasks_take_a_poller_less_than_a_tenth_of_a_second(tmp_path: Path) -> None:
    lab = received(tmp_path, 1000)
    lab.step()
    lab.step()
    took = []
    for task in range(6):
        lab.slurm.start(lab.job, task)
        sight = look(lab.slurm, [lab.run])
        begin = time.process_time()
        lab.run = advance(Desk(lab.bridge, lab.slurm, lambda: lab.now, sight), lab.run)
        took.append(time.process_time() - begin)
    assert min(took) < 0.1, took


def test_what_running_tasks_use_is_asked_for_all_at_once_and_kept_until_they_end(lab: Lab) -> None:
    rounds = Rounds(lab.bridge, lab.slurm)
    for task in (0, 1):
        lab.slurm.start(lab.job, task)
    rounds.follow_jobs()
    rounds._measure()
    rounds.follow_jobs()
    rounds.follow_jobs()
    assert lab.slurm.calls["usage"] == 1
    first, second, third = lab.bridge.store.tasks(lab.run.id)
    assert first.report and second.report and third.report is None
    assert first.report.task_job_id != second.report.task_job_id != lab.job
    for report in (first.report, second.report):
        assert (report.cpu_time, report.max_rss) == (0.0, 1024**2)
        assert report.measured_at and report.started_at
        assert report.measured_at >= report.started_at


def test_a_task_that_starts_anew_has_used_nothing_yet(lab: Lab) -> None:
    rounds = Rounds(lab.bridge, lab.slurm)
    lab.slurm.start(lab.job, 0)
    rounds.follow_jobs()
    rounds._measure()
    rounds.follow_jobs()
    lab.slurm.requeue(lab.job, 0)
    rounds.follow_jobs()
    lab.now += timedelta(minutes=1)
    lab.slurm.start(lab.job, 0)
    rounds.follow_jobs()
    report = lab.bridge.store.task(lab.run.id, 0).report
    assert report and (report.restarts, report.state) == (1, S.RUNNING)
    assert (report.max_rss, report.measured_at) == (None, None)


def test_where_more_run_than_are_measured_at_once_each_has_its_turn() -> None:
    running = list(range(MEASURED_AT_ONCE * 2 + 50, 0, -1))
    measured: set[int] = set()
    last = 0
    for _ in range(3):
        now = in_turn(running, last)
        assert len(now) == MEASURED_AT_ONCE
        measured.update(now)
        last = now[-1]
    assert measured == set(running)
    assert in_turn([5, 3], 3) == [5, 3]
    assert in_turn([], 7) == []
