"""Jobs by plain sbatch become runs: by what Slurm recorded, against a Slurm in memory."""

from __future__ import annotations

import getpass
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import staged
from click.testing import CliRunner

from nias_bridge import cli
from nias_bridge.domain import JobState, Origin, Run
from nias_bridge.errors import NotPossible
from nias_bridge.node import layout
from nias_bridge.poller import look
from nias_bridge.services import adopt, datasets, desk, provision
from nias_bridge.services.advance import Desk, advance
from nias_bridge.services.bridge import Bridge
from nias_bridge.slurm.fake import FakeScheduler

SCRIPT = PurePosixPath("/shared/bin/nias.sbatch")
ME = getpass.getuser()  # the one account whose files a test can make without being root


@dataclass
class Lab:
    """A bridge, a Slurm in memory, and the time that both go by; `ticks` as the poller's are."""

    bridge: Bridge
    now: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(seconds=5))
    seen: set[adopt.Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.slurm = FakeScheduler(clock=lambda: self.now)

    def sbatch(self, project: str = "/home/a/psd-study", *, user: str = ME, **how: object) -> int:
        told = {"workdir": "/shared/sbatch", "name": "nias", **how}
        return self.slurm.sbatch(SCRIPT, project, user=user, **told)  # type: ignore[arg-type]

    def link(self, user: str = ME) -> None:
        self.bridge.store.people.change(self.bridge.person.id, unix_account=user)

    def tick(self) -> None:
        """What the poller does in one of its rounds."""
        self.now += timedelta(seconds=1)
        runs = self.bridge.store.open_runs()
        sight = look(self.slurm, runs)
        for run in runs:
            advance(Desk(self.bridge, self.slurm, lambda: self.now, sight), run)
        assert sight.queue is not None
        self.seen = adopt.look(self.bridge, self.slurm, sight.queue, self.seen, self.now)

    def ticks(self, count: int = 2) -> None:
        for _ in range(count):
            self.tick()

    def runs(self, job_id: int) -> list[Run]:
        return self.bridge.store.adopted([job_id])

    def run(self, job_id: int) -> Run:
        (found,) = self.runs(job_id)
        return found

    def works(self, folder: str, code: str = "print(1)\n") -> Path:
        """What a job leaves in its folder."""
        there = staged.here(self.bridge).sbatch / folder
        there.mkdir(parents=True)
        files = {"code.py": code, "requirements.txt": "numpy\n"}
        (there / layout.ARCHIVE).write_bytes(staged.zipped("psd-study", files))
        (there / layout.LOG).write_text("[nias] code.py starts.\n")
        (there / layout.SUBMISSION).write_text(json.dumps({"project": "/home/a/psd-study"}))
        return there


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(staged.make_bridge(tmp_path, lost_after=30, verdict_after=600))
    lab.link()
    yield lab


def test_a_job_is_a_run_of_its_accounts_person_within_two_ticks(lab: Lab) -> None:
    job_id = lab.sbatch()
    lab.slurm.start(job_id)
    lab.ticks(2)
    run = lab.run(job_id)
    assert (run.owner, run.project, run.number) == ("lab", "psd-study", 1)
    assert (run.origin, run.state) == (Origin.SBATCH, JobState.RUNNING)
    assert [event.state for event in lab.bridge.store.events(run.id)] == ["PENDING", "RUNNING"]


def test_it_is_asked_for_once_however_long_it_takes(lab: Lab) -> None:
    lab.sbatch()
    lab.ticks(5)
    assert lab.slurm.calls["commands"] == 1
    assert lab.slurm.calls["queue"] == 5


def test_where_slurm_does_not_tell_the_project_at_once_the_run_waits_for_its_name(lab: Lab) -> None:
    job_id = lab.sbatch()
    (job,) = lab.slurm.jobs
    job.arguments, given = "", job.arguments
    lab.ticks(5)
    assert not lab.runs(job_id)
    job.arguments = given
    lab.tick()
    assert lab.run(job_id).project == "psd-study"


def test_the_accounts_own_file_tells_it_sooner(lab: Lab) -> None:
    job_id = lab.sbatch("")
    lab.works(f"{ME}/{job_id}")
    lab.ticks(2)
    assert lab.run(job_id).project == "psd-study"


def test_it_does_not_wait_for_long(lab: Lab) -> None:
    job_id = lab.sbatch("")
    lab.ticks(20)
    assert lab.run(job_id).project == "nias"


def test_its_log_files_and_record_are_there(lab: Lab) -> None:
    job_id = lab.sbatch()
    folder = lab.works(f"{ME}/{job_id}")
    lab.slurm.start(job_id)
    lab.ticks(3)
    run = lab.run(job_id)
    assert staged.here(lab.bridge).run(run).folder == folder
    assert desk.log(lab.bridge, run.id, 0).text == "[nias] code.py starts.\n"
    assert run.contents.requirements == ("numpy",)
    lab.slurm.end(job_id, JobState.FAILED, exit_code=3)
    lab.tick()
    ended = lab.run(job_id)
    assert (ended.state, ended.report and ended.report.exit_code) == (JobState.FAILED, 3)


def chose(folder: Path, seen: dict[str, str], *words: str) -> None:
    """What a job leaves whose nias.toml names datasets, once it has chosen versions."""
    named = ", ".join(f'"{word}"' for word in words)
    files = {"code.py": "", "nias.toml": f"[job]\ndatasets = [{named}]\n"}
    (folder / layout.ARCHIVE).write_bytes(staged.zipped("psd-study", files))
    (folder / layout.SEEN).write_text(json.dumps(seen))


def test_what_datasets_it_sees_is_remembered_and_keeps_them_from_being_deleted(lab: Lab) -> None:
    eeg = staged.dataset(lab.bridge, "eeg", {"a": "1"})
    job_id = lab.sbatch()
    folder = lab.works(f"{ME}/{job_id}")
    chose(folder, {"eeg": eeg.versions[0].sha256}, "eeg")
    told = (folder / layout.SEEN).read_text()
    (folder / layout.SEEN).unlink()
    lab.slurm.start(job_id)
    lab.ticks(3)
    assert lab.run(job_id).datasets == (), "it has not chosen yet"
    (folder / layout.SEEN).write_text(told)
    lab.tick()
    (mount,) = lab.run(job_id).datasets
    assert mount == datasets.mount_of(eeg, eeg.versions[0])
    assert lab.run(job_id).contents.size
    with pytest.raises(NotPossible, match="runs that have not ended"):
        datasets.delete(lab.bridge, eeg.id)
    lab.slurm.end(job_id)
    lab.ticks()
    again = desk.again(lab.bridge, lab.run(job_id).id)
    assert again.datasets == (mount,)
    staged.move(lab.bridge, again, JobState.CANCELLED)
    datasets.delete(lab.bridge, eeg.id)


def test_a_job_that_says_it_sees_what_is_anothers_gains_nothing_by_it(lab: Lab) -> None:
    bob = staged.as_person(lab.bridge, "bob")
    his = staged.dataset(bob, "eeg", {"a": "1"}).versions[0].sha256
    job_id = lab.sbatch()
    forged: dict[str, Any] = {f"n{n}": his for n in range(1000)}
    chose(lab.works(f"{ME}/{job_id}"), {"eeg": his, "\0": his, "n": [], **forged}, "eeg")
    lab.slurm.start(job_id)
    lab.ticks(3)
    assert lab.run(job_id).datasets == ()
    assert lab.run(job_id).contents.size
    datasets.delete(bob, bob.store.datasets.visible(bob.person.id)[0].id)


def test_a_job_that_was_refused_its_datasets_saw_none(lab: Lab) -> None:
    job_id = lab.sbatch()
    folder = lab.works(f"{ME}/{job_id}")
    chose(folder, {}, "eeg")
    (folder / layout.SEEN).unlink()
    (folder / layout.EXIT).write_text(json.dumps({"reason": "archive", "message": "no dataset"}))
    lab.slurm.start(job_id)
    lab.ticks(3)
    assert (lab.run(job_id).datasets, lab.run(job_id).contents.files) == ((), 2)


def test_an_array_whose_tasks_were_refused_their_datasets_saw_none(lab: Lab) -> None:
    job_id = lab.sbatch(tasks=[3, 5])
    folder = lab.works(f"{ME}/{job_id}")
    chose(folder, {}, "eeg")
    (folder / layout.SEEN).unlink()
    lab.ticks(2)
    lab.slurm.start(job_id, 5)
    lab.ticks(2)
    assert not lab.run(job_id).contents.size
    (folder / "tasks" / "5").mkdir(parents=True)
    (folder / "tasks" / "5" / layout.EXIT).write_text(json.dumps({"reason": "archive"}))
    lab.tick()
    assert (lab.run(job_id).datasets, lab.run(job_id).contents.files) == ((), 2)


def test_it_can_be_run_again_by_the_bridge(lab: Lab) -> None:
    job_id = lab.sbatch()
    lab.works(f"{ME}/{job_id}")
    lab.slurm.end(job_id)
    lab.ticks(3)
    again = desk.again(lab.bridge, lab.run(job_id).id)
    assert (again.origin, again.number, again.state) == (Origin.WEB, 2, JobState.RECEIVED)
    assert staged.here(lab.bridge).run(again).archive.is_file()


@pytest.mark.parametrize(
    ("given", "project"),
    [
        ("/home/a/psd-study", "psd-study"),
        ("psd-study.zip", "psd-study"),
        ("/home/a/My Study 2/", "My Study 2"),
        ("/home/a/what?!", "what"),
        ("/", "nias"),
        ("/home/a/" + "x" * 200, "x" * 64),
    ],
)
def test_the_project_is_what_sbatch_was_given(lab: Lab, given: str, project: str) -> None:
    job_id = lab.sbatch(given)
    lab.tick()
    assert lab.run(job_id).project == project


def test_any_job_name_of_hers_is_as_good(lab: Lab) -> None:
    job_id = lab.sbatch(name="mine")
    lab.ticks(2)
    assert lab.run(job_id).job_name == "mine"


def test_a_job_of_another_script_in_our_folder_is_none_of_ours(lab: Lab) -> None:
    job_id = lab.slurm.sbatch(
        PurePosixPath("/home/a/else.sh"), "x", user=ME, workdir="/shared/sbatch", name="nias"
    )
    lab.ticks(3)
    assert lab.runs(job_id) == []
    assert lab.slurm.calls["commands"] == 1


@pytest.mark.parametrize(
    "workdir", ["/home/a", "/shared/sbatch/other/7", "/shared/runs/lab/psd-study/1", "/shared"]
)
def test_a_job_that_works_elsewhere_is_none_of_ours(lab: Lab, workdir: str) -> None:
    job_id = lab.sbatch(workdir=workdir)
    lab.ticks(2)
    assert lab.runs(job_id) == []


def test_a_job_from_before_the_bridge_is_none_of_ours(lab: Lab) -> None:
    lab.now -= timedelta(days=1)
    job_id = lab.sbatch()
    lab.now += timedelta(days=1)
    lab.ticks(2)
    adopt.search(lab.bridge, lab.slurm, lab.now)
    assert lab.runs(job_id) == []
    assert lab.bridge.store.unclaimed.all() == []


def test_whose_it_is_slurm_says_and_no_file(lab: Lab) -> None:
    job_id = lab.sbatch(user="root" if ME != "root" else "daemon")
    lab.works(f"{ME}/{job_id}")
    lab.ticks(2)
    adopt.search(lab.bridge, lab.slurm, lab.now)
    assert lab.runs(job_id) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_that_is_anothers_is_not_shown_to_her(lab: Lab) -> None:
    job_id = lab.sbatch()
    os.chown(lab.works(f"{ME}/{job_id}"), 1, -1)
    lab.slurm.start(job_id)
    lab.ticks(3)
    run = lab.run(job_id)
    assert run.native and run.native.folder == ""
    assert desk.log(lab.bridge, run.id, 0).text == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_who_makes_a_folder_under_her_name_first_gains_nothing_by_it(lab: Lab) -> None:
    job_id = lab.sbatch()
    lab.works(f"{ME}/{job_id}")
    os.chown(staged.here(lab.bridge).sbatch / ME, 1, -1)
    hers = lab.works(f"{ME}.2/{job_id}")
    lab.ticks(3)
    assert staged.here(lab.bridge).run(lab.run(job_id)).folder == hers


def test_a_link_in_her_folder_shows_nothing(lab: Lab, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"exit_code": 77, "reason": "finished", "message": "secret"}')
    job_id = lab.sbatch()
    folder = lab.works(f"{ME}/{job_id}")
    lab.ticks(3)
    run = lab.run(job_id)
    for name in (layout.LOG, layout.EXIT, layout.MANIFEST, layout.LOCK):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(secret)
    assert desk.log(lab.bridge, run.id, 0).text == ""
    assert desk.show(lab.bridge, run.id).evidence.exit_code is None
    (folder / layout.PROJECT).symlink_to(tmp_path)
    assert desk.show(lab.bridge, run.id).files == ()


def test_a_job_number_that_slurm_gives_again_is_another_run(lab: Lab) -> None:
    job_id = lab.sbatch("/home/a/first")
    lab.works(f"{ME}/{job_id}")
    lab.slurm.start(job_id)
    lab.ticks(3)
    first = lab.run(job_id)
    lab.slurm.lose(job_id)
    lab.now += timedelta(seconds=3)
    assert lab.sbatch("/home/a/second") == job_id
    lab.ticks(3)
    runs = {run.project: run for run in lab.runs(job_id)}
    assert runs["first"].id == first.id
    assert runs["first"].state is JobState.NODE_FAIL
    assert "given the job's number to another job" in runs["first"].note
    second = runs["second"]
    assert second.state is JobState.PENDING
    assert second.native and second.native.folder == ""  # what is there is the first one's
    lab.works(f"{ME}/{job_id}.2")
    lab.tick()
    second = lab.bridge.store.run(second.id)
    assert second.native and second.native.folder == f"{ME}/{job_id}.2"


def test_a_requeued_job_stays_the_run_that_it_was(lab: Lab) -> None:
    job_id = lab.sbatch()
    lab.slurm.start(job_id)
    lab.ticks(2)
    lab.now += timedelta(seconds=60)
    lab.slurm.requeue(job_id)
    lab.ticks(2)
    assert lab.run(job_id).state is JobState.PENDING
    lab.slurm.start(job_id)
    lab.slurm.end(job_id)
    lab.ticks(2)
    run = lab.run(job_id)
    assert (run.state, run.report and run.report.restarts) == (JobState.COMPLETED, 1)


def test_a_job_that_slurm_lost_is_not_submitted_by_the_bridge(lab: Lab) -> None:
    job_id = lab.sbatch()
    lab.ticks(2)
    lab.slurm.lose(job_id)
    for _ in range(4):
        lab.now += timedelta(seconds=400)
        lab.tick()
    assert lab.run(job_id).state is JobState.NODE_FAIL
    assert lab.slurm.calls["submit"] == 0


def test_an_array_is_one_run_with_its_own_indexes(lab: Lab) -> None:
    job_id = lab.sbatch(tasks=[3, 5, 9])
    lab.ticks(2)
    run = lab.run(job_id)
    assert run.tasks == 3
    assert [task.index for task in lab.bridge.store.tasks(run.id)] == [3, 5, 9]
    for index in (3, 5, 9):
        lab.slurm.start(job_id, index)
    lab.slurm.end(job_id, task=3)
    lab.slurm.end(job_id, JobState.FAILED, exit_code=1, task=5)
    lab.tick()
    states = [task.state for task in lab.bridge.store.tasks(run.id)]
    assert states == [JobState.COMPLETED, JobState.FAILED, JobState.RUNNING]
    lab.slurm.end(job_id, task=9)
    lab.tick()
    assert lab.run(job_id).state is JobState.FAILED


def test_of_an_array_the_tasks_that_squeue_forgot_are_there_too(lab: Lab) -> None:
    job_id = lab.sbatch(tasks=[0, 1])
    lab.slurm.start(job_id, 0)
    lab.slurm.end(job_id, task=0)
    lab.slurm.jobs[0].known = False
    lab.ticks(2)
    states = [task.state for task in lab.bridge.store.tasks(lab.run(job_id).id)]
    assert states == [JobState.COMPLETED, JobState.PENDING]


def test_what_ended_while_nobody_looked_is_found_in_the_accounting(lab: Lab) -> None:
    job_id = lab.sbatch()
    renamed = lab.sbatch(name="mine")
    lab.works(f"{ME}/{renamed}")
    for each in (job_id, renamed):
        lab.slurm.end(each)
        lab.slurm.forget(each)
    lab.ticks(2)
    assert lab.runs(job_id) == []
    adopt.search(lab.bridge, lab.slurm, lab.now)
    lab.tick()
    assert lab.run(job_id).state is JobState.COMPLETED
    assert lab.run(renamed).project == "psd-study"


def test_a_search_finds_nothing_twice(lab: Lab) -> None:
    job_id = lab.sbatch()
    lab.ticks(2)
    for _ in range(2):
        adopt.search(lab.bridge, lab.slurm, lab.now)
    assert len(lab.runs(job_id)) == 1


def test_a_job_of_nobodys_account_waits_until_somebody_is_linked_to_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = lab.sbatch(user="carol")
    lab.ticks(2)
    (waiting,) = lab.bridge.store.unclaimed.all()
    assert (waiting.native.user, waiting.report.job_id) == ("carol", job_id)
    monkeypatch.setattr(cli, "_at_the_command_line", lambda: lab.bridge)
    told = CliRunner().invoke(cli.main, ["unclaimed"]).output
    assert re.fullmatch(rf"{job_id} +carol +\S+ \S+ +psd-study\n", told)
    lab.slurm.end(job_id)
    lab.slurm.forget(job_id)
    lab.tick()
    lab.link("carol")
    lab.ticks(2)
    assert lab.bridge.store.unclaimed.all() == []
    assert lab.run(job_id).state is JobState.COMPLETED


def test_those_that_waited_are_numbered_in_the_order_they_came(lab: Lab) -> None:
    ids = [9, 10, 11]  # of which 9 is last as a text
    for job_id in reversed(ids):
        staged.unclaimed(
            lab.bridge, "carol", "psd-study", job_id=job_id, at=lab.now + timedelta(seconds=job_id)
        )
    lab.link("carol")
    lab.tick()
    assert [lab.run(job_id).number for job_id in ids] == [1, 2, 3]


def test_to_cancel_it_its_owner_is_told_of_scancel(lab: Lab) -> None:
    job_id = lab.sbatch()
    lab.ticks(2)
    with pytest.raises(NotPossible, match=f"scancel {job_id}"):
        desk.cancel(lab.bridge, lab.run(job_id).id)


def test_a_slurm_that_is_away_is_asked_again(lab: Lab) -> None:
    job_id = lab.sbatch()
    lab.slurm.unreachable(accounting=True)
    lab.ticks(2)
    assert lab.run(job_id).state is JobState.PENDING


def test_what_every_account_may_read_has_no_password(tmp_path: Path) -> None:
    variables = {
        "UV_INDEX_URL": "https://lab:word@index.example/simple",
        "UV_EXTRA_INDEX_URL": "https://index.example/simple",
        "INDEX_TOKEN": "abc",
    }
    bridge = staged.make_bridge(tmp_path, build_variables=variables)
    provision.install(bridge)
    told = json.loads((staged.here(bridge).bin / layout.SITE_FOR_ALL).read_text())
    assert told["build_variables"] == {"UV_EXTRA_INDEX_URL": "https://index.example/simple"}


def test_login_nodes_can_come_to_the_script_and_to_nothing_of_others(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path)
    provision.install(bridge)
    modes = {
        name: staged.here(bridge).root.joinpath(name).stat().st_mode & 0o7777
        for name in (".", "bin", "bin/nias.sbatch", "sbatch", "runs", "uploads", "envs", "cache")
    }
    assert modes["sbatch"] == 0o3733
    assert modes["bin"] & 0o005 == 0o005
    assert modes["bin/nias.sbatch"] & 0o004
    assert modes["."] & 0o001
    assert [modes[name] & 0o007 for name in ("runs", "uploads", "envs", "cache")] == [0, 0, 0, 0]


def test_where_the_site_does_not_want_it_there_is_no_script(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path, login_nodes=False)
    provision.install(bridge)
    assert not (staged.here(bridge).bin / layout.LOGIN_SCRIPT).exists()
    assert not staged.here(bridge).sbatch.exists()
