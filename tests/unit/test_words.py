"""How the node says durations in the log."""

from __future__ import annotations

import pytest

from nias_bridge.node.words import duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.00026, "0.26 ms"),
        (0.4, "0.4 s"),
        (12.34, "12.3 s"),
        (99.96, "100 s"),
        (458.7, "459 s"),
        (5400.2, "5,400 s"),
    ],
)
def test_a_duration_is_told_as_people_write_it_however_long_it_was(
    seconds: float, said: str
) -> None:
    assert duration(seconds) == said
