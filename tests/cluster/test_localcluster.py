"""The one-machine Slurm, started for real in folders of its own."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import processes
import pytest
from accounts import once_unlocked

from nias_bridge import localcluster
from nias_bridge.errors import ClusterError
from nias_bridge.localcluster import LocalCluster, config, machine
from nias_bridge.localcluster.plan import RECORD

pytestmark = pytest.mark.skipif(
    bool(localcluster.missing_packages()) and "CI" not in os.environ,
    reason=f"not installed: {' '.join(localcluster.missing_packages())}",
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")
T = TypeVar("T")
SECONDS = 60.0
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "OUT_OF_MEMORY", "TIMEOUT", "NODE_FAIL"}
EAT_400_MB = "python3 -c 'import time; b = b\"x\" * 400_000_000; time.sleep(8)'"


@pytest.fixture
def new_state() -> Iterator[Callable[[str], Path]]:
    """Makes folders that everybody may enter; the clusters in them are taken down."""
    top = Path(tempfile.mkdtemp(prefix="lc-"))
    top.chmod(0o755)
    made: list[Path] = []

    def make(name: str) -> Path:
        made.append(top / name)
        return top / name

    yield make
    for state in made:
        localcluster.down(state)
    shutil.rmtree(top)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    top = Path(tempfile.mkdtemp(prefix="lc-"))
    top.chmod(0o755)
    begin = time.monotonic()
    # A path that is too long for sockets.
    found = localcluster.up(top / ("a-long-name-" * 8) / "state")
    assert time.monotonic() - begin < 60
    yield found
    localcluster.down(found.state)
    shutil.rmtree(top)


def slurm(cluster: LocalCluster, *argv: str, script: str = "", prefix: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [*prefix, *argv],
        input=script,
        text=True,
        capture_output=True,
        check=False,
        cwd="/tmp",
        env=os.environ | {"SLURM_CONF": str(cluster.slurm_conf)},
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def submit(cluster: LocalCluster, body: str, *options: str, prefix: tuple[str, ...] = ()) -> str:
    script = f"#!/bin/bash\n{body}\n"
    asked = ("sbatch", "--parsable", "--exclusive", "--output=/dev/null", *options)
    return slurm(cluster, *asked, script=script, prefix=prefix)


def record(cluster: LocalCluster, job: str, *fields: str) -> list[str]:
    asked = ("sacct", "-nPX", "-j", job, f"--format={','.join(fields)}")
    return slurm(cluster, *asked).split("|")


def until(found: Callable[[], T], seconds: float = SECONDS) -> T:
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return value


def end_state(cluster: LocalCluster, job: str) -> str:
    def ended() -> str:
        state = record(cluster, job, "State")[0].split(" ")[0]
        return state if state in ENDED else ""

    return until(ended)


def is_running(cluster: LocalCluster, job: str) -> bool:
    return slurm(cluster, "squeue", "-h", "-j", job, "-o", "%T") == "RUNNING"


def pids(state: Path) -> dict[str, int | None]:
    return {part.name: part.pid for part in localcluster.status(state)}


def test_everything_answers_and_a_second_up_changes_nothing(cluster: LocalCluster) -> None:
    before = localcluster.status(cluster.state)
    assert [part.problem for part in before] == [""] * 6
    assert localcluster.up(cluster.state) == cluster
    assert localcluster.status(cluster.state) == before


def test_a_job_runs_and_is_accounted_for(cluster: LocalCluster) -> None:
    job = submit(cluster, "exit 3")
    assert end_state(cluster, job) == "FAILED"
    assert record(cluster, job, "ExitCode") == ["3:0"]


@as_root
def test_a_job_runs_as_who_submitted_it(cluster: LocalCluster, tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    prefix = ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")
    job = submit(cluster, '[ "$(id -un)" = nobody ]', prefix=prefix)
    assert end_state(cluster, job) == "COMPLETED"
    # The record of a quick job is made from its end first; who it was comes some seconds later.
    until(lambda: record(cluster, job, "User") == ["nobody"])


def test_a_freed_slot_takes_the_next_job_at_once(cluster: LocalCluster, tmp_path: Path) -> None:
    body = f"date +%s.%N >{tmp_path}/$SLURM_JOB_ID; sleep 1; date +%s.%N >>{tmp_path}/$SLURM_JOB_ID"
    jobs = [submit(cluster, body) for _ in range(4)]
    assert {end_state(cluster, job) for job in jobs} == {"COMPLETED"}
    times = sorted(tuple(map(float, (tmp_path / job).read_text().split())) for job in jobs)
    ends = sorted(end for _, end in times)
    assert max(times[2][0] - ends[0], times[3][0] - ends[1]) < 0.6


def test_each_slot_has_its_own_cores(cluster: LocalCluster, tmp_path: Path) -> None:
    if len(machine.cores()) < 2:
        pytest.skip("there is only one core")
    body = f"taskset -cp $$ | sed 's/.*: //' >{tmp_path}/$SLURM_JOB_ID; sleep 0.5"
    jobs = [submit(cluster, body) for _ in cluster.nodes]
    assert {end_state(cluster, job) for job in jobs} == {"COMPLETED"}
    seen = [(tmp_path / job).read_text().strip() for job in jobs]
    assert len(set(seen)) == len(cluster.nodes)


def test_a_job_that_eats_more_than_its_memory_ends_out_of_memory(cluster: LocalCluster) -> None:
    job = submit(cluster, EAT_400_MB, "--mem=150M")
    assert end_state(cluster, job) == "OUT_OF_MEMORY"


def test_the_peak_memory_of_a_short_job_is_in_the_record(cluster: LocalCluster) -> None:
    job = submit(cluster, EAT_400_MB.replace("sleep(8)", "sleep(2.5)"))
    assert end_state(cluster, job) == "COMPLETED"
    used = slurm(cluster, "sacct", "-nP", "-j", f"{job}.batch", "--format=MaxRSS")
    assert 380_000 < int(used.removesuffix("K")) < 500_000


def test_an_srun_inside_a_job_works(cluster: LocalCluster) -> None:
    assert end_state(cluster, submit(cluster, "srun true")) == "COMPLETED"


def test_nothing_listens_beyond_loopback(cluster: LocalCluster) -> None:
    inodes = set()
    for pid in pids(cluster.state).values():
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if (target := str(entry.readlink())).startswith("socket:["):
                inodes.add(target[8:-1])
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[9] in inodes
    ]
    assert len(listening) == 4
    assert {address.split(":")[0] for address in listening} == {"0100007F"}


@as_root
def test_an_account_that_may_not_enter_is_told_so(cluster: LocalCluster) -> None:
    with pytest.raises(ClusterError, match="useradd"):
        localcluster.up(cluster.state, user="no-such-user")
    top = cluster.state.parents[1]
    top.chmod(0o700)
    try:
        with pytest.raises(ClusterError, match="closed to others"):
            localcluster.up(cluster.state, user="nobody")
    finally:
        top.chmod(0o755)
    localcluster.up(cluster.state, user="nobody")


def test_a_frozen_daemon_is_recognised_and_started_again(cluster: LocalCluster) -> None:
    before = pids(cluster.state)
    frozen = {"slurmctld", f"slurmd {cluster.nodes[0]}"}
    processes.send(signal.SIGSTOP, [pid for name, pid in before.items() if name in frozen and pid])
    told = {part.name: part.problem for part in localcluster.status(cluster.state)}
    assert told["slurmctld"] == "it is frozen"
    localcluster.up(cluster.state)
    after = pids(cluster.state)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == frozen
    assert end_state(cluster, submit(cluster, "true")) == "COMPLETED"


def test_all_daemons_killed_come_back_with_their_jobs(cluster: LocalCluster) -> None:
    done = submit(cluster, "true")
    assert end_state(cluster, done) == "COMPLETED"
    held = submit(cluster, "true", "--hold")
    until(lambda: record(cluster, held, "State") == ["PENDING"])
    processes.send(signal.SIGKILL, [pid for pid in pids(cluster.state).values() if pid])
    assert [part.pid for part in localcluster.status(cluster.state)] == [None] * 6
    assert localcluster.up(cluster.state) == cluster
    assert record(cluster, done, "State") == ["COMPLETED"]
    assert end_state(cluster, submit(cluster, "true")) == "COMPLETED"


def test_down_and_up_keep_jobs_and_accounting(new_state: Callable[[str], Path]) -> None:
    cluster = localcluster.up(new_state("one"), slots=1)
    done = submit(cluster, "true")
    assert end_state(cluster, done) == "COMPLETED"
    running = submit(cluster, "sleep 100")
    waiting = submit(cluster, "true")
    until(lambda: is_running(cluster, running))

    localcluster.down(cluster.state)
    assert [part.pid for part in localcluster.status(cluster.state)] == [None] * 5
    assert not list(Path("/sys/fs/cgroup").glob(f"*/slurm_{cluster.nodes[0]}"))

    again = localcluster.up(cluster.state, slots=1)
    assert again == cluster
    assert record(cluster, done, "State") == ["COMPLETED"]
    assert end_state(cluster, running) == "CANCELLED"
    assert end_state(cluster, waiting) == "COMPLETED"


def test_two_clusters_live_side_by_side(
    cluster: LocalCluster, new_state: Callable[[str], Path]
) -> None:
    other = localcluster.up(new_state("other"), slots=1)
    job = submit(cluster, "sleep 2")
    until(lambda: is_running(cluster, job))
    theirs = submit(other, "true")
    assert end_state(other, theirs) == "COMPLETED"
    localcluster.down(other.state)
    assert end_state(cluster, job) == "COMPLETED"
    assert all(part.answering for part in localcluster.status(cluster.state))
    # After a reboot a pid file may name anybody.
    (other.state / "pid/slurmctld.pid").write_text(str(pids(cluster.state)["slurmctld"]))
    localcluster.down(other.state)
    assert all(part.answering for part in localcluster.status(cluster.state))

    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", other.slurmctld_port))
        squatter.listen()
        moved = localcluster.up(other.state, slots=1)
    assert moved.slurmctld_port != other.slurmctld_port
    assert moved.slurmdbd_port == other.slurmdbd_port
    assert end_state(moved, submit(moved, "true")) == "COMPLETED"
    assert end_state(moved, theirs) == "COMPLETED"


def test_a_daemon_that_does_not_come_up_is_told_with_its_last_words(
    new_state: Callable[[str], Path],
) -> None:
    state = new_state("broken")
    (state / "data").mkdir(parents=True)
    (state / "data/munge.key").write_text("short")
    with pytest.raises(ClusterError, match=r"(?s)munged did not come up.*munged\.log.*key"):
        localcluster.up(state)
    assert all(part.pid is None for part in localcluster.status(state))


@pytest.mark.skipif(not machine.cgroups_work(), reason="no cgroups can be made here")
def test_memory_is_kept_without_cgroups_when_slurmd_cannot_use_them(
    new_state: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "CGROUP_CONF", "CgroupMountpoint=/nowhere\n")
    cluster = localcluster.up(new_state("no-cgroups"), slots=1)
    assert cluster.limits == "polling"
    assert end_state(cluster, submit(cluster, "true")) == "COMPLETED"
    assert localcluster.up(cluster.state, slots=1) == cluster


def test_a_path_that_slurm_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="choose a state folder"):
        localcluster.up(tmp_path / "with a blank")


@as_root
def test_an_ordinary_user_runs_everything_as_himself(new_state: Callable[[str], Path]) -> None:
    name = f"lc{os.getpid()}"
    once_unlocked(["useradd", "--no-create-home", name])
    account = pwd.getpwnam(name)
    state = new_state("users")
    os.chown(state.parent, account.pw_uid, account.pw_gid)
    prefix = ("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
    program = (
        "import sys, pathlib; from nias_bridge import localcluster as lc;"
        "getattr(lc, sys.argv[1])(pathlib.Path(sys.argv[2]))"
    )

    def call(what: str) -> None:
        argv = [*prefix, sys.executable, "-c", program, what, str(state)]
        done = subprocess.run(argv, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    try:
        begin = time.monotonic()
        call("up")
        assert time.monotonic() - begin < 60
        told = json.loads((state / RECORD).read_text())
        assert not told["cgroups"]
        cluster = LocalCluster(
            state, state / "etc/slurm.conf", (), 0, "polling", 0, 0, told["version"]
        )
        for pid in pids(state).values():
            assert Path(f"/proc/{pid}").stat().st_uid == account.pw_uid
        fine = submit(cluster, '[ "$(id -u)" = ' + str(account.pw_uid) + " ]", prefix=prefix)
        greedy = submit(cluster, EAT_400_MB, "--mem=150M", prefix=prefix)
        assert end_state(cluster, fine) == "COMPLETED"
        # Without cgroups Slurm kills it all the same, and calls that FAILED by signal 9.
        assert end_state(cluster, greedy) == "FAILED"
        assert record(cluster, greedy, "ExitCode") == ["0:9"]
        call("up")
        call("down")
        assert all(part.pid is None for part in localcluster.status(state))
    finally:
        call("down")
        once_unlocked(["userdel", name])
