"""One low-pass filter of a bank, tried on a noisy 10 Hz tone: how much noise is left, and its response.

Each task of the sweep (see nias.toml) is told its cutoff in Hz and its window by the environment.
"""

import json
import os
import struct
import zlib

import numpy as np
from scipy import signal

RATE = 1000.0  # Hz
TAPS = 201


def main():
    cutoff = float(os.environ["NIAS_PARAM_CUTOFF"])
    window = os.environ["NIAS_PARAM_WINDOW"]
    taps = signal.firwin(TAPS, cutoff, window=window, fs=RATE)
    frequency, response = signal.freqz(taps, worN=2048, fs=RATE)
    gain = 20 * np.log10(np.maximum(np.abs(response), 1e-8))

    time = np.arange(20 * int(RATE)) / RATE
    tone = np.sin(2 * np.pi * 10 * time)
    noisy = tone + np.random.default_rng(1).normal(scale=1.0, size=time.size)
    filtered = signal.filtfilt(taps, [1.0], noisy)
    rest = (filtered - tone)[TAPS:-TAPS]

    metrics = {
        "noise_left": float(np.std(rest)),
        "gain_at_cutoff_db": float(np.interp(cutoff, frequency, gain)),
        "stopband_db": float(gain[frequency > cutoff + 20].max()),
    }
    with open("output/metrics.json", "w") as file:
        json.dump(metrics, file, indent=1)
    np.savetxt("output/taps.csv", taps, header="tap", comments="")
    with open("output/response.png", "wb") as file:
        file.write(png(curve(np.clip(gain, -120, 5), 480, 200)))
    print(f"{window} at {cutoff:g} Hz leaves {metrics['noise_left']:.3f} of the noise")


def curve(values, width, height):
    """The curve of these values as a grey picture, its frequencies from 0 to 200 Hz."""
    shown = values[: int(len(values) * 200 / (RATE / 2))]
    heights = np.interp(np.linspace(0, len(shown) - 1, width), np.arange(len(shown)), shown)
    rows = ((5 - heights) / 125 * (height - 1)).round().astype(int)
    picture = np.full((height, width), 255, np.uint8)
    for x in range(width):
        low, high = sorted((rows[max(0, x - 1)], rows[x]))
        picture[max(0, low - 1) : high + 2, x] = 30
    return picture


def png(grey):
    """A grey picture as PNG, so that no package for plots is needed."""
    height, width = grey.shape

    def chunk(kind, data):
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    lines = b"".join(b"\0" + row.tobytes() for row in grey)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


main()
