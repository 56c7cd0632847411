"""The Python that this runs in: where it is from, and where its environments keep packages."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def site_packages(made: Path) -> Path:
    """Where a virtual environment of this Python has its packages."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return made / "lib" / version / "site-packages"


def base_python() -> str:
    """Where this runs in a virtual environment itself, the Python that it was made from."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
