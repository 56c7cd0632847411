"""What scontrol tells of the cluster's nodes and partitions: how it is asked, how it is read."""

from __future__ import annotations

import re

from nias_bridge.cluster import NodeReport, PartitionReport
from nias_bridge.slurm import values
from nias_bridge.slurm.answers import Argv, Output, must_be_well

MIB = 1024 * 1024

_NODE_FIELD = re.compile(
    r"(?:^|\s)(NodeName|State|CPUAlloc|CPUTot|RealMemory|AllocMem|Gres|Partitions)=(\S*)"
)
# The reason is free text, and who gave it when follows in brackets; other free texts come after.
_NODE_REASON = re.compile(r"\sReason=(.*?)(?: \[[^\[\]\s]+@[^\[\]\s]+\](?:\s|$)|$)")
# gpu:2, gpu:a100:4(S:0-1), several of them with commas between.
_GPUS = re.compile(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)")
_PARTITION_FIELD = re.compile(r"(?:^|\s)(PartitionName|Default|DefaultTime|MaxTime|State)=(\S*)")


def nodes_argv() -> Argv:
    """scontrol and not sinfo, which has a line per partition and shortens the state."""
    return ["scontrol", "show", "nodes", "--oneliner"]


def parse_nodes(output: Output) -> list[NodeReport]:
    """The nodes, in Slurm's order. Raises Unreachable."""
    must_be_well("scontrol", output)
    return [_node(line) for line in output.stdout.split("\n") if line.startswith("NodeName=")]


def _node(line: str) -> NodeReport:
    fields: dict[str, str] = {}
    for key, value in _NODE_FIELD.findall(line):
        fields.setdefault(key, value)
    reason = _NODE_REASON.search(line)
    partitions = fields.get("Partitions", "")
    return NodeReport(
        name=fields["NodeName"],
        state=fields.get("State", "UNKNOWN"),
        cpus=values.count(fields.get("CPUTot", "")) or 0,
        cpus_used=values.count(fields.get("CPUAlloc", "")) or 0,
        memory=(values.count(fields.get("RealMemory", "")) or 0) * MIB,
        memory_used=(values.count(fields.get("AllocMem", "")) or 0) * MIB,
        gpus=_gpus(fields.get("Gres", "")),
        partitions=tuple(partitions.split(",")) if partitions else (),
        reason=reason[1] if reason else "",
    )


def _gpus(gres: str) -> int:
    return sum(int(count) for count in _GPUS.findall(gres))


def partitions_argv() -> Argv:
    """Without those that are hidden from this account."""
    return ["scontrol", "show", "partitions", "--oneliner"]


def parse_partitions(output: Output) -> list[PartitionReport]:
    """The partitions, in Slurm's order. Raises Unreachable."""
    must_be_well("scontrol", output)
    lines = output.stdout.split("\n")
    return [_partition(line) for line in lines if line.startswith("PartitionName=")]


def _partition(line: str) -> PartitionReport:
    fields = dict(_PARTITION_FIELD.findall(line))
    return PartitionReport(
        name=fields["PartitionName"],
        state=fields.get("State", "UNKNOWN"),
        default=fields.get("Default") == "YES",
        max_time=values.whole_seconds(fields.get("MaxTime", "")),
        default_time=values.whole_seconds(fields.get("DefaultTime", "")),
    )
