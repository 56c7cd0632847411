"""Times and sizes of memory, as Slurm has people write them."""

from __future__ import annotations

import re

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_TIME = re.compile(r"(?:(?P<days>\d{1,4})-)?(?P<parts>\d{1,7}(?::\d{1,2}){0,2})\Z", re.ASCII)
_MEMORY = re.compile(r"(?P<count>\d{1,9})(?P<unit>[KMGT]?)B?\Z", re.ASCII | re.IGNORECASE)
_UNITS = {"K": 1024, "": 1024**2, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def time_limit_seconds(text: str) -> int:
    """Seconds of a time limit in one of Slurm's formats; raises ValueError with what they are.

    M, M:S, H:M:S, D-H, D-H:M, D-H:M:S.
    """
    match = _TIME.match(text)
    if not match:
        raise ValueError(f"“{text}” is not a time; write 30 (minutes), 02:00:00 or 1-12:00:00")
    parts = [int(part) for part in match["parts"].split(":")]
    units = [_HOUR, _MINUTE, 1]
    if match["days"] is None and len(parts) < len(units):
        units = [_MINUTE, 1]
    seconds = int(match["days"] or 0) * _DAY
    seconds += sum(part * unit for part, unit in zip(parts, units, strict=False))
    if seconds <= 0:
        raise ValueError(f"“{text}” is no time at all")
    return seconds


def memory_bytes(text: str) -> int:
    """Bytes of a memory size as Slurm writes it (a bare number is MB); raises ValueError."""
    match = _MEMORY.match(text)
    if not match or not int(match["count"]):
        raise ValueError(f"“{text}” is not a memory size; write 500M or 8G")
    return int(match["count"]) * _UNITS[match["unit"].upper()]
