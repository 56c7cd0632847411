"""The configuration files of a one-machine Slurm, as text: no file is touched here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Node:
    """One slot: its name, its slurmd's port, the cores it is held to, its memory in MiB."""

    name: str
    port: int
    cores: tuple[int, ...]
    memory: int


@dataclass(frozen=True)
class Plan:
    """All that the configuration files are rendered from."""

    state: Path
    sockets: Path
    tag: str
    user: str
    host: str
    version: tuple[int, ...]
    ctld_port: int
    dbd_port: int
    nodes: tuple[Node, ...]
    cgroups: bool

    @property
    def etc(self) -> Path:
        return self.state / "etc"

    @property
    def slurm_conf(self) -> Path:
        return self.etc / "slurm.conf"

    @property
    def data(self) -> Path:
        return self.state / "data"

    @property
    def log(self) -> Path:
        return self.state / "log"

    @property
    def munge_socket(self) -> Path:
        return self.sockets / "munge.socket"

    @property
    def database_socket(self) -> Path:
        return self.sockets / "mariadb.socket"

    @property
    def spool(self) -> Path:
        """Parent of the slurmds' folders, where each running job has a socket."""
        return self.sockets / "spool"


def share(cores: list[int], memory: int, slots: int) -> list[tuple[tuple[int, ...], int]]:
    """Cores and memory (MiB) of each slot; with more slots than cores, cores are shared.

    A tenth of the memory, at least 512 MiB where there is that much, is left to the machine.
    """
    reserve = min(max(memory // 10, 512), memory // 2)
    each = max((memory - reserve) // slots, 1)
    width = max(len(cores) // slots, 1)
    return [
        (tuple(cores[(slot * width + i) % len(cores)] for i in range(width)), each)
        for slot in range(slots)
    ]


def files(plan: Plan) -> dict[str, tuple[str, int]]:
    """Name -> (text, mode) of every file in the configuration folder."""
    return {
        "slurm.conf": (slurm_conf(plan), 0o644),
        "slurmdbd.conf": (slurmdbd_conf(plan), 0o600),
        "cgroup.conf": (cgroup_conf(plan), 0o644),
    }


def slurm_conf(plan: Plan) -> str:
    limits = LIMITS_BY_CGROUP if plan.cgroups else LIMITS_BY_POLLING
    kept = "job_comment,job_extra" if plan.version >= (23, 2) else "job_comment"
    nodes = "\n".join(
        f"NodeName={node.name} NodeHostname={plan.host} NodeAddr=127.0.0.1 Port={node.port} "
        f"CPUs={len(node.cores)} RealMemory={node.memory}"
        for node in plan.nodes
    )
    return SLURM_CONF.format(
        plan=plan,
        limits=limits,
        kept=kept,
        nodes=nodes,
        memory=min(node.memory for node in plan.nodes),
    )


def slurmdbd_conf(plan: Plan) -> str:
    return SLURMDBD_CONF.format(plan=plan)


# slurmd loads the plugin though nothing uses it, and must not look for what is not mounted.
NO_CGROUP_CONF = """\
# Limits are kept by looking (slurm.conf).
CgroupPlugin=cgroup/v1
"""


def cgroup_conf(plan: Plan) -> str:
    return CGROUP_CONF if plan.cgroups else NO_CGROUP_CONF


SLURM_CONF = """\
# Written by nias-bridge; changes made here are lost at the next start.
ClusterName=nias
SlurmctldHost={plan.host}(127.0.0.1)
SlurmctldPort={plan.ctld_port}
SlurmUser={plan.user}
SlurmdUser={plan.user}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
# A requeued job waits until the credential of its first attempt has expired: 120 s by default.
AuthInfo=socket={plan.munge_socket},cred_expire=15

StateSaveLocation={plan.data}/slurmctld
SlurmdSpoolDir={plan.spool}/%n
SlurmctldPidFile={plan.state}/pid/slurmctld.pid
SlurmdPidFile={plan.state}/pid/%n.pid
SlurmctldLogFile={plan.log}/slurmctld.log
SlurmdLogFile={plan.log}/%n.log
MailProg=/bin/true

# One job a node, each node a part of this machine.
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerNode={memory}
PropagateResourceLimits=NONE
{limits}

# Small jobs start at once. A submission is looked at by two loops, the main and the backfill
# one, each of which runs once a second at the quickest. The end of a job starts the next one
# without waiting for them, but only where there is an epilog: else slurmd may report the end
# by a shorter way, on which slurmctld leaves it to the loop.
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=5,bf_interval=1
Epilog=/bin/true
JobRequeue=0
KillWait=30
MinJobAge=300
SlurmctldTimeout=30
SlurmdTimeout=30
ReturnToService=2

AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={plan.dbd_port}
AccountingStoragePass={plan.munge_socket}
AccountingStoreFlags={kept}
JobAcctGatherType=jobacct_gather/linux

{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=UNLIMITED State=UP
"""

LIMITS_BY_CGROUP = """\
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherFrequency=task=2"""

# No cgroups on this machine: memory is looked at every second, and the job killed.
LIMITS_BY_POLLING = """\
ProctrackType=proctrack/linuxproc
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill"""

SLURMDBD_CONF = """\
# Written by nias-bridge; changes made here are lost at the next start.
DbdHost={plan.host}
DbdAddr=127.0.0.1
DbdPort={plan.dbd_port}
SlurmUser={plan.user}
CommunicationParameters=NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={plan.munge_socket}
LogFile={plan.log}/slurmdbd.log
PidFile={plan.state}/pid/slurmdbd.pid
# Over the socket that MYSQL_UNIX_PORT names; the database knows its user by the socket.
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={plan.user}
StorageLoc=slurm_acct_db
"""

# A node's cores are set by its slurmd's own affinity: Slurm numbers the cores of every node
# from 0, and would hold all slots of this machine to the same ones.
CGROUP_CONF = """\
CgroupPlugin=autodetect
IgnoreSystemd=yes
ConstrainCores=no
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
AllowedSwapSpace=0
"""
