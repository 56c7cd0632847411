"""What another machine's time comes to beside this one's."""

from __future__ import annotations

from nias_bridge.checks.points import Finding, fault, warning, well

WARNING, FAULT = 5.0, 60.0  # seconds
MEND = "let all machines follow the same clock (chrony)"


def graded_clock(whose: str, told: float, earliest: float, latest: float) -> Finding:
    """What a time that was told between two moments here comes to; one of whole seconds may be
    a second less."""
    apart = max(earliest - 1 - told, told - latest, 0.0)
    seen = f"the clock of {whose} and this one are {apart:.0f} s apart"
    if apart >= FAULT:
        return fault(seen, MEND)
    if apart >= WARNING:
        return warning(seen, MEND)
    return well(f"{whose} has the same time")
