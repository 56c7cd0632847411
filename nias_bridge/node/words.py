"""How the node says counts and durations in the log."""

from __future__ import annotations


def counted(count: int, thing: str) -> str:
    """“1 file”, “2,003 files”."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """“0.26 ms”, “0.4 s”, “12.3 s”, “5,400 s”."""
    if seconds < 0.1:
        return f"{seconds * 1000:.2g} ms"
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:,.0f} s"
