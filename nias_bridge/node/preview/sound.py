"""Sound: its facts, its waveform with all peaks, and its spectrogram."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from . import measure, svg
from .record import Desk, Preview

_WINDOW = 1024  # samples of one spectrum
_COLUMNS = 660  # spectra of a picture
_SPECTRA_EACH = 4  # of which a column shows the greatest
_FLOOR = -90.0  # dB below the loudest that are still told apart


def preview(file: BinaryIO, desk: Desk) -> Preview:
    """Rate, channels, length, peak and RMS (1.0 is full scale), and two pictures."""
    made = Preview(desk.kind)
    with soundfile.SoundFile(file) as sound:

        def read(start: int, stop: int) -> NDArray[Any]:
            sound.seek(start)
            samples: NDArray[Any] = sound.read(stop - start, dtype="float32", always_2d=True)
            return samples

        rate, channels = sound.samplerate, sound.channels
        look = measure.look(read, sound.frames, channels, desk.until)
        facts: dict[str, Any] = {
            "format": f"{sound.format_info}, {sound.subtype_info}",
            "rate": rate,
            "channels": channels,
            "samples": sound.frames,
            "seconds": sound.frames / rate,
            "rms": look.rms,
        }
        made.summary.append(facts)
        if not look.seen:
            return made
        if not np.isnan(look.upper).all():
            facts["peak"] = float(max(np.nanmax(look.upper), -np.nanmin(look.lower)))
        if look.seen < sound.frames:
            facts["looked_at"] = look.seen
        shown = min(channels, measure.CHANNELS)
        names = ["amplitude"] if channels == 1 else [f"channel {n + 1}" for n in range(shown)]
        panels = [svg.Line(look.lower[:, n], look.upper[:, n], names[n]) for n in range(shown)]
        across = svg.Axis("time (s)", 0.0, look.seen / rate)
        made.plots.append(desk.keep(svg.lines(panels, across, look.step / rate), ".svg"))
        if look.seen >= _WINDOW:
            made.plots.append(desk.keep(_spectrogram(read, look.seen, rate), ".svg"))
    return made


def _spectrogram(read: measure.Read, length: int, rate: int) -> bytes:
    taper = np.hanning(_WINDOW)
    last = length - _WINDOW
    columns = min(_COLUMNS, 1 + last // (_WINDOW // 4))
    each = max(1, min(_SPECTRA_EACH, last // max(1, columns - 1) // _WINDOW))
    power = np.empty((_WINDOW // 2 + 1, columns))
    for column in range(columns):
        # Up to four spectra from where the column begins: a click between them may be missed,
        # but the waveform shows it.
        start = last * column // max(1, columns - 1)
        samples = read(start, start + each * _WINDOW).mean(axis=1)
        pieces = samples[: len(samples) // _WINDOW * _WINDOW].reshape(-1, _WINDOW)
        spectra = np.abs(np.fft.rfft(np.nan_to_num(pieces) * taper, axis=1))
        power[:, column] = spectra.max(axis=0) if len(pieces) else 0.0
    loudest = power.max() or 1.0
    decibels = 20 * np.log10(np.maximum(power / loudest, 10 ** (_FLOOR / 20)))
    return svg.picture(
        decibels[::-1],
        svg.Axis("time (s)", 0.0, length / rate),
        svg.Axis("frequency (kHz)", 0.0, rate / 2000),
        "dB",
        span=svg.Axis("", _FLOOR, 0.0),
    )
