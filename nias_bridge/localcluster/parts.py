"""The daemons of a cluster in the order of their start, and how each shows that it serves."""

from __future__ import annotations

import socket

from nias_bridge.localcluster.config import Node, Plan
from nias_bridge.localcluster.daemons import Daemon, clean_environment, run
from nias_bridge.localcluster.machine import program

# The same when the database is made: a log of another size would be made twice.
DATABASE_OPTIONS = (
    "--performance-schema=OFF",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=32M",
    "--innodb-lock-wait-timeout=900",
    "--innodb-flush-log-at-trx-commit=2",
)
USABLE = {"idle", "mixed", "allocated", "completing"}


def parts(plan: Plan) -> list[Daemon]:
    """All daemons; each needs those before it (the slurmds do not need each other)."""
    return [
        _munged(plan),
        _mariadbd(plan),
        _slurmdbd(plan),
        _slurmctld(plan),
        *(_slurmd(plan, node) for node in plan.nodes),
    ]


def slurm_environment(plan: Plan) -> dict[str, str]:
    """The environment in which Slurm's commands reach this cluster."""
    return clean_environment(plan.state) | {"SLURM_CONF": str(plan.slurm_conf)}


def _munged(plan: Plan) -> Daemon:
    pid_file, log = plan.state / "pid/munged.pid", plan.log / "munged.log"
    argv = (
        "munged",
        # Its opinion of the folders above ours (a group may write there) is a warning, no end.
        "--force",
        f"--socket={plan.munge_socket}",
        f"--key-file={plan.data}/munge.key",
        f"--pid-file={pid_file}",
        f"--log-file={log}",
        f"--seed-file={plan.data}/munged.seed",
    )

    def answers() -> str:
        done = run(("munge", "-n", "-S", str(plan.munge_socket)), slurm_environment(plan), 5)
        return "" if done.returncode == 0 else f"munge gets no credential ({done.stderr.strip()})"

    return Daemon("munged", "munged", argv, plan.state, pid_file, log, answers)


def _mariadbd(plan: Plan) -> Daemon:
    pid_file, log = plan.state / "pid/mariadbd.pid", plan.log / "mariadbd.log"
    argv = (
        "setsid",
        "--fork",
        program("mariadbd") or "mariadbd",
        "--no-defaults",
        f"--user={plan.user}",
        f"--datadir={plan.data}/mariadb",
        f"--socket={plan.database_socket}",
        f"--pid-file={pid_file}",
        f"--log-error={log}",
        "--skip-networking",
        "--skip-name-resolve",
        "--max-connections=50",
        *DATABASE_OPTIONS,
    )

    def answers() -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(str(plan.database_socket))
                return "" if client.recv(5) else "its socket closes at once"
            except OSError as error:
                return f"its socket does not answer ({error})"

    return Daemon("mariadbd", "mariadbd", argv, plan.state, pid_file, log, answers)


def _slurmdbd(plan: Plan) -> Daemon:
    def answers() -> str:
        done = run(("sacctmgr", "-nP", "show", "cluster"), slurm_environment(plan), 5)
        return "" if done.returncode == 0 else f"sacctmgr fails ({done.stderr.strip()})"

    return Daemon(
        "slurmdbd",
        "slurmdbd",
        ("slurmdbd",),
        plan.state,
        plan.state / "pid/slurmdbd.pid",
        plan.log / "slurmdbd.log",
        answers,
        slurm_environment(plan) | {"MYSQL_UNIX_PORT": str(plan.database_socket)},
    )


def _slurmctld(plan: Plan) -> Daemon:
    def answers() -> str:
        done = run(("scontrol", "ping"), slurm_environment(plan), 5)
        said = done.stdout.strip() or done.stderr.strip()
        return "" if done.returncode == 0 and "DOWN" not in said else f"scontrol ping says “{said}”"

    return Daemon(
        "slurmctld",
        "slurmctld",
        ("slurmctld", "-f", str(plan.slurm_conf)),
        plan.state,
        plan.state / "pid/slurmctld.pid",
        plan.log / "slurmctld.log",
        answers,
        slurm_environment(plan),
    )


def _slurmd(plan: Plan, node: Node) -> Daemon:
    def answers() -> str:
        asked = ("sinfo", "--noheader", f"--nodes={node.name}", "--format=%T")
        done = run(asked, slurm_environment(plan), 5)
        state = done.stdout.strip()
        if done.returncode or not state:
            return f"sinfo does not know it ({done.stderr.strip()})"
        # A mark behind the state: * does not respond, and others about power and maintenance.
        return "" if state in USABLE else f"its node is “{state}”"

    return Daemon(
        f"slurmd {node.name}",
        "slurmd",
        # Its jobs inherit the cores that it may use.
        (
            "taskset",
            "--cpu-list",
            ",".join(map(str, node.cores)),
            program("slurmd") or "slurmd",
            "-N",
            node.name,
            "-f",
            str(plan.slurm_conf),
        ),
        plan.state,
        plan.state / f"pid/{node.name}.pid",
        plan.log / f"{node.name}.log",
        answers,
        slurm_environment(plan),
    )
