"""A real Slurm on this one machine, in one folder: the order in which it starts and stops."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from nias_bridge.errors import ClusterError
from nias_bridge.localcluster import config, daemons, machine, plan
from nias_bridge.localcluster.config import Plan
from nias_bridge.localcluster.daemons import Daemon, DaemonStatus
from nias_bridge.localcluster.machine import missing_packages
from nias_bridge.localcluster.parts import DATABASE_OPTIONS, parts, slurm_environment

__all__ = ["DaemonStatus", "LocalCluster", "down", "missing_packages", "status", "up"]

SERVICE_USER = "nias"
# Running jobs are given this long to end when the cluster goes down.
JOBS_SECONDS = 15.0
# … and a daemon that runs but does not serve, before it is started anew.
GRACE_SECONDS = 5.0
LOCK_SECONDS = 120.0


@dataclass(frozen=True)
class LocalCluster:
    """A cluster that is up. Give `slurm_conf` as SLURM_CONF to sbatch, sacct and the others.

    memory: MiB of each node; limits: "cgroups" or "polling", what holds a job to its memory.
    """

    state: Path
    slurm_conf: Path
    nodes: tuple[str, ...]
    memory: int
    limits: str
    slurmctld_port: int
    slurmdbd_port: int
    version: tuple[int, ...]


def up(state: Path, *, slots: int = 2, user: str | None = None) -> LocalCluster:
    """Start the cluster in `state`, or what is missing of it; returns when jobs can run.

    user: as root, the account that must be able to use it (`nias`, where there is one).
    Raises ClusterError; what came up until then is left running, for `down` or the next `up`.
    """
    state = state.resolve()
    _check(state, slots)
    with _alone(state):
        planned = plan.make(state, slots, plan.recorded(state))
        _start_servers(planned)
        try:
            _start_nodes(planned)
        except ClusterError:
            if not planned.cgroups:
                raise
            # They can be made here, yet slurmd can't use them: keep memory by looking at it.
            planned = replace(planned, cgroups=False)
            _start_servers(planned)
            _start_nodes(planned)
    if os.geteuid() == 0:
        _check_usable_by(user, planned)
    return LocalCluster(
        state=state,
        slurm_conf=planned.slurm_conf,
        nodes=tuple(node.name for node in planned.nodes),
        memory=min(node.memory for node in planned.nodes),
        limits="cgroups" if planned.cgroups else "polling",
        slurmctld_port=planned.ctld_port,
        slurmdbd_port=planned.dbd_port,
        version=planned.version,
    )


def down(state: Path) -> None:
    """Stop what `up` started, and nothing else. Jobs that run are cancelled; all data is kept.

    Raises ClusterError when another process is starting or stopping the same cluster for long.
    """
    state = state.resolve()
    if not (state / plan.RECORD).is_file():
        return
    with _alone(state):
        planned = plan.recorded(state)
        if planned:
            _cancel_running(planned)
            _stop(planned)
            plan.forget_sockets(planned)


def status(state: Path) -> list[DaemonStatus]:
    """Each daemon of the cluster in the order of its start; none where there never was one.

    Ask as the user who started it: others can't tell whose a process is.
    """
    planned = plan.recorded(state.resolve())
    return [daemons.status_of(part) for part in parts(planned)] if planned else []


def _start_servers(planned: Plan) -> None:
    """Bring up all but the slurmds, in order; all stop first where the configuration changed."""
    all_parts = parts(planned)
    for folder, mode in (("etc", 0o755), ("log", 0o755), ("pid", 0o755), ("data", 0o700)):
        (planned.state / folder).mkdir(exist_ok=True, mode=mode)
    for node in planned.nodes:
        (planned.spool / node.name).mkdir(parents=True, exist_ok=True)
    if _write_files(planned):
        for part in reversed(all_parts):
            daemons.stop(part)
    plan.record(planned)
    _make_munge_key(planned)
    _make_database(planned)
    for part in all_parts[: -len(planned.nodes)]:
        _ensure(part)
        daemons.wait_for(part)


def _start_nodes(planned: Plan) -> None:
    """Bring up the slurmds, and take back their nodes."""
    slurmds = parts(planned)[-len(planned.nodes) :]
    for part in slurmds:
        _ensure(part)
    _resume_nodes(planned)
    for part in slurmds:
        daemons.wait_for(part)


def _ensure(part: Daemon) -> None:
    """Start it if it does not run, or runs and does not serve within a few seconds."""
    if daemons.pid_of(part):
        if not daemons.is_frozen(part):
            with suppress(ClusterError):
                daemons.wait_for(part, GRACE_SECONDS)
                return
        daemons.stop(part)
    daemons.launch(part)


def _stop(planned: Plan) -> None:
    """Stop the daemons, last first, and what jobs they leave."""
    database_and_munge, slurm = parts(planned)[:3], parts(planned)[3:]
    for part in reversed(slurm):
        daemons.stop(part)
    daemons.end_jobs(planned.state)
    for node in planned.nodes:
        machine.remove_cgroups(node.name)
    for part in reversed(database_and_munge):
        daemons.stop(part)


def _cancel_running(planned: Plan) -> None:
    """Let running jobs end as CANCELLED, their accounting complete; the waiting ones wait on."""
    environment = slurm_environment(planned)

    def running() -> bool:
        asked = ("squeue", "--noheader", "--states=RUNNING,COMPLETING,SUSPENDED,CONFIGURING")
        done = daemons.run((*asked, "--format=%i"), environment, 5)
        return done.returncode == 0 and bool(done.stdout.strip())

    slurmctld = parts(planned)[3]
    if daemons.pid_of(slurmctld) and running():
        # So that none starts in the place of one that ends; the next start opens it again.
        close = ("scontrol", "update", "PartitionName=main", "State=DOWN")
        daemons.run(close, environment)
        daemons.run(("scancel", "--state=RUNNING"), environment)
        daemons.run(("scancel", "--state=SUSPENDED"), environment)
        deadline = time.monotonic() + JOBS_SECONDS
        while running() and time.monotonic() < deadline:
            time.sleep(0.1)


def _resume_nodes(planned: Plan) -> None:
    """Take back nodes that Slurm put aside, after a job that could not be killed, say."""
    environment = slurm_environment(planned)
    names = ",".join(node.name for node in planned.nodes)
    asked = ("sinfo", "--noheader", "--Node", f"--nodes={names}", "--format=%N %T")
    for line in daemons.run(asked, environment, 5).stdout.splitlines():
        name, _, state = line.partition(" ")
        if state.startswith(("drain", "down")):
            daemons.run(("scontrol", "update", f"NodeName={name}", "State=RESUME"), environment)


def _write_files(planned: Plan) -> bool:
    """Write the configuration; True when it differs from the one that was there."""
    changed = False
    for name, (text, mode) in config.files(planned).items():
        path = planned.etc / name
        if not path.is_file() or path.read_text() != text:
            changed = True
            fresh = path.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            fresh.touch(mode)
            fresh.write_text(text)
            fresh.replace(path)
    return changed


def _make_munge_key(planned: Plan) -> None:
    key = planned.data / "munge.key"
    if not key.is_file():
        fresh = key.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fresh.touch(0o600)
        fresh.write_bytes(secrets.token_bytes(128))
        fresh.chmod(0o400)
        fresh.replace(key)


def _make_database(planned: Plan) -> None:
    """Make the database's folder; root and we are known to it by the socket, without a password."""
    folder, fresh = planned.data / "mariadb", planned.data / "mariadb.new"
    if folder.is_dir():
        return
    shutil.rmtree(fresh, ignore_errors=True)
    done = daemons.run(
        (
            "mariadb-install-db",
            "--no-defaults",
            f"--user={planned.user}",
            f"--datadir={fresh}",
            "--auth-root-authentication-method=socket",
            f"--auth-root-socket-user={planned.user}",
            "--skip-test-db",
            "--skip-name-resolve",
            *DATABASE_OPTIONS,
        ),
        daemons.clean_environment(planned.state),
        60,
    )
    if done.returncode:
        words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise ClusterError(f"The accounting database could not be made:\n{words}")
    fresh.rename(folder)


