"""Tell a task of a sweep its parameters, by its environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Union

Scalar = Union[str, int, float, bool]


def variables(task: Mapping[str, Scalar]) -> dict[str, str]:
    """NIAS_PARAM_<NAME> for each parameter, and all of them as JSON in NIAS_PARAMS."""
    told = {f"NIAS_PARAM_{name.upper()}": _as_text(value) for name, value in task.items()}
    return {**told, "NIAS_PARAMS": json.dumps(dict(task), ensure_ascii=False)}


def _as_text(value: Scalar) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)
