"""Which numbers of output/metrics.json are a task's metrics."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nias_bridge.node import metrics


def read(output: Path, text: str) -> dict[str, float]:
    (output / metrics.FILE).write_text(text)
    return metrics.read(output)


def test_the_finite_numbers_count_and_nothing_else(tmp_path: Path) -> None:
    text = """{"rms": 0.5, "peaks": 3, "name": "x", "ok": true, "none": null, "inside": {"a": 1},
        "list": [1], "nan": NaN, "inf": -Infinity, "huge": 1%s}""" % ("0" * 400)
    assert read(tmp_path, text) == {"rms": 0.5, "peaks": 3}


@pytest.mark.parametrize("text", ["", "[1, 2]", "3", "{", "[" * 100_000, '{"a": 1}' + " " * 70_000])
def test_what_is_no_small_object_has_no_metrics(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == {}


def test_at_most_a_hundred_are_taken(tmp_path: Path) -> None:
    assert len(read(tmp_path, json.dumps({f"m{n}": n for n in range(500)}))) == 100


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    assert metrics.read(tmp_path) == {}
    (tmp_path / "elsewhere").write_text('{"a": 1}')
    (tmp_path / metrics.FILE).symlink_to(tmp_path / "elsewhere")
    assert metrics.read(tmp_path) == {}
    (tmp_path / metrics.FILE).unlink()
    os.mkfifo(tmp_path / metrics.FILE)
    assert metrics.read(tmp_path) == {}


def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / metrics.FILE).write_text('{"a": 1}')
    (tmp_path / "output").symlink_to("others")
    assert metrics.read(tmp_path / "output") == {}
