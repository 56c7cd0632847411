"""As whom jobs run, against a Slurm in memory: rules that need no account of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest
import staged
from pydantic import ValidationError

from nias_bridge.bootstrap import open_scheduler
from nias_bridge.domain import JobState, Run
from nias_bridge.errors import (
    NotAllowed,
    NotFound,
    Rejected,
    SchedulerError,
    SettingsError,
    Unreachable,
)
from nias_bridge.identity import install, run_as
from nias_bridge.poller import look
from nias_bridge.services import desk, identity, intake, provision
from nias_bridge.services.advance import Desk, advance
from nias_bridge.services.bridge import Bridge
from nias_bridge.settings import Settings
from nias_bridge.slurm.answers import Output
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.slurm.fake import FakeScheduler
from nias_bridge.slurm.ssh import SshRunner
from nias_bridge.slurm.sudo import SudoAs


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Bridge]:
    """A bridge whose jobs are their owners', asked by somebody whose account is alice."""
    made = staged.make_bridge(tmp_path, identity="unix")
    umask = os.umask(0o077)
    provision.install(made)
    link(made, "lab", "alice")
    yield made
    os.umask(umask)


def link(bridge: Bridge, handle: str, account: str | None) -> None:
    person = bridge.store.people.find(handle=handle)
    assert person is not None
    bridge.store.people.change(person.id, unix_account=account)


def step(bridge: Bridge, slurm: FakeScheduler, run: Run) -> Run:
    run = bridge.store.run(run.id)
    sight = None
    if run.state not in ("RECEIVED", "STAGED"):
        sight = replace(look(slurm, [run]), users=identity.users_of_jobs(bridge, [run]))
    return advance(Desk(bridge, slurm, lambda: datetime.now(UTC), sight), run)


def submitted(bridge: Bridge, slurm: FakeScheduler) -> Run:
    return step(bridge, slurm, step(bridge, slurm, staged.add(bridge, "psd-study")))


def test_a_job_is_submitted_and_cancelled_as_its_owners_account(bridge: Bridge) -> None:
    slurm = FakeScheduler()
    run = submitted(bridge, slurm)
    assert slurm.jobs[0].report.user == "alice"
    step(bridge, slurm, run)
    desk.cancel(bridge, run.id)
    step(bridge, slurm, run)
    assert slurm.jobs[0].report.state is JobState.CANCELLED


def test_a_link_that_was_changed_does_not_change_whose_a_job_is(bridge: Bridge) -> None:
    slurm = FakeScheduler()
    run = submitted(bridge, slurm)
    step(bridge, slurm, run)
    link(bridge, "lab", "alice2")
    slurm.start(run.job_id or 0)
    assert step(bridge, slurm, run).state is JobState.RUNNING
    desk.cancel(bridge, run.id)
    step(bridge, slurm, run)
    assert slurm.jobs[0].report.state is JobState.CANCELLED


def test_anothers_job_of_the_same_name_is_not_the_run(bridge: Bridge) -> None:
    slurm = FakeScheduler()
    run = step(bridge, slurm, staged.add(bridge, "psd-study"))
    slurm.next_submit("unclear-and-absent")
    run = step(bridge, slurm, run)
    slurm.submit(PurePosixPath("/x"), name=run.job_name, log=PurePosixPath("/x"), user="bob")
    assert step(bridge, slurm, run).state is JobState.SUBMITTING
    hers = slurm.submit(
        PurePosixPath("/x"), name=run.job_name, log=PurePosixPath("/x"), user="alice"
    )
    assert step(bridge, slurm, run).job_id == hers


def test_who_has_no_account_linked_is_refused_at_upload_and_when_running_again(
    bridge: Bridge,
) -> None:
    run = staged.add(bridge, "psd-study")
    link(bridge, "lab", None)
    with pytest.raises(NotAllowed, match="ask the administrator"):
        staged.add(bridge, "another")
    assert list(staged.here(bridge).uploads.iterdir()) == []
    with pytest.raises(NotAllowed, match="ask the administrator"):
        desk.again(bridge, run.id)


def test_who_is_unlinked_after_the_upload_finds_the_run_rejected(bridge: Bridge) -> None:
    slurm = FakeScheduler()
    run = step(bridge, slurm, staged.add(bridge, "psd-study"))
    link(bridge, "lab", None)
    run = step(bridge, slurm, run)
    assert (run.state, run.note) == (JobState.REJECTED, identity.NOT_LINKED)
    assert slurm.jobs == []


def test_what_is_written_for_a_run_is_closed_until_it_is_handed_over(bridge: Bridge) -> None:
    run = step(bridge, FakeScheduler(), staged.add(bridge, "psd-study"))
    folder = staged.here(bridge).run(run).folder
    for path in (folder, folder.parent, folder.parent.parent):
        assert path.stat().st_mode & 0o077 == 0, path
    assert staged.here(bridge).root.stat().st_mode & 0o777 == 0o711
    assert (staged.here(bridge).root / "runs").stat().st_mode & 0o777 == 0o711
    assert staged.here(bridge).uploads.stat().st_mode & 0o777 == 0o700
    assert (staged.here(bridge).bin / "site.json").stat().st_mode & 0o777 == 0o644


