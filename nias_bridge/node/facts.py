"""What the node alone knows of a run, for its record."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from . import program


def facts(node: str, site: Mapping[str, Any]) -> dict[str, Any]:
    """The node, its Python and system, the seed of Python's hashes, and the bridge's version."""
    system = os.uname()
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else ""
    return {
        "node": node,
        "python": sys.version.split()[0],
        "platform": f"{system.sysname} {system.release} {system.machine} {libc}".strip(),
        "hash_seed": site.get("run_variables", {}).get("PYTHONHASHSEED", program.HASH_SEED),
        "bridge": site.get("version"),
    }
