"""All that is done on shared storage, by its names: on a mount here, or on a login node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import acls, datasets, grants, keeping, reading

OPERATIONS: dict[str, Callable[..., Any]] = {
    **reading.OPERATIONS,
    **keeping.OPERATIONS,
    **datasets.OPERATIONS,
    **acls.OPERATIONS,
    **grants.OPERATIONS,
}
