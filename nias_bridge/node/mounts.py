"""What file system a folder is on, and how that is mounted here."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

_TABLE = "/proc/self/mountinfo"
# Of file systems that several machines have at once.
_NETWORK = re.compile(r"nfs|lustre|gpfs|beegfs|cifs|smb|ceph|gluster|afs|9p|orangefs|sshfs|panfs")


class Mount(NamedTuple):
    """type: as the kernel has it; options: those of the mount and of the file system."""

    type: str
    options: tuple[str, ...]

    @property
    def network(self) -> bool:
        """Whether other machines may have it too."""
        return bool(_NETWORK.search(self.type))


def mount_of(path: Path, table: str = _TABLE) -> Mount:
    """The mount that the path is on; of one that is not there, its nearest folder's."""
    really = os.path.realpath(path)
    found, longest = Mount("unknown", ()), -1
    with open(table, encoding="utf-8", errors="replace") as lines:  # noqa: PTH123
        for line in lines:
            mount, _, device = line.partition(" - ")
            fields, of_device = mount.split(" "), device.split()
            place = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), fields[4])
            # Of two mounts on one folder the later is seen.
            if _lies_in(really, place) and len(place) >= longest:
                options = [*fields[5].split(","), *of_device[-1].split(",")]
                found, longest = Mount(of_device[0], tuple(dict.fromkeys(options))), len(place)
    return found


def _lies_in(path: str, place: str) -> bool:
    return place in ("/", path) or path.startswith(f"{place}/")
