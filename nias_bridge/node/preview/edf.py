"""EDF and BDF: the channels of a recording, and the first of them above each other."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
import pyedflib
from numpy.typing import NDArray

from . import measure, svg
from .record import Desk, Preview

_LISTED_MAX = 256


def preview(file: BinaryIO, desk: Desk) -> Preview:
    """The recording's length and channels; facts of the channels that are drawn."""
    made = Preview(desk.kind)
    recording = pyedflib.EdfReader(f"/proc/self/fd/{file.fileno()}")
    try:
        seconds = float(recording.getFileDuration())
        count = recording.signals_in_file
        made.summary.append({"channels": count, "seconds": seconds,
                             "annotations": int(recording.annotations_in_file),
                             "start": str(recording.getStartdatetime())})  # fmt: skip
        panels = []
        for channel in range(min(count, _LISTED_MAX)):
            facts = _facts(recording, channel)
            made.summary.append(facts)
            if channel < measure.CHANNELS and facts["samples"]:
                look = _look(recording, channel, facts["samples"], desk.until)
                facts.update(look.facts(whole=False))
                if look.seen < facts["samples"]:
                    facts["looked_at"] = look.seen
                panels.append((look, facts))
        if panels:
            made.plots.append(desk.keep(_plot(panels), ".svg"))
    finally:
        recording.close()
    return made


def _facts(recording: Any, channel: int) -> dict[str, Any]:
    return {
        "name": recording.getLabel(channel).strip(),
        "unit": recording.getPhysicalDimension(channel).strip(),
        "rate": float(recording.getSampleFrequency(channel)),
        "samples": int(recording.getNSamples()[channel]),
    }


def _look(recording: Any, channel: int, samples: int, until: float) -> measure.Look:
    def read(start: int, stop: int) -> NDArray[Any]:
        values: NDArray[Any] = recording.readSignal(channel, start, stop - start)
        return values[:, None]

    return measure.look(read, samples, 1, until)


def _plot(panels: list[tuple[measure.Look, dict[str, Any]]]) -> bytes:
    # Channels of different rates share the axis of time: all are brought to the same columns.
    columns = max(len(look.lower) for look, _ in panels)
    seconds = min(look.seen / facts["rate"] for look, facts in panels)
    lines = []
    for look, facts in panels:
        at = (np.arange(columns) * seconds / columns * facts["rate"] / look.step).astype(int)
        at = at.clip(0, len(look.lower) - 1)
        lines.append(svg.Line(look.lower[at, 0], look.upper[at, 0], facts["name"], facts["unit"]))
    return svg.lines(lines, svg.Axis("time (s)", 0.0, seconds), seconds / columns)
