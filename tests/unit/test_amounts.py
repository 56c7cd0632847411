"""Claims about Slurm's times and sizes of memory."""

from __future__ import annotations

import pytest

from nias_bridge.amounts import memory_bytes, time_limit_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("1:30", 90),
        ("02:00:01", 7201),
        ("1-12", 129600),
        ("1-0:30", 88200),
        ("1-00:00:01", 86401),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert time_limit_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "1h", "1:2:3:4", "00:00:00", "３", "1\n", "1-"])
def test_what_is_no_time_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        time_limit_seconds(text)


@pytest.mark.parametrize(
    ("text", "size"), [("1", 2**20), ("500M", 500 * 2**20), ("8g", 8 * 2**30), ("4KB", 4096)]
)
def test_memory_sizes_are_read_as_slurm_reads_them(text: str, size: int) -> None:
    assert memory_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "0G", "-1", "1.5G", "lots", "8 G", "8G\n"])
def test_what_is_no_memory_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="memory size"):
        memory_bytes(text)
