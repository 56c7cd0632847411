"""What sudo lets the gateway do: the program holds to its rules whatever it is told."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from accounts import a_place_for_it, account, do, run_as_installed
from processes import has_ended

from nias_bridge.identity import install, place
from nias_bridge.settings import Settings

RUN, JOB = "lab/psd-study/1", "nias-abc234-psd-study"


@pytest.fixture(scope="module")
def settings(nias: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Shared storage of the gateway's, and an sbatch that says how it was called."""
    top = Path(tempfile.mkdtemp(prefix="nias-run-as-"))
    top.chmod(0o755)
    (top / "bin").mkdir()
    for name in ("sbatch", "scancel"):
        fake = top / "bin" / name
        fake.write_text('#!/bin/sh\nid -un; id -Gn; env; printf "<%s>" "$0" "$@"\n')
        fake.chmod(0o755)
    yield Settings(
        shared_root=top / "shared",
        database_url="sqlite://",
        secret_key="for tests only, and long enough for it",
        slurm_bin=top / "bin",
        run_as=a_place_for_it(),
    )
    shutil.rmtree(top)


@pytest.fixture(scope="module")
def program(settings: Settings, nias: str) -> Iterator[Path]:
    with run_as_installed(settings, nias) as installed:
        yield installed


@pytest.fixture(scope="module")
def alice() -> Iterator[str]:
    with account("alice") as name:
        yield name


@pytest.fixture
def shared(settings: Settings, nias: str) -> Path:
    """Shared storage with one staged run, anew for each test."""
    root = settings.shared_root
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("envs/private/lab", "cache/private/lab", f"runs/{RUN}"):
        (root / folder).mkdir(parents=True)
    for name in ("project.zip", "job.sbatch"):
        (root / "runs" / RUN / name).write_text("of the run")
    subprocess.run(["chown", "--recursive", f"{nias}:{nias}", root], check=True)
    root.chmod(0o711)
    (root / "runs").chmod(0o711)
    return root


