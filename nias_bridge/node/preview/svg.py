"""Draw plots as SVG that needs nothing else: lines that keep their peaks, and pictures of values.

Colours are middle ones on no ground, so that a plot reads on a light page and on a dark one.
"""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from .pixels import png

_LINE = "#3d85c6"
_INK = "#7c7f86"
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 78, 14, 16, 42
_LONE, _STACKED, _PICTURE, _GAP = 220, 84, 260, 14  # heights of panels, and between them
_BAR = 74  # what the colour bar of a picture takes on the right


@dataclass(frozen=True)
class Line:
    """One panel: least and greatest value in each column; `unit` labels its axis."""

    lower: NDArray[Any]
    upper: NDArray[Any]
    label: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Axis:
    """What an axis shows, from `start` to `stop`."""

    label: str
    start: float
    stop: float


def lines(panels: Sequence[Line], across: Axis, step: float) -> bytes:
    """Panels above each other over one axis; step: what one column takes of that axis."""
    height = _LONE if len(panels) == 1 else _STACKED
    total = _TOP + len(panels) * (height + _GAP) - _GAP + _BOTTOM
    right = _WIDTH - _RIGHT
    drawn = []
    for number, panel in enumerate(panels):
        top = _TOP + number * (height + _GAP)
        bottom = top + height
        low, high = _span(panel.lower, panel.upper)
        x = _scale(across.start, across.stop, _LEFT, right)
        y = _scale(low, high, bottom, top)
        drawn.append(_frame(top, bottom, right))
        drawn.append(_y_axis((low, high), y, top, bottom, _label(panel.label, panel.unit)))
        places = x(across.start + np.arange(len(panel.lower)) * step)
        drawn.append(_trace(places, y(panel.lower), y(panel.upper)))
    drawn.append(_x_axis(across, total - _BOTTOM, right))
    return _document(total, drawn)