def test_runs_from_before_are_closed_when_jobs_become_their_owners(bridge: Bridge) -> None:
    before = staged.here(bridge).root / "runs" / "old"
    before.mkdir()
    before.chmod(0o755)
    provision.install(bridge)
    assert before.stat().st_mode & 0o777 == 0o750


def test_private_environments_of_the_bridges_own_jobs_make_room(bridge: Bridge) -> None:
    left = staged.here(bridge).own_environments("lab")
    (left / "key" / "venv").mkdir(parents=True)
    (left / "key").chmod(0o500)
    identity.prepare(bridge, "lab")
    assert list(left.iterdir()) == []
    assert staged.here(bridge).own_cache("lab").is_dir()


def test_a_zip_that_became_a_link_is_not_taken_for_the_next_run(bridge: Bridge) -> None:
    run = staged.add(bridge, "psd-study")
    zipped = staged.here(bridge).run(run).archive
    zipped.rename(zipped.with_name("aside"))
    zipped.symlink_to(zipped.with_name("aside"))
    with pytest.raises(NotFound, match="no longer on the shared storage"):
        intake.repeat(bridge, run)
    assert not os.path.lexists(staged.here(bridge).run(replace(run, number=2)).archive)
    assert intake.sources_of(bridge, run) == {}


SAID = {
    "run-as: refused: the account alice is disabled": Rejected,
    "run-as: failed: [Errno 5] Input/output error": Unreachable,
    "sudo: a password is required": Unreachable,
    "sudo: /usr/lib/nias-bridge/run-as: command not found": Unreachable,
}


@pytest.mark.parametrize("words", SAID)
def test_what_kept_sbatch_from_being_called_is_no_submission(words: str) -> None:
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> Output:
        asked.append(argv)
        return Output(1, "", f"{words}\n")

    sudo = SudoAs(run, Path("/lib/run-as"), PurePosixPath("/shared/runs"))
    script = PurePosixPath("/shared/runs/lab/x/1/job.sbatch")
    with pytest.raises(SchedulerError) as refused:
        CliScheduler(run, sudo).submit(
            script, name="nias-a-x", log=script.with_name("slurm.out"), user="alice"
        )
    assert type(refused.value) is SAID[words]
    told = ["sudo", "--non-interactive", "/lib/run-as", "hand-over", "alice", "lab/x/1"]
    assert asked == [told]


def test_what_the_gateway_asks_of_the_program_is_what_the_program_takes() -> None:
    asked: list[list[str]] = []

    def run(argv: Sequence[str]) -> Output:
        asked.append(list(argv))
        return Output(0, "12\n", "")

    sudo = SudoAs(run, Path("/lib/run-as"), PurePosixPath("/shared/runs"))
    script = PurePosixPath("/shared/runs/lab/Analise-EMG~0a1b2c3d/1/job.sbatch")
    name = "nias-abc234-Analise-EMG~0a1b2c3d"
    for log in ("slurm.out", "tasks-%a.out"):
        sudo.submit("alice", script, name=name, log=script.with_name(log))
    sudo.cancel("alice", 12, name=name)
    sudo.cancel_tasks("alice", 12, [3, 4])
    for argv in asked:
        assert argv[:3] == ["sudo", "--non-interactive", "/lib/run-as"]
        run_as.checked(argv[3:])
    assert {argv[3] for argv in asked} == set(run_as.WORDS)


def test_shared_storage_under_two_paths_is_refused() -> None:
    with pytest.raises(ValidationError, match="shared_root"):
        Settings(
            shared_root="/here",
            shared_root_on_cluster="/there",
            database_url="sqlite://",
            secret_key="for tests only, and long enough for it",
            identity="unix",
        )


def test_through_a_login_node_the_gateway_may_mount_it_elsewhere() -> None:
    seen = Settings(
        shared_root="/here",
        shared_root_on_cluster="/there",
        database_url="sqlite://",
        secret_key="for tests only, and long enough for it",
        identity="unix",
        ssh_host="login.lab",
    )
    chosen = open_scheduler(seen)
    assert isinstance(chosen, CliScheduler) and isinstance(chosen.as_user, SudoAs)
    assert chosen.as_user.runs == PurePosixPath("/there/runs")
    assert isinstance(chosen.as_user.run, SshRunner)
    assert install.plan(seen, "nias", Path("/etc/sudoers.d/x"))["shared"] == "/there"


def test_only_root_installs_the_program(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SettingsError, match="as root"):
        install.install(bridge.settings, "nias", tmp_path / "sudoers")
    assert not (tmp_path / "sudoers").exists()