@pytest.fixture
def sudo(program: Path, nias: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The gateway calls the program, by sudo."""
    return lambda *words: do(nias, ["sudo", "--non-interactive", program, *words])


def direct(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """As if sudo's own rule had let it through: the program alone must refuse."""
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


Sudo = Callable[..., subprocess.CompletedProcess[str]]


def test_visudo_finds_nothing_wrong_with_the_rule_that_is_shipped() -> None:
    rule = install.rule(Path("/usr/lib/nias-bridge/run-as"), "nias")
    checked = subprocess.run(
        ["/usr/sbin/visudo", "-c", "-s", "-f", "-"],
        input=rule,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_a_rule_that_visudo_refuses_is_not_put_in_place() -> None:
    with pytest.raises(place.Unable, match="visudo refuses"):
        place.checked("nias ALL=(root NOPASSWD: ALL\n")


def test_a_run_that_is_handed_over_is_its_owners_and_the_gateways_and_nobody_elses(
    sudo: Sudo, shared: Path, alice: str, nias: str
) -> None:
    done = sudo("hand-over", alice, RUN)
    assert (done.returncode, done.stderr) == (0, "")
    folder, uid = shared / "runs" / RUN, pwd.getpwnam(alice).pw_uid
    given = [folder, *folder.iterdir(), shared / "envs/private/lab", shared / "cache/private/lab"]
    assert {path.stat().st_uid for path in given} == {uid}
    told = do(nias, ["getfacl", "-cp", folder]).stdout
    assert set(told.split()) == {
        *("user::rwx", f"user:{nias}:rwx", "group::---", "mask::rwx", "other::---"),
        *("default:user::rwx", f"default:user:{nias}:rwx", "default:group::---"),
        *("default:mask::rwx", "default:other::---"),
    }
    assert do(nias, ["cat", folder / "job.sbatch"]).stdout == "of the run"
    assert do(alice, ["cat", folder / "job.sbatch"]).stdout == "of the run"
    with account("bob") as bob:
        for path in given:
            assert "Permission denied" in do(bob, ["ls", path]).stderr
        assert "Permission denied" in do(bob, ["stat", folder]).stderr
    # What she writes there the gateway can read, and take away, whatever her umask.
    do(alice, ["sh", "-c", "umask 077; mkdir deep; echo 42 > deep/answer"], cwd=folder)
    assert do(nias, ["cat", folder / "deep/answer"]).stdout == "42\n"
    assert do(nias, ["rm", "-r", folder / "deep"]).returncode == 0


def test_handing_over_twice_is_handing_over_once(sudo: Sudo, shared: Path, alice: str) -> None:
    for _ in range(2):
        assert sudo("hand-over", alice, RUN).returncode == 0


def test_sbatch_is_called_as_the_account_with_nothing_of_the_gateways(
    sudo: Sudo, shared: Path, alice: str, settings: Settings
) -> None:
    said = sudo("submit", alice, RUN, JOB, "slurm.out").stdout
    who, groups, *variables, argv = said.splitlines()
    assert (who, groups) == (alice, alice)
    folder = shared / "runs" / RUN
    assert argv == "".join(
        f"<{word}>"
        for word in (
            *(f"{settings.slurm_bin}/sbatch", "--parsable", f"--job-name={JOB}"),
            *(f"--output={folder}/slurm.out", "--open-mode=append", f"--chdir={folder}"),
            f"{folder}/job.sbatch",
        )
    )
    names = {line.partition("=")[0] for line in variables}
    assert names <= {"PATH", "LANG", "USER", "LOGNAME", "HOME", "PWD", "SHLVL", "_", "OLDPWD"}


def test_scancel_is_called_as_the_account(sudo: Sudo, alice: str) -> None:
    said = sudo("cancel", alice, JOB, "12").stdout.splitlines()
    assert (said[0], said[-1].partition("scancel>")[2]) == (alice, f"<--name={JOB}><12>")
    said = sudo("cancel-tasks", alice, "12", "3,4").stdout.splitlines()
    assert (said[0], said[-1].partition("scancel>")[2]) == (alice, "<12_3><12_4>")


FORGED = {
    "nothing at all": [],
    "another command": ["run", "ALICE", RUN],
    "an option for a command": ["--help", "ALICE", RUN],
    "a folder above": ["hand-over", "ALICE", "lab/../1"],
    "an absolute path": ["hand-over", "ALICE", "/etc/ssh/1"],
    "a path with more parts": ["hand-over", "ALICE", f"{RUN}/claims"],
    "a path with fewer parts": ["hand-over", "ALICE", "lab/psd-study"],
    "a hidden folder": ["hand-over", "ALICE", "lab/.ssh/1"],
    "a line end behind the path": ["hand-over", "ALICE", f"{RUN}\n"],
    "one argument more": ["hand-over", "ALICE", RUN, "x"],
    "an option in the place of the account": ["hand-over", "--help", RUN],
    "a number in the place of the account": ["hand-over", "0", RUN],
    "two accounts": ["hand-over", "ALICE root", RUN],
    "a name that is no job's of ours": ["submit", "ALICE", RUN, "backup", "slurm.out"],
    "an option in the name": ["submit", "ALICE", RUN, "--wrap=id", "slurm.out"],
    "an option behind the name": ["submit", "ALICE", RUN, f"{JOB} --uid=0", "slurm.out"],
    "a command in the name": ["submit", "ALICE", RUN, "nias-abc234-$(id)", "slurm.out"],
    "a log elsewhere": ["submit", "ALICE", RUN, JOB, "/etc/cron.d/x"],
    "a log above": ["submit", "ALICE", RUN, JOB, "../slurm.out"],
    "a further option": ["submit", "ALICE", RUN, JOB, "slurm.out", "--uid=root"],
    "all jobs": ["cancel", "ALICE", JOB, "--user=root"],
    "a negative job": ["cancel", "ALICE", JOB, "-1"],
    "several jobs": ["cancel", "ALICE", JOB, "12 13"],
    "tasks that are none": ["cancel-tasks", "ALICE", "12", "1,--me"],
}


def as_it_is(path: Path) -> tuple[int, ...]:
    """What a program that did nothing leaves as it was: not the time when it was looked at."""
    status = path.stat()
    return status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_ctime_ns


@pytest.mark.parametrize("words", FORGED.values(), ids=FORGED)
def test_forged_arguments_are_refused_by_sudo_and_by_the_program(
    words: list[str], sudo: Sudo, program: Path, alice: str, shared: Path
) -> None:
    words = [word.replace("ALICE", alice) for word in words]
    before = as_it_is(shared / "runs" / RUN)
    assert "a password is required" in sudo(*words).stderr
    alone = direct(program, *words)
    assert alone.returncode == 1
    assert alone.stderr.startswith("run-as: refused: ")
    assert as_it_is(shared / "runs" / RUN) == before


ACCOUNTS: dict[str, tuple[tuple[str, ...], str]] = {
    "no uid of a person": (("--system",), "the system's account"),
    "in the group sudo": (("--groups", "sudo"), "privileged group (sudo)"),
    "whose first group is disk": (("--gid", "disk"), "privileged group (disk)"),
    "in the gateway's group": (("--groups", "nias"), "privileged group (nias)"),
    "without a shell": (("--shell", "/usr/sbin/nologin"), "is disabled"),
    "that has expired": (("--expiredate", "2020-01-01"), "is disabled"),
    "whose password is locked": (("--password", "!$6$abc$def"), "is disabled"),
}


@pytest.mark.parametrize("command", ["hand-over", "submit", "cancel", "cancel-tasks"])
@pytest.mark.parametrize("who", ["root", "daemon", "nobody", "nias", "nt-nobody-has-this"])
def test_no_job_runs_as_an_account_that_is_no_persons(
    who: str, command: str, sudo: Sudo, shared: Path
) -> None:
    more = {
        "hand-over": [RUN],
        "submit": [RUN, JOB, "slurm.out"],
        "cancel": [JOB, "12"],
        "cancel-tasks": ["12", "1"],
    }
    done = sudo(command, who, *more[command])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("run-as: refused: ")


@pytest.mark.parametrize(("options", "why"), ACCOUNTS.values(), ids=ACCOUNTS)
def test_no_job_runs_as_an_account(
    options: tuple[str, ...], why: str, sudo: Sudo, shared: Path
) -> None:
    with account("x", *options) as name:
        done = sudo("submit", name, RUN, JOB, "slurm.out")
        assert (done.returncode, done.stdout) == (1, "")
        assert why in done.stderr


def test_where_a_group_is_named_only_its_members_are_let(
    sudo: Sudo, program: Path, settings: Settings, shared: Path, alice: str, nias: str
) -> None:
    config = program.with_name("run-as.json")
    kept = config.read_text()
    config.write_text(json.dumps({**json.loads(kept), "only_group": "video"}))
    try:
        assert "is not in the group video" in sudo("hand-over", alice, RUN).stderr
        with account("carol", "--groups", "video") as carol:
            assert sudo("hand-over", carol, RUN).returncode == 0
        install.install(settings, nias, sudoers=shared / "sudoers")
        assert json.loads(config.read_text())["only_group"] == "video"
    finally:
        config.write_text(kept)


def _link_to_etc(shared: Path, part: str) -> None:
    place = shared / "runs" / part
    place.rename(shared / "aside")
    place.symlink_to("/etc")


TRICKS: dict[str, Callable[[Path], object]] = {
    "the run's folder is a link": lambda shared: _link_to_etc(shared, RUN),
    "the project's folder is a link": lambda shared: _link_to_etc(shared, "lab/psd-study"),
    "the owner's folder is a link": lambda shared: _link_to_etc(shared, "lab"),
    "the run's folder is root's": lambda shared: os.chown(shared / "runs" / RUN, 0, 0),
    "the owner's folder is root's": lambda shared: os.chown(shared / "runs/lab", 0, 0),
    "a file in it is root's": lambda shared: (shared / "runs" / RUN / "x").write_text(""),
    "a file in it is a link": lambda shared: (shared / "runs" / RUN / "x").symlink_to(
        "/etc/shadow"
    ),
    "a file in it is a pipe": lambda shared: os.mkfifo(shared / "runs" / RUN / "x"),
    "there is a folder in it": lambda shared: (shared / "runs" / RUN / "x").mkdir(),
    "there is no such run": lambda shared: shutil.rmtree(shared / "runs" / RUN),
    "the place for environments is a link": lambda shared: (
        shutil.rmtree(shared / "envs/private/lab"),
        (shared / "envs/private/lab").symlink_to("/etc"),
    ),
}


@pytest.mark.parametrize("play", TRICKS.values(), ids=TRICKS)
def test_nothing_but_the_gateways_own_plain_files_is_handed_over(
    play: Callable[[Path], object], sudo: Sudo, shared: Path, alice: str
) -> None:
    play(shared)
    before = {path: as_it_is(Path(path)) for path in ("/etc", "/etc/shadow")}
    done = sudo("hand-over", alice, RUN)
    assert done.returncode == 1
    assert done.stderr.startswith("run-as: ")
    for path, status in before.items():
        assert as_it_is(Path(path)) == status
    uid = pwd.getpwnam(alice).pw_uid
    folder = shared / "runs" / RUN
    assert not folder.exists() or folder.stat().st_uid != uid


def test_another_accounts_run_is_not_handed_over(sudo: Sudo, shared: Path, alice: str) -> None:
    assert sudo("hand-over", alice, RUN).returncode == 0
    with account("bob") as bob:
        assert "belongs to neither" in sudo("hand-over", bob, RUN).stderr


def test_settings_that_root_alone_did_not_write_are_not_believed(
    program: Path, shared: Path, alice: str, nias: str
) -> None:
    with ExitStack() as undo:
        for path, mode in ((program.with_name("run-as.json"), 0o646), (program.parent, 0o757)):
            kept = path.stat().st_mode & 0o777
            undo.callback(path.chmod, kept)
            path.chmod(mode)
            assert "nobody else's to write" in direct(program, "hand-over", alice, RUN).stderr
            path.chmod(kept)


def test_what_the_caller_has_in_its_environment_changes_nothing(
    program: Path, shared: Path, alice: str, nias: str, tmp_path: Path
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the caller runs code as root')")
    told = {"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": "/dev/null", "SBATCH_WRAP": "id"}
    by_sudo = do(
        nias,
        ["sudo", "--non-interactive", program, "submit", alice, RUN, JOB, "slurm.out"],
        env={**told, "PATH": "/usr/bin:/bin", "SLURM_CONF": "/tmp/other.conf"},
    )
    assert by_sudo.returncode == 0
    assert "SBATCH_WRAP" not in by_sudo.stdout
    assert "/tmp/other.conf" not in by_sudo.stdout
    alone = subprocess.run(
        [program, "submit", alice, RUN, JOB, "slurm.out"],
        env=told,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (alone.returncode, alone.stdout.splitlines()[0]) == (0, alice)
    assert "SBATCH_WRAP" not in alone.stdout


def test_an_sbatch_that_hangs_is_ended_though_its_caller_could_not_end_it(
    program: Path, settings: Settings, shared: Path, alice: str, nias: str
) -> None:
    text, sbatch = program.read_text(), settings.slurm_bin / "sbatch"
    kept = sbatch.read_text()
    program.write_text(text.replace("ANSWER_SECONDS = 25", "ANSWER_SECONDS = 2"))
    sbatch.write_text(f"#!/bin/sh\necho $$ > {shared}/runs/{RUN}/pid\nexec sleep 60\n")
    code = (
        "import sys\n"
        "from nias_bridge.slurm.local import LocalRunner\n"
        "print(LocalRunner(timeout=1)(sys.argv[1:]).status)\n"
    )
    argv = ["sudo", "--non-interactive", program, "submit", alice, RUN, JOB, "slurm.out"]
    try:
        assert do(nias, [*argv[:3], "hand-over", alice, RUN]).returncode == 0
        begin = time.monotonic()
        done = do(nias, [sys.executable, "-c", code, *argv])
        assert (done.stdout.strip(), done.stderr) == (str(-signal.SIGKILL), "")
        assert time.monotonic() - begin < 20
        assert has_ended(int((shared / "runs" / RUN / "pid").read_text()))
    finally:
        program.write_text(text)
        sbatch.write_text(kept)


def test_sudo_lets_the_gateway_call_nothing_else(nias: str, program: Path) -> None:
    for argv in (["id"], ["/usr/bin/python3", str(program)], ["-u", "daemon", str(program)]):
        assert "password is required" in do(nias, ["sudo", "--non-interactive", *argv]).stderr


def test_another_account_may_not_call_it(program: Path, alice: str) -> None:
    done = do(alice, ["sudo", "--non-interactive", program, "cancel", alice, JOB, "12"])
    assert "password is required" in done.stderr
    # Without sudo it is a program that may do no more than who calls it.
    assert do(alice, [program, "cancel", alice, JOB, "12"]).returncode == 1
