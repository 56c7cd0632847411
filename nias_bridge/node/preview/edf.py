"""EDF and BDF: the channels of a recording, and the first of them above each other.

Read by ourselves, as it is a header of fixed fields before 16- or 24-bit numbers: no package that
reads it has wheels for every Python, and a recording that was cut short can be shown too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from . import measure, svg
from .record import Desk, NoPreview, Preview

_LISTED_MAX = 256
_HEADER = 256  # bytes, and as many for each channel
# The fields of a channel and their widths; each field stands there for all channels in turn.
_FIELDS = (
    ("label", 16), ("transducer", 80), ("unit", 8), ("physical_min", 8), ("physical_max", 8),
    ("digital_min", 8), ("digital_max", 8), ("filter", 80), ("samples", 8), ("reserved", 32),
)  # fmt: skip
_ANNOTATIONS_READ = 16_000_000  # bytes


@dataclass(frozen=True)
class _Channel:
    """A channel: `samples` values in each record, at byte `offset` of it."""

    label: str
    unit: str
    samples: int
    offset: int
    gain: float
    zero: float


@dataclass(frozen=True)
class _Recording:
    """The records as rows of bytes, and how to read them; seconds: of one record."""

    records: NDArray[Any]
    width: int
    seconds: float
    start: str
    kind: str
    channels: tuple[_Channel, ...]
    annotated: tuple[_Channel, ...]


def preview(file: BinaryIO, desk: Desk) -> Preview:
    """The recording's length and channels; facts of the channels that are drawn."""
    try:
        recording = _opened(file)
    except ValueError:
        raise NoPreview("its header is not that of an EDF or BDF file") from None
    about = {
        "format": recording.kind,
        "channels": len(recording.channels),
        "seconds": len(recording.records) * recording.seconds,
        "annotations": sum(_annotations(recording, c) for c in recording.annotated),
        "start": recording.start,
    }
    if recording.kind.endswith("D"):
        about["note"] = "the recording has gaps, which are not shown"
    made = Preview(desk.kind, [about])
    drawn = []
    for number, channel in enumerate(recording.channels[:_LISTED_MAX]):
        rate = channel.samples / recording.seconds
        length = channel.samples * len(recording.records)
        facts = {"name": channel.label, "unit": channel.unit, "rate": rate, "samples": length}
        made.summary.append(facts)
        if number < measure.CHANNELS and length:
            look = measure.look(_reader(recording, channel), length, 1, desk.until)
            facts.update(look.facts(whole=False))
            if look.seen < length:
                facts["looked_at"] = look.seen
            drawn.append((look, channel, rate))
    if drawn:
        made.plots.append(desk.keep(_plot(drawn), ".svg"))
    return made


def _opened(file: BinaryIO) -> _Recording:
    head = file.read(_HEADER)
    if head[:8] not in (b"0       ", b"\xffBIOSEMI"):
        raise ValueError("neither EDF nor BDF")
    words = head.decode("latin-1")
    name, width = ("BDF", 3) if head[0] == 0xFF else ("EDF", 2)
    seconds, count = float(words[244:252]), int(words[252:256])
    fields = {
        field: [file.read(size).decode("latin-1").strip() for _ in range(count)]
        for field, size in _FIELDS
    }
    channels = []
    offset = 0
    for number in range(count):
        channel = _channel({field: of_all[number] for field, of_all in fields.items()}, offset)
        channels.append(channel)
        offset += channel.samples * width
    if not (count > 0 and offset > 0 and 0 < seconds < np.inf):
        raise ValueError("no channels or no time")
    start = _HEADER * (count + 1)
    there = (file.seek(0, 2) - start) // offset
    told = int(words[236:244])
    records = there if told < 0 else min(told, there)
    mapped: Any = np.empty((0, offset), np.uint8)
    if records > 0:
        mapped = np.memmap(file, np.uint8, "r", start, (records, offset))
    marked = [channel.label.endswith(" Annotations") for channel in channels]
    return _Recording(
        records=mapped,
        width=width,
        seconds=seconds,
        start=f"{words[168:176].strip()} {words[176:184].strip()}",
        kind=words[192:197] if words[195:197] in ("+C", "+D") else name,
        channels=tuple(c for c, is_marked in zip(channels, marked) if not is_marked),
        annotated=tuple(c for c, is_marked in zip(channels, marked) if is_marked),
    )


def _channel(fields: dict[str, str], offset: int) -> _Channel:
    low, high, digital_low, digital_high = (
        float(fields[name])
        for name in ("physical_min", "physical_max", "digital_min", "digital_max")
    )
    samples = int(fields["samples"])
    if samples < 0 or digital_low == digital_high or not np.isfinite([low, high]).all():
        raise ValueError("no scale")
    gain = (high - low) / (digital_high - digital_low)
    return _Channel(
        fields["label"], fields["unit"], samples, offset, gain, low - gain * digital_low
    )


def _reader(recording: _Recording, channel: _Channel) -> measure.Read:
    def read(start: int, stop: int) -> NDArray[Any]:
        first, last = start // channel.samples, -(-stop // channel.samples)
        raw = _bytes(recording, channel, first, last).reshape(-1, recording.width)
        numbers = np.zeros((len(raw), 4), np.uint8)
        numbers[:, 4 - recording.width :] = raw  # on top, so that the sign is right
        values = (numbers.view("<i4")[:, 0] >> (8 * (4 - recording.width))).astype(np.float64)
        values = values[start - first * channel.samples :][: stop - start]
        return (values * channel.gain + channel.zero)[:, None]

    return read


def _bytes(recording: _Recording, channel: _Channel, first: int, last: int) -> NDArray[Any]:
    stop = channel.offset + channel.samples * recording.width
    taken: NDArray[Any] = np.ascontiguousarray(recording.records[first:last, channel.offset : stop])
    return taken


def _annotations(recording: _Recording, channel: _Channel) -> int:
    each = max(1, channel.samples * recording.width)
    content = _bytes(recording, channel, 0, max(1, _ANNOTATIONS_READ // each)).tobytes()
    return sum(1 for _ in _texts(content))


def _texts(content: bytes) -> Iterator[bytes]:
    # Lists of "onset, 0x14, text, 0x14, …", ended by zeros; the one that keeps time has no text.
    for listed in content.split(b"\0"):
        yield from filter(None, listed.split(b"\x14")[1:])


def _plot(drawn: list[tuple[measure.Look, _Channel, float]]) -> bytes:
    # Channels of different rates share the axis of time: all are brought to the same columns.
    columns = max(len(look.lower) for look, _, _ in drawn)
    seconds = min(look.seen / rate for look, _, rate in drawn)
    panels = []
    for look, channel, rate in drawn:
        at = (np.arange(columns) * seconds / columns * rate / look.step).astype(int)
        at = at.clip(0, len(look.lower) - 1)
        panels.append(svg.Line(look.lower[at, 0], look.upper[at, 0], channel.label, channel.unit))
    return svg.lines(panels, svg.Axis("time (s)", 0.0, seconds), seconds / columns)
