"""What the node alone knows of a run, for its record."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Optional

from . import claim, program


def facts(job: claim.Job, site: Mapping[str, Any]) -> dict[str, Any]:
    """The node, its Python, system and Slurm, the seed of Python's hashes, the bridge's version."""
    system = os.uname()
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else ""
    return {
        "node": job.node,
        "python": sys.version.split()[0],
        "platform": f"{system.sysname} {system.release} {system.machine} {libc}".strip(),
        # Of a sweep the first task tells it for all: each question takes some milliseconds.
        "slurm": slurm_version() if job.task in (None, 0) else None,
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
