"""Programs run on a login node: a real sshd, whose connections are refused, killed and frozen."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest
from loginnode import HOST, LoginNode, make_key
from processes import has_ended
from ways import until

from nias_bridge.errors import SubmissionUnclear, Unreachable
from nias_bridge.ports import Scheduler
from nias_bridge.slurm.answers import Output
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.slurm.ssh import Connection, Login, SshRunner


@pytest.fixture
def node(login_node: LoginNode) -> LoginNode:
    return login_node


@pytest.fixture
def connect(node: LoginNode) -> Iterator[Callable[..., Connection]]:
    made: list[Connection] = []

    def connected(login: Login = node.login, timeout: float = 20) -> Connection:
        made.append(Connection(login, timeout))
        return made[-1]

    yield connected
    for connection in made:
        connection.close()


@pytest.fixture
def run(connect: Callable[..., Connection]) -> SshRunner:
    return SshRunner(connect(), timeout=20)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def fake_slurm(folder: Path, **programs: str) -> Path:
    """A folder with programs of these names, each a line of shell."""
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def programs() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nias-bin-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


# --- what a program gets and gives ---


def test_a_program_gets_its_arguments_whole_and_a_clean_environment(run: SshRunner) -> None:
    odd = ["a b", "'", '"', "$HOME", "`id`", "\x1f\x1e", "é", "", "*", "!x", "a\nb", "\\"]
    assert run(["printf", "%s|", *odd]).stdout == "".join(f"{each}|" for each in odd)
    told = dict(line.split("=", 1) for line in run(["env"]).stdout.splitlines())
    assert set(told) == {"PATH", "LANG", "SLURM_TIME_FORMAT", "SLURM_BITSTR_LEN", "PWD"}


def test_the_longest_list_of_jobs_that_is_asked_for_at_once_gets_there(run: SshRunner) -> None:
    output = run(["printf", "%s", "x" * 100_000])
    assert (output.status, len(output.stdout)) == (0, 100_000)


def test_both_streams_and_the_status_come_back_whole(run: SshRunner) -> None:
    script = "yes out | head -c 3000000; yes err | head -c 300000 >&2; exit 3"
    output = run(["sh", "-c", script])
    assert (output.status, len(output.stdout), len(output.stderr)) == (3, 3_000_000, 300_000)


def test_the_programs_folder_and_slurm_conf_are_those_of_the_login_node(
    connect: Callable[..., Connection], programs: Path
) -> None:
    fake_slurm(programs, squeue='echo "$SLURM_CONF"')  # sbatch is on PATH, or it is not
    conf = programs / "slurm.conf"
    run = SshRunner(connect(), bin=programs, conf=conf, timeout=20)
    with pytest.raises(Unreachable, match=rf"no {conf} on {HOST} .*; set slurm_conf"):
        run(["squeue"])
    conf.touch(0o644)
    assert run(["squeue"]).stdout == f"{conf}\n"
    with pytest.raises(Unreachable, match=rf"no sbatch in {programs} on {HOST}; set slurm_bin"):
        run(["sbatch"])


def test_a_program_that_ends_with_127_by_itself_was_started(
    connect: Callable[..., Connection], programs: Path
) -> None:
    fake_slurm(programs, sbatch="echo 'something: not found' >&2; exit 127")
    run = SshRunner(connect(), bin=programs, timeout=20)
    assert run(["sbatch"]).status == 127


def with_key_options(node: LoginNode, folder: Path, options: str) -> Login:
    """A login whose key has these options in authorized_keys."""
    make_key(folder / "optional")
    line = f"{options} {(folder / 'optional.pub').read_text()}"
    with (node.folder / "authorized_keys").open("a") as keys:
        keys.write(line)
    return replace(node.login, key=folder / "optional")


def test_an_account_that_runs_no_commands_surely_started_none(
    node: LoginNode, connect: Callable[..., Connection], tmp_path: Path
) -> None:
    forced = 'command="echo This account is currently not available.; exit 1"'
    login = with_key_options(node, tmp_path, forced)
    with pytest.raises(Unreachable, match=r"runs no commands .*This account is currently not"):
        submission(SshRunner(connect(login), timeout=20))()


def test_what_the_accounts_own_profile_prints_is_no_part_of_the_answer(
    node: LoginNode, connect: Callable[..., Connection], tmp_path: Path
) -> None:
    noisy = 'command="echo Welcome!; eval \\"$SSH_ORIGINAL_COMMAND\\""'
    run = SshRunner(connect(with_key_options(node, tmp_path, noisy)), timeout=20)
    assert run(["echo", "answer"]) == Output(0, "answer\n", "")


def test_a_look_at_a_thousand_jobs_is_two_commands_there(
    ssh: Scheduler, login_node: LoginNode
) -> None:
    ssh.queue()
    log = login_node.folder / "log"
    before = log.read_text().count("Starting session")
    ssh.queue()
    ssh.accounting(since=datetime.now(UTC), job_ids=range(1, 1001))
    assert log.read_text().count("Starting session") - before == 2


def test_many_threads_share_one_connection(
    run: SshRunner, node: LoginNode, pool: ThreadPoolExecutor
) -> None:
    run(["true"])
    before = node.logins()
    outputs = list(pool.map(lambda number: run(["echo", str(number)]), range(3)))
    assert [output.stdout for output in outputs] == ["0\n", "1\n", "2\n"]
    assert node.logins() == before


def test_more_channels_than_the_login_node_allows_is_told_and_nothing_is_lost(
    run: SshRunner, programs: Path, pool: ThreadPoolExecutor
) -> None:
    script = f"touch {programs}/$0; while test ! -e {programs}/go; do sleep 0.05; done"
    busy = [pool.submit(run, ["sh", "-c", script, f"begun-{number}"]) for number in range(4)]
    until(lambda: len(list(programs.glob("begun-*"))) == 4 or None)
    with pytest.raises(Unreachable, match="MaxSessions"):
        run(["true"])
    (programs / "go").touch()
    assert [call.result().status for call in busy] == [0] * 4
    assert run(["true"]).status == 0


def test_a_call_over_a_kept_connection_takes_milliseconds(run: SshRunner) -> None:
    run(["true"])

    def once() -> float:
        begin = time.monotonic()
        run(["true"])
        return time.monotonic() - begin

    # Nagle's delay is 40 ms in every one.
    assert min(once() for _ in range(40)) < 0.04


# --- who is on the other side, and who we are ---


def refused(connect: Callable[..., Connection], login: Login) -> str:
    with pytest.raises(Unreachable) as told:
        SshRunner(connect(login), timeout=20)(["true"])
    return str(told.value)


def test_a_login_node_whose_key_nobody_vouched_for_is_refused(
    node: LoginNode, connect: Callable[..., Connection], tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    login = replace(node.login, known_hosts=known)
    assert f"{known} can't be read" in refused(connect, login)
    known.write_text(
        "# no keys\nanother.lab ssh-ed25519 rubbish\n@cert-authority *.lab ssh-rsa x\n"
    )
    told = refused(connect, login)
    shown = subprocess.run(
        ["ssh-keygen", "-lf", node.folder / "host.pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert f"{known} has no key of [{HOST}]:{node.port}" in told
    assert shown in told and f"ssh-keyscan -p {node.port} {HOST}" in told


def test_a_login_node_whose_key_has_changed_is_refused_with_what_to_do(
    node: LoginNode, connect: Callable[..., Connection], tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    other = " ".join((node.folder / "stranger.pub").read_text().split()[:2])
    known.write_text(f"[{HOST}]:{node.port} {other}\n")
    told = refused(connect, replace(node.login, known_hosts=known))
    assert f"another key than {known} has" in told and "SHA256:" in told
    assert "Ask its administrator" in told


def test_a_revoked_key_is_refused_even_where_it_is_known_too(
    node: LoginNode, connect: Callable[..., Connection], tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    key = (node.folder / "known_hosts").read_text().split(" ", 1)[1]
    known.write_text((node.folder / "known_hosts").read_text() + f"@revoked * {key}")
    assert "no key" in refused(connect, replace(node.login, known_hosts=known))


def test_a_hashed_name_in_known_hosts_is_found(
    node: LoginNode, connect: Callable[..., Connection], tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    shutil.copy(node.folder / "known_hosts", known)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    assert HOST not in known.read_text()
    run = SshRunner(connect(replace(node.login, known_hosts=known)), timeout=20)
    assert run(["true"]).status == 0


def test_a_key_that_does_not_let_in_is_told_with_its_file(
    node: LoginNode, connect: Callable[..., Connection]
) -> None:
    told = refused(connect, replace(node.login, key=node.folder / "stranger"))
    assert f"does not let {node.user} in with {node.folder}/stranger" in told


def test_a_certificate_lets_in_until_it_has_run_out(
    node: LoginNode, connect: Callable[..., Connection], tmp_path: Path
) -> None:
    key = tmp_path / "certified"
    make_key(key)

    def signed(validity: str) -> Login:
        argv = ["ssh-keygen", "-q", "-s", node.folder / "authority", "-I", "gateway"]
        options = ["-n", node.user, "-V", validity, key.with_suffix(".pub")]
        subprocess.run([*argv, *options], check=True, capture_output=True)
        return replace(node.login, key=key, certificate=tmp_path / "certified-cert.pub")

    assert SshRunner(connect(signed("+5m")), timeout=20)(["true"]).status == 0
    told = refused(connect, signed("-2d:-1d"))
    assert f"{key} with {tmp_path}/certified-cert.pub" in told and "still valid" in told


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda key: key.unlink(), "can't be read"),
        (lambda key: key.write_text("no key"), "is not a key that can be used"),
        (lambda key: (key.unlink(), make_key(key, "secret")), "has a passphrase"),
    ],
    ids=["missing", "no key", "passphrase"],
)
def test_a_key_that_can_not_be_used_is_told(
    node: LoginNode,
    connect: Callable[..., Connection],
    tmp_path: Path,
    spoil: Callable[[Path], object],
    told: str,
) -> None:
    key = tmp_path / "key"
    make_key(key)
    spoil(key)
    said = refused(connect, replace(node.login, key=key))
    assert str(key) in said and told in said


# --- connections that fail ---


def test_where_nobody_listens_slurm_is_unreachable_and_the_next_attempt_waits(
    node: LoginNode, connect: Callable[..., Connection]
) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))  # bound, and not listened on
        login = replace(node.login, port=taken.getsockname()[1])
        scheduler = CliScheduler(SshRunner(connect(login), timeout=20))
        with pytest.raises(Unreachable, match="can't be reached by SSH: Connection refused"):
            scheduler.submit(PurePosixPath("/x"), name="nias-x", log=PurePosixPath("/x"))
        with pytest.raises(Unreachable, match=r"Connection refused.* The next attempt is in 1 s"):
            scheduler.queue()


def test_a_machine_that_takes_the_call_and_says_nothing_is_given_up_in_time(
    node: LoginNode, connect: Callable[..., Connection]
) -> None:
    with socket.create_server((HOST, 0)) as silent:
        login = replace(node.login, port=silent.getsockname()[1])
        begin = time.monotonic()
        with pytest.raises(Unreachable, match=r"no end within 0\.5 s"):
            connect(login, 0.5).channel()
        assert time.monotonic() - begin < 10


def test_a_connection_that_broke_while_idle_is_made_again_unnoticed(
    run: SshRunner, node: LoginNode
) -> None:
    run(["true"])
    node.signal(signal.SIGKILL)
    assert run(["echo", "again"]).stdout == "again\n"


def submission(run: SshRunner) -> Callable[[], int]:
    scheduler = CliScheduler(run)
    return lambda: scheduler.submit(
        PurePosixPath("/x"), name="nias-x", log=PurePosixPath("/dev/null")
    )


def begun(programs: Path, call: Future[int]) -> None:
    until(lambda: (programs / "begun").exists() or call.done() or None)
    assert not call.done()


def test_a_connection_killed_in_mid_sbatch_leaves_it_unclear(
    connect: Callable[..., Connection], node: LoginNode, programs: Path, pool: ThreadPoolExecutor
) -> None:
    fake_slurm(programs, sbatch=f"printf 12; touch {programs}/begun; sleep 15; echo 345")
    call = pool.submit(submission(SshRunner(connect(), bin=programs, timeout=20)))
    begun(programs, call)
    node.signal(signal.SIGKILL)
    with pytest.raises(SubmissionUnclear, match=r"connection to .* was lost"):
        call.result(timeout=20)


def test_a_frozen_login_node_leaves_it_unclear_within_the_deadline_and_is_dialled_anew(
    connect: Callable[..., Connection], node: LoginNode, programs: Path, pool: ThreadPoolExecutor
) -> None:
    fake_slurm(programs, sbatch=f"touch {programs}/begun; sleep 30", squeue="true")
    run = SshRunner(connect(timeout=3), bin=programs, timeout=2)
    begin = time.monotonic()
    call = pool.submit(submission(run))
    begun(programs, call)
    node.signal(signal.SIGSTOP)
    frozen = node.connections()
    try:
        with pytest.raises(SubmissionUnclear, match="no end within 2 s"):
            call.result(timeout=20)
        assert time.monotonic() - begin < 20
        assert run(["squeue"]) == Output(0, "", "")
    finally:
        for pid in frozen:
            subprocess.run(["kill", "-CONT", str(pid)], check=False, stderr=subprocess.DEVNULL)


def test_a_program_past_its_deadline_is_killed_there_with_all_it_started(
    connect: Callable[..., Connection], programs: Path
) -> None:
    fake_slurm(programs, sacct=f"sleep 60 & echo $! > {programs}/child; echo so far; wait")
    connection = connect()
    run = SshRunner(connection, bin=programs, timeout=2)
    kept = connection.channel().get_transport()
    output = run(["sacct"])
    assert (output.status, output.stdout) == (-signal.SIGKILL, "so far\n")
    assert output.stderr.endswith("no end within 2 s")
    child = int((programs / "child").read_text())
    until(lambda: has_ended(child) or None)
    assert connection.channel().get_transport() is kept


def test_an_answer_cut_in_two_is_no_answer(
    connect: Callable[..., Connection], node: LoginNode, programs: Path, pool: ThreadPoolExecutor
) -> None:
    fake_slurm(programs, squeue=f"echo half; touch {programs}/begun; sleep 15")
    scheduler = CliScheduler(SshRunner(connect(), bin=programs, timeout=20))
    call = pool.submit(scheduler.queue)
    begun(programs, call)
    node.signal(signal.SIGKILL)
    with pytest.raises(Unreachable, match="squeue gave no answer: the connection"):
        call.result(timeout=20)
