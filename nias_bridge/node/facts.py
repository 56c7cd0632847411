"""What the node alone knows of a run, for its record."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Optional

from . import program


def facts(node: str, site: Mapping[str, Any]) -> dict[str, Any]:
    """The node, its Python, system and Slurm, the seed of Python's hashes, the bridge's version."""
    system = os.uname()
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else ""
    return {
        "node": node,
        "python": sys.version.split()[0],
        "platform": f"{system.sysname} {system.release} {system.machine} {libc}".strip(),
        "slurm": slurm_version(),
        "hash_seed": site.get("run_variables", {}).get("PYTHONHASHSEED", program.HASH_SEED),
        "bridge": site.get("version"),
    }


def slurm_version() -> Optional[str]:
    """The version of the node's Slurm commands ("22.05.8"), None where it has none."""
    try:
        told = subprocess.run(
            ["scontrol", "--version"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    words = told.stdout.split()
    return words[-1] if words else None