def _check(state: Path, slots: int) -> None:
    if slots < 1:
        raise ClusterError(f"A cluster of {slots} slots can't be: ask for at least one.")
    if not re.fullmatch(r"[\w/.+@~-]+", str(state)):
        raise ClusterError(
            f"Slurm's configuration can't hold the path “{state}”: choose a state folder whose "
            "path has only letters, digits and ._-+@~."
        )
    if missing := missing_packages():
        raise ClusterError(
            f"Programs are missing. Install them: apt-get install --no-install-recommends "
            f"{' '.join(missing)}"
        )
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise ClusterError(f"The state folder {state} can't be made: {error.strerror}.") from None
    if state.stat().st_uid != os.geteuid():
        raise ClusterError(
            f"{state} belongs to another user: choose your own folder, or start as that user."
        )


def _check_usable_by(user: str | None, planned: Plan) -> None:
    """As root: the account must be able to read slurm.conf and to reach the munge socket."""
    try:
        account = pwd.getpwnam(user or SERVICE_USER)
    except KeyError:
        if user is None:
            return
        raise ClusterError(
            f"There is no account “{user}”: make it with `useradd --system {user}`."
        ) from None
    tried = subprocess.run(
        ["/bin/sh", "-c", 'test -r "$0" && test -w "$1"', planned.slurm_conf, planned.munge_socket],
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        cwd="/",
        check=False,
    )
    if tried.returncode:
        raise ClusterError(
            f"The account “{account.pw_name}” can't reach the cluster in {planned.state}: a folder "
            "above it is closed to others. Choose a state folder that it may enter, "
            "/var/lib/nias-bridge say."
        )


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """One start or stop of a cluster at a time. Raises ClusterError after two minutes."""
    with (state / "lock").open("w") as lock:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"Somebody else is starting or stopping the cluster in {state}."
                    ) from None
                time.sleep(0.1)
        yield
