"""What a cluster keeps for itself in its folder: its names, ports and sockets, from up to up."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import secrets
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from nias_bridge.errors import ClusterError
from nias_bridge.localcluster import config, machine
from nias_bridge.localcluster.config import Node, Plan
from nias_bridge.localcluster.daemons import pid_of
from nias_bridge.localcluster.parts import parts

RECORD = "cluster.json"
# A socket's path may have 107 bytes; the longest name below this folder takes some 55 of them.
LONGEST_SOCKET_FOLDER = 45


def recorded(state: Path) -> Plan | None:
    """The plan by which this cluster was last started, if it ever was."""
    try:
        told: dict[str, Any] = json.loads((state / RECORD).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ClusterError(f"{state / RECORD} can't be read: {error}. Move it away.") from None
    nodes = tuple(Node(**(node | {"cores": tuple(node["cores"])})) for node in told.pop("nodes"))
    told["sockets"] = Path(told["sockets"])
    told["version"] = tuple(told["version"])
    return Plan(state=state, nodes=nodes, **told)


def record(plan: Plan) -> None:
    """Keep the plan, whole or not at all."""
    told = dataclasses.asdict(plan) | {"sockets": str(plan.sockets)}
    del told["state"]
    fresh = plan.state / f"{RECORD}.new"
    fresh.write_text(json.dumps(told, indent=2) + "\n")
    fresh.replace(plan.state / RECORD)


def make(state: Path, slots: int, before: Plan | None) -> Plan:
    """The plan for this start: as `before`, but for ports that others have taken meanwhile."""
    running = {part.name for part in parts(before) if pid_of(part)} if before else set()
    taken: set[int] = set()

    def port(name: str, known: int | None) -> int:
        # Jobs that run know the port by which they tell of their end.
        if not known or not (name in running or machine.becomes_free(known)):
            known = machine.free_port(but=taken)
        taken.add(known)
        return known

    tag = (
        before.tag if before else "".join(secrets.choice("bcdfghjklmnpqrstvwxz") for _ in range(4))
    )
    known_ports = {node.name: node.port for node in before.nodes} if before else {}
    names = [f"slot-{tag}-{number}" for number in range(1, slots + 1)]
    shares = config.share(machine.cores(), machine.memory_mib(), slots)
    return Plan(
        state=state,
        sockets=_socket_folder(state, before),
        tag=tag,
        user=pwd.getpwuid(os.geteuid()).pw_name,
        host=socket.gethostname().split(".")[0],
        version=machine.slurm_version(),
        ctld_port=port("slurmctld", before.ctld_port if before else None),
        dbd_port=port("slurmdbd", before.dbd_port if before else None),
        nodes=tuple(
            Node(name, port(f"slurmd {name}", known_ports.get(name)), cores, memory)
            for name, (cores, memory) in zip(names, shares, strict=True)
        ),
        # Once found not to work for Slurm, they are not tried again.
        cgroups=(before is None or before.cgroups) and machine.cgroups_work(),
    )


def forget_sockets(plan: Plan) -> None:
    """Remove the socket folder where it is not in the state folder; the next start makes one."""
    if not plan.sockets.is_relative_to(plan.state):
        shutil.rmtree(plan.sockets, ignore_errors=True)


def _socket_folder(state: Path, before: Plan | None) -> Path:
    if before and _is_my_folder(before.sockets):
        return before.sockets
    inside = state / "run"
    if len(os.fsencode(inside)) <= LONGEST_SOCKET_FOLDER:
        inside.mkdir(exist_ok=True, mode=0o755)
        return inside
    parent = "/run" if os.access("/run", os.W_OK) else "/tmp"  # noqa: S108 mkdtemp is safe there
    folder = Path(tempfile.mkdtemp(prefix="nias-", dir=parent))
    folder.chmod(0o755)
    return folder


def _is_my_folder(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return folder.is_dir() and not folder.is_symlink() and found.st_uid == os.geteuid()
