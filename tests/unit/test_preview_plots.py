from __future__ import annotations

import math
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from previews import PACKAGE, pictures_of

from nias_bridge.node import preview, sandbox
from nias_bridge.node.preview import measure, svg

numbers = st.floats(-1e300, 1e300, allow_nan=False)


def look(values: NDArray) -> measure.Look:
    rows = values if values.ndim == 2 else values[:, None]
    return measure.look(lambda a, b: rows[a:b], len(rows), rows.shape[1], time.monotonic() + 60)


@given(st.lists(st.floats(width=32), min_size=1, max_size=60), st.integers(1, 100))
def test_a_look_at_a_signal_says_what_numpy_says(values: list[float], times: int):
    array = np.array(values * times, np.float32)
    seen = look(array)
    finite = array[np.isfinite(array)].astype(float)
    told = seen.facts(whole=False)
    assert seen.seen == len(array)
    assert told["nan"] == np.isnan(array).sum()
    assert told["inf"] == np.isinf(array).sum()
    if len(finite):
        assert (told["min"], told["max"]) == (finite.min(), finite.max())
        assert told["mean"] == pytest.approx(finite.mean(), rel=1e-6, abs=1e-6 * abs(finite).max())
    else:
        assert (told["min"], told["mean"], told["max"]) == (None, None, None)


def test_a_single_peak_in_ten_million_samples_is_kept(monkeypatch):
    monkeypatch.setattr(measure, "BLOCK", 300_000)
    values = np.zeros(10_000_019, np.int16)
    values[7_654_321] = 3000
    seen = look(values)
    assert len(seen.upper) <= measure.COLUMNS
    assert seen.upper[7_654_321 // seen.step, 0] == 3000
    assert (seen.upper == 3000).sum() == 1


def test_a_gap_stays_a_gap():
    values = np.ones(5000)
    values[1000:2000] = np.nan
    drawn = svg.lines([svg.Line(*ends(look(values)))], svg.Axis("sample", 0, 5000), 5).decode()
    (traced,) = [part for part in drawn.split("<path") if "stroke-linejoin" in part]
    assert traced.count("M") == 2


def test_a_lone_sample_between_gaps_is_seen():
    values = np.array([np.nan, 1.0, np.nan, 2.0, 3.0])
    drawn = svg.lines([svg.Line(*ends(look(values)))], svg.Axis("sample", 0, 4), 1).decode()
    assert 'stroke-linecap="round"' in drawn


def ends(seen: measure.Look) -> tuple[NDArray, NDArray]:
    return seen.lower[:, 0], seen.upper[:, 0]


def test_reading_stops_when_time_is_up_and_says_how_far_it_came(monkeypatch):
    monkeypatch.setattr(measure, "BLOCK", 1000)
    values = np.arange(50_000.0)[:, None]
    seen = measure.look(lambda a, b: values[a:b], len(values), 1, time.monotonic() - 1)
    assert seen.seen == 1000
    assert seen.facts(whole=False)["max"] == 999


@given(numbers, numbers, st.integers(3, 8))
def test_ticks_lie_within_the_axis_at_round_numbers(one: float, other: float, most: int):
    low, high = min(one, other), max(one, other)
    if high - low <= abs(high) * 1e-9:
        return
    places = svg.ticks(low, high, most)
    assert 1 <= len(places) <= 2 * most + 1
    margin = (high - low) * 1e-6
    assert all(low - margin <= place <= high + margin for place in places)


@pytest.mark.parametrize(
    ("span", "labels", "taken"),
    [
        ((0, 60), ["0", "10", "20", "30", "40", "50", "60"], ""),
        ((-1, 1), ["-1.0", "-0.5", "0.0", "0.5", "1.0"], ""),
        ((0, 2e6), ["0.0", "0.5", "1.0", "1.5", "2.0"], "×10⁶"),
        ((0, 4e-6), ["0", "1", "2", "3", "4"], "×10⁻⁶"),
        ((1e9, 1e9 + 4), ["0", "1", "2", "3", "4"], "+1000000000"),
    ],
)
def test_labels_are_as_short_as_they_can_be(span, labels, taken):
    assert svg.words(svg.ticks(*span, 6)) == (labels, taken)


@given(st.lists(st.floats(), min_size=1, max_size=30))
def test_whatever_is_drawn_is_within_the_picture(values: list[float]):
    array = np.array(values)
    finite = np.where(np.isfinite(array), array, np.nan)
    drawn = svg.lines([svg.Line(finite, finite, "<&")], svg.Axis("x", 0, len(values)), 1).decode()
    assert "nan" not in drawn
    assert "inf" not in drawn
    picture = svg.picture(finite[None, :], svg.Axis("x", 0, 1), svg.Axis("y", 1, 0)).decode()
    assert "nan" not in picture
    assert math.isfinite(len(picture))


def test_previews_are_made_by_a_program_in_one_file(tmp_path: Path):
    program = tmp_path / "node.pyz"
    with zipfile.ZipFile(program, "w") as archive:
        archive.writestr("nias_bridge/__init__.py", "")
        for module in (PACKAGE / "nias_bridge" / "node").rglob("*.py"):
            archive.write(module, str(module.relative_to(PACKAGE)))
    output = tmp_path / "output"
    output.mkdir()
    np.save(output / "a.npy", np.arange(5))
    (output / "numpy.py").write_text("raise SystemExit('the researcher’s own module was imported')")
    assert preview.run(Path(sys.executable), program, output, pictures_of(output), sandbox.Walls())
    assert (pictures_of(output) / "0001-a.svg").is_file()
