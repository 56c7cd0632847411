"""Claims about how times, durations and sizes are written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from nias_bridge.http import formats

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (timedelta(seconds=3), "just now"),
        (timedelta(minutes=3, seconds=50), "3 min ago"),
        (timedelta(hours=23), "23 h ago"),
        (timedelta(days=1, hours=2), "1 day ago"),
        (timedelta(days=40), "2026-01-20"),
        (-timedelta(minutes=12), "in 12 min"),
        (-timedelta(seconds=5), "in a moment"),
    ],
)
def test_times_are_relative_and_coarse(ago: timedelta, words: str) -> None:
    assert formats.relative(NOW - ago, NOW) == words


def test_the_exact_time_is_there_too() -> None:
    assert formats.when(NOW, now=NOW) == (
        '<time datetime="2026-03-01T12:00:00+00:00" title="2026-03-01 12:00:00 UTC">just now</time>'
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (0, "< 1 s"),
        (0.0083, "8.3 ms"),
        (0.154, "0.15 s"),
        (2.41, "2.4 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (3 * 86400 + 7200, "3 days 2 h"),
        (0.000448, "0.45 ms"),
        (0.0123, "12 ms"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float | None, words: str) -> None:
    assert formats.duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1100, "1.1 kB"), (25_000_000, "25 MB")],
)
def test_sizes_of_files(count: int, words: str) -> None:
    assert formats.size(count) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (2003, "2,003 files")]
)
def test_counts_have_the_right_number_of_things(count: int, words: str) -> None:
    assert formats.counted(count, "file") == words


@pytest.mark.parametrize(
    ("mib", "words"), [(0, "0 MiB"), (184, "184 MiB"), (8192, "8 GiB"), (1536, "1.5 GiB")]
)
def test_sizes_of_memory(mib: int, words: str) -> None:
    assert formats.memory(mib * 1024**2) == words


def test_a_text_keeps_its_returns_and_is_no_html() -> None:
    assert formats.raw_text("10%\r<b>\n") == "10%&#13;&lt;b&gt;\n"
