"""What Slurm tells of the cluster itself, and what the poller has done to hear it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """One node as Slurm tells it: memory in bytes, state in its words ("IDLE", "MIXED+DRAIN").

    gpus: None where nobody asked for them.
    """

    name: str
    state: str
    cpus: int
    cpus_used: int
    memory: int
    memory_used: int
    gpus: int | None = None
    partitions: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class PartitionReport:
    """One partition as Slurm tells it: state in its words ("UP", "DRAIN").

    Times in seconds; max_time None: unlimited; default_time None: the most that it allows.
    """

    name: str
    state: str
    default: bool = False
    max_time: int | None = None
    default_time: int | None = None


@dataclass(frozen=True, kw_only=True)
class Polling:
    """What a poller has done since it started: looks at Slurm, seconds that they took in all, and
    questions that Slurm did not answer. interval: seconds until it looks again, by now."""

    started_at: datetime | None = None
    looks: int = 0
    seconds: float = 0.0
    unanswered: int = 0
    interval: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ClusterView:
    """What the poller last heard of the cluster; problem says why it is old, "" when it is not.

    accounting: why slurmdbd does not answer, "" when it does.
    """

    at: datetime | None = None
    nodes: tuple[NodeReport, ...] = ()
    partitions: tuple[PartitionReport, ...] = ()
    pending: int = 0
    running: int = 0
    problem: str = ""
    accounting: str = ""
    polling: Polling = Polling()
