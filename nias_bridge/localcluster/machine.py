"""What this machine offers a cluster: programs, memory, cores, cgroups, free ports."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Container
from pathlib import Path

from nias_bridge.errors import ClusterError

# The Debian package of every program that is run.
PACKAGES = {
    "munged": "munge",
    "munge": "munge",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "slurmdbd": "slurmdbd",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sacctmgr": "slurm-client",
    "scontrol": "slurm-client",
    "sinfo": "slurm-client",
    "squeue": "slurm-client",
    "scancel": "slurm-client",
    "setsid": "util-linux",
    "taskset": "util-linux",
}
# Ordinary users often lack the sbin folders, where the daemons are.
PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Below the range from which the kernel takes ports for outgoing connections.
PORTS = range(20000, 32000)
CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpuset", "freezer", "memory")
MIB = 1024 * 1024


def program(name: str) -> str | None:
    """The path of a program, or None where it is not installed."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PROGRAM_PATH}")


def missing_packages() -> list[str]:
    """Debian's names of the packages whose programs are not there."""
    return sorted({package for name, package in PACKAGES.items() if program(name) is None})


def slurm_version() -> tuple[int, ...]:
    """Slurm's version, (22, 5, 8) say."""
    told = subprocess.run(
        [program("slurmctld") or "slurmctld", "-V"], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", told)
    if not found:
        raise ClusterError(f"slurmctld -V does not tell its version: “{told.strip()}”.")
    return tuple(int(part) for part in found.groups())


def memory_mib() -> int:
    """The memory of this machine, or of the container that we are in, in MiB."""
    told = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    amounts = [int(told[1]) // 1024] if told else []
    for limit in (CGROUPS / "memory/memory.limit_in_bytes", CGROUPS / "memory.max"):
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():
            amounts.append(int(text) // MIB)
    return min(amounts, default=1024)


def cores() -> list[int]:
    """The numbers of the cores that we may use."""
    return sorted(os.sched_getaffinity(0))


def cgroups_work() -> bool:
    """True when cgroups that hold memory and cores can be made here: tried, not guessed."""
    if (CGROUPS / "cgroup.controllers").is_file():
        offered = (CGROUPS / "cgroup.controllers").read_text().split()
        return {"cpuset", "memory"} <= set(offered) and _can_make_a_group(CGROUPS)
    return all(_can_make_a_group(CGROUPS / name) for name in CONTROLLERS)


def _can_make_a_group(parent: Path) -> bool:
    if not (parent / "cgroup.procs").is_file():
        return False
    probe = parent / f"nias-probe-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True


def remove_cgroups(node: str) -> None:
    """Remove the empty groups that a node's slurmd left; node names are unique to a cluster."""
    for pattern in (f"*/slurm_{node}", f"system.slice/{node}_*"):
        for top in CGROUPS.glob(pattern):
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()


def port_is_free(port: int) -> bool:
    """True when nobody listens on this port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def becomes_free(port: int, seconds: float = 5.0) -> bool:
    """True once nobody listens there: a daemon that was killed a moment ago may still do so."""
    deadline = time.monotonic() + seconds
    while not port_is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def free_port(but: Container[int]) -> int:
    """A port nobody listens on, none of `but`."""
    for port in random.sample(PORTS, 200):
        if port not in but and port_is_free(port):
            return port
    raise ClusterError(f"No free port was found from {PORTS.start} to {PORTS.stop - 1}.")
