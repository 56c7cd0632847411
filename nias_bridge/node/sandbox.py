"""Keep a program that is not trusted to what it needs, by bubblewrap."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

OFF = "off"  # the administrator's word for: without walls
# As a confined program sees them.
HOME, TEMPORARY, DATA = Path("/home/me"), Path("/tmp"), Path("/nias/data")  # noqa: S108

# What of a system programs need. All else is not there for them: the rest of /etc, /run, /var,
# /home, /root, /opt, /srv and what is mounted beside them, and so neither the sockets and settings
# of Slurm and munge nor those of the bridge.
_SYSTEM = ("/usr", "/sys/bus", "/sys/class", "/sys/devices")
_OF_USR = ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin")  # links into it, where merged
_OF_ETC = (
    *("OpenCL", "alternatives", "ca-certificates", "crypto-policies", "fonts", "gai.conf"),
    *("glvnd", "group", "host.conf", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d"),
    *("localtime", "mime.types", "nsswitch.conf", "passwd", "pki/ca-trust", "pki/tls/certs"),
    *("protocols", "resolv.conf", "services", "ssl", "timezone", "vulkan"),
)
_NAMESPACES = (
    *("--unshare-user-try", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
    *("--unshare-cgroup-try", "--cap-drop", "ALL", "--die-with-parent"),
)
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_GPU_DEVICES = ("nvidia", "dri", "kfd")  # how their names begin

Bind = tuple[Path, Path]


class Refused(Exception):
    """A program can't be confined here and was not run; `details` are bubblewrap's own words."""

    def __init__(self, message: str, details: str = "") -> None:
        self.details = details
        super().__init__(message)


class Walls(NamedTuple):
    """What a confined program sees beside the system, and what of it it may write to.

    standing: False where the administrator turned the sandbox off; network: whether the node's is
    the program's too; private: a folder whose home/ and tmp/ are HOME and /tmp, else these are
    empty and in memory; site: further parts of the system; hidden: folders of which the program
    sees only what follows; readable, writable: (what, where it is seen), in this order.
    """

    standing: bool = True
    network: bool = True
    private: Optional[Path] = None
    site: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    readable: tuple[Bind, ...] = ()
    writable: tuple[Bind, ...] = ()

    def around(
        self,
        *,
        hidden: Iterable[Path] = (),
        readable: Iterable[Path] = (),
        writable: Iterable[Path] = (),
        **others: Any,
    ) -> Walls:
        """These walls with more between them, each folder seen where it is."""
        return self._replace(
            hidden=(*self.hidden, *hidden),
            readable=(*self.readable, *((path, path) for path in readable)),
            writable=(*self.writable, *((path, path) for path in writable)),
            **others,
        )


STANDING = Walls()


def walls(site: Mapping[str, Any]) -> Walls:
    """The walls as the administrator wants them. Where nothing is said they stand."""
    return Walls(
        standing=site.get("sandbox") != OFF,
        network=site.get("job_network", True),
        site=tuple(map(Path, site.get("sandbox_readonly", ()))),
    )


def confined(command: Sequence[str], walls: Walls) -> list[str]:
    """The command between these walls, which were tried. Raises Refused where they can't be put
    up; where the administrator turned them off, the command as it is."""
    if walls.standing:
        _try()
    return unproven(command, walls)


def unproven(command: Sequence[str], walls: Walls, *further: str) -> list[str]:
    """As `confined` for one who will notice that bubblewrap could not start the command.

    further: options of bubblewrap's. Raises Refused where it is not installed.
    """
    if not walls.standing:
        return list(command)
    program = shutil.which("bwrap", path=f"{os.environ.get('PATH', '')}:{os.defpath}")
    if program is None:
        raise Refused("bubblewrap is not installed")
    return [program, *_options(walls), *further, "--", *command]


@functools.lru_cache(maxsize=None)
def _try() -> None:
    trial = subprocess.run(
        unproven(["true"], Walls()), capture_output=True, text=True, errors="replace", check=False
    )
    if trial.returncode:
        raise Refused("bubblewrap does not work", trial.stderr.strip())


def _options(walls: Walls) -> Iterator[str]:
    yield from _NAMESPACES
    if not walls.network:
        yield "--unshare-net"
    yield from _system()
    yield from ("--proc", "/proc", "--dev", "/dev", "--symlink", "../tmp", "/var/tmp")  # noqa: S108
    yield from _gpus()
    if walls.private:
        yield from ("--bind", str(walls.private / "tmp"), str(TEMPORARY))
        yield from ("--bind", str(walls.private / "home"), str(HOME))
    else:
        yield from ("--tmpfs", str(TEMPORARY))
    for folder in walls.site:  # not every node has to have it
        yield from ("--ro-bind-try", str(folder), str(folder))
    for folder in walls.hidden:
        yield from ("--tmpfs", str(folder))
    yield from _read_only((path, path) for path in _pythons())
    yield from _read_only(walls.readable)
    for what, where in walls.writable:
        yield from ("--bind", str(what), str(where))
    for folder in (*walls.hidden, Path("/")):
        yield from ("--remount-ro", str(folder))


def _system() -> Iterator[str]:
    for folder in _OF_USR:
        if os.path.islink(folder):  # noqa: PTH114
            yield from ("--symlink", os.readlink(folder), folder)  # noqa: PTH115
        else:
            yield from ("--ro-bind-try", folder, folder)
    for path in (*_SYSTEM, *(f"/etc/{name}" for name in _OF_ETC)):
        yield from ("--ro-bind-try", path, path)


def _pythons() -> Iterator[Path]:
    """Where this Python lives: environments are made from it, and it may lie anywhere."""
    for prefix in {os.path.realpath(p) for p in (sys.base_prefix, sys.base_exec_prefix)}:
        if prefix not in ("/", "/usr"):
            yield Path(prefix)


def _gpus() -> Iterator[str]:
    """The devices, where Slurm gave the job any: which of them it may use, Slurm's cgroup says."""
    if all(os.environ.get(name, "") in ("", "NoDevFiles") for name in _GPU_VARIABLES):
        return
    for name in sorted(os.listdir("/dev")):  # noqa: PTH208
        if name.startswith(_GPU_DEVICES):
            yield from ("--dev-bind", f"/dev/{name}", f"/dev/{name}")


def _read_only(binds: Iterable[Bind]) -> Iterator[str]:
    for what, where in binds:
        yield from ("--ro-bind", str(what), str(where))