def picture(
    values: NDArray[Any], across: Axis, up: Axis, unit: str = "", span: Optional[Axis] = None
) -> bytes:
    """A matrix as a picture, its first row on top.

    up: the axis from the bottom to the top (start may exceed stop); span: the values that the
    colours begin and end with, unless they are the matrix's own.
    """
    low, high = (span.start, span.stop) if span else _span(values, values, margin=0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        levels = np.clip((values / 2 - low / 2) / (high / 2 - low / 2) * 254 + 1, 1, 255)
    levels = np.where(np.isnan(values), 0, levels).astype(np.uint8)  # 0: no value
    image = base64.b64encode(png(levels)).decode()
    right, bottom = _WIDTH - _RIGHT - _BAR, _TOP + _PICTURE
    y = _scale(up.start, up.stop, bottom, _TOP)
    drawn = [
        f'<image x="{_LEFT}" y="{_TOP}" width="{right - _LEFT}" height="{_PICTURE}"'
        f' preserveAspectRatio="none" style="image-rendering:{_rendering(values, right)}"'
        f' href="data:image/png;base64,{image}"/>',
        _frame(_TOP, bottom, right),
        _y_axis((min(up.start, up.stop), max(up.start, up.stop)), y, _TOP, bottom, up.label),
        _x_axis(across, bottom, right),
        _colour_bar(low, high, right + 16, bottom, unit),
    ]
    return _document(bottom + _BOTTOM, drawn)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from low to high: about `most` of them, and two at least."""
    raw = (high - low) / most
    if not (math.isfinite(raw) and raw > 0):
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    steps = [power * multiple for multiple in (0.5, 1, 2, 2.5, 5, 10)]
    fitting = next(step for step in steps if step >= raw * 0.999)
    while True:
        first, last = math.ceil(low / fitting - 1e-9), math.floor(high / fitting + 1e-9)
        if last > first:
            return [number * fitting for number in range(first, last + 1)]
        fitting /= 2


def words(values: Sequence[float]) -> tuple[list[str], str]:
    """Labels of ticks, with as many decimals as they need, and what was taken out of them all.

    That is a power ("×10³"), or the first of them where they differ in their last digits only
    ("+1000000000").
    """
    step = values[1] - values[0] if len(values) > 1 else 0.0
    if step <= 0:
        return [f"{value:.4g}" for value in values], ""
    largest = max(abs(value) for value in values)
    if largest > 1e5 * step:
        labels, taken = words([value - values[0] for value in values])
        return labels, f"{taken} {values[0]:+.10g}".strip()
    power = 0 if 1e-3 < largest < 1e5 else 3 * math.floor(math.log10(largest) / 3)
    step /= 10.0**power
    decimals = next((n for n in range(9) if abs(round(step, n) - step) <= step * 1e-6), 9)
    return [f"{value / 10.0**power + 0.0:.{decimals}f}" for value in values], _times(power)


def _times(power: int) -> str:
    return (
        "×10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")) if power else ""
    )


_FARTHEST = sys.float_info.max


def _span(lower: NDArray[Any], upper: NDArray[Any], margin: float = 0.04) -> tuple[float, float]:
    if not lower.size or np.isnan(lower).all():
        return 0.0, 1.0
    low, high = float(np.nanmin(lower)), float(np.nanmax(upper))
    # Halved before the difference is taken: the ends of float64 are further apart than it holds.
    half = high / 2 - low / 2
    if half <= max(abs(low), abs(high)) * 1e-12:
        half, margin = abs(low) * 0.05 or 0.5, 0.5  # a flat line lies in the middle
    room = half * (2 * margin)
    return max(low - room, -_FARTHEST), min(high + room, _FARTHEST)


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[Any], Any]:
    # Values of an axis -> places on the drawing.
    half = (high / 2 - low / 2) or 0.5
    return lambda value: start + (value / 2 - low / 2) / half * (stop - start)


def _trace(x: NDArray[Any], lower: NDArray[Any], upper: NDArray[Any]) -> str:
    # Each stretch without a gap is one outline: along the greatest values, back along the least.
    there = np.flatnonzero(~np.isnan(lower))
    if not len(there):
        return ""
    drawn, dots = [], []
    for stretch in np.split(there, np.flatnonzero(np.diff(there) > 1) + 1):
        forth = _points(x[stretch], upper[stretch])
        flat = np.array_equal(upper[stretch], lower[stretch])
        if flat and len(stretch) == 1:
            dots.append(f"M{forth[0]}h0")
        elif flat:
            drawn.append("M" + "L".join(forth))
        else:
            drawn.append("M" + "L".join(forth + _points(x[stretch], lower[stretch])[::-1]) + "z")
    fill = "none" if all("z" not in d for d in drawn) else _LINE
    traced = f'<path d="{"".join(drawn)}" fill="{fill}" stroke="{_LINE}" stroke-linejoin="round"/>'
    dotted = f'<path d="{"".join(dots)}" stroke="{_LINE}" stroke-width="3" stroke-linecap="round"/>'
    return (traced if drawn else "") + (dotted if dots else "")


def _points(x: NDArray[Any], y: NDArray[Any]) -> list[str]:
    return [f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist())]


def _rendering(values: NDArray[Any], right: int) -> str:
    # Few cells are shown as cells; many are smoothed by whoever shows them.
    return "pixelated" if values.shape[1] * 3 < right - _LEFT else "auto"


def _label(label: str, unit: str) -> str:
    return f"{label} ({unit})" if label and unit else label or unit


def _frame(top: float, bottom: float, right: float) -> str:
    return f'<path d="M{_LEFT} {top}V{bottom}H{right}" fill="none" stroke="{_INK}"/>'


def _text(x: float, y: float, said: str, anchor: str, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{_plain(said)}</text>'


def _plain(said: str) -> str:
    return escape("".join(c if c.isprintable() else "�" for c in said))


def _short(said: str, room: float) -> str:
    most = max(4, int(room / 6))
    return said if len(said) <= most else said[: most - 1] + "…"


def _x_axis(axis: Axis, bottom: float, right: float) -> str:
    places = ticks(axis.start, axis.stop, 8)
    labels, power = words(places)
    x = _scale(axis.start, axis.stop, _LEFT, right)
    drawn = [
        f'<path d="M{x(at):.1f} {bottom}v4" stroke="{_INK}"/>'
        + _text(x(at), bottom + 17, label, "middle")
        for at, label in zip(places, labels)
    ]
    middle = (_LEFT + right) / 2
    drawn.append(_text(middle, bottom + 35, f"{axis.label} {power}".strip(), "middle"))
    return "".join(drawn)


def _y_axis(
    span: tuple[float, float], y: Callable[[Any], Any], top: float, bottom: float, label: str
) -> str:
    places = ticks(*span, 6 if bottom - top > _STACKED else 4)
    labels, power = words(places)
    drawn = [
        f'<path d="M{_LEFT} {y(at):.1f}h-4" stroke="{_INK}"/>'
        + _text(_LEFT - 8, y(at) + 4, said, "end")
        for at, said in zip(places, labels)
    ]
    middle = (top + bottom) / 2
    turned = f' transform="rotate(-90 14 {middle:.1f})"'
    drawn.append(_text(14, middle, _short(label, bottom - top + _GAP), "middle", turned))
    if power:
        drawn.append(_text(_LEFT + 5, top + 6, power, "start"))
    return "".join(drawn)


def _colour_bar(low: float, high: float, left: float, bottom: float, unit: str) -> str:
    bar = base64.b64encode(png(np.arange(255, 0, -1, dtype=np.uint8)[:, None])).decode()
    y = _scale(low, high, bottom, _TOP)
    places = ticks(low, high, 6)
    labels, power = words(places)
    drawn = [
        f'<image x="{left}" y="{_TOP}" width="12" height="{bottom - _TOP}"'
        f' preserveAspectRatio="none" href="data:image/png;base64,{bar}"/>'
    ]
    drawn += [
        f'<path d="M{left + 12} {y(at):.1f}h3" stroke="{_INK}"/>'
        + _text(left + 19, y(at) + 4, said, "start")
        for at, said in zip(places, labels)
    ]
    drawn.append(_text(left, bottom + 35, f"{unit} {power}".strip(), "start"))
    return "".join(drawn)


def _document(height: float, drawn: Sequence[str]) -> bytes:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' width="{_WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="12"'
        f' fill="{_INK}">{"".join(drawn)}</svg>'
    ).encode()
