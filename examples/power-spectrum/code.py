"""Find two tones hidden in noise: the power spectrum of a signal, by Welch's method.

Everything that is left in output/ comes back: the spectrum as a table, its peaks, and a picture.
"""

import csv
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from scipy import signal

RATE = 1000  # samples per second
SECONDS = 60
TONES = {50.0: 0.6, 120.0: 0.3}  # frequency in Hz: amplitude
OUTPUT = Path("output")


def measure():
    """A minute of two tones in noise that is louder than both."""
    time = np.arange(RATE * SECONDS) / RATE
    noise = np.random.default_rng(seed=7).normal(scale=1.0, size=time.size)
    return sum(a * np.sin(2 * np.pi * f * time) for f, a in TONES.items()) + noise


def picture(frequency, decibel, peaks, width=960, height=400):
    """The spectrum as rows of RGB pixels: a line over its own shadow, a mark on each peak."""
    paper, grid, shade, ink, mark = (
        np.array(c, float)
        for c in ((255, 255, 255), (226, 234, 236), (214, 236, 234), (11, 107, 110), (200, 90, 40))
    )
    scale = 3  # drawn three times as large, then averaged: smooth edges
    w, h = width * scale, height * scale
    low, high = np.percentile(decibel, 1) - 6, decibel.max() + 3
    level = np.interp(np.linspace(0, frequency[-1], w), frequency, decibel)
    line = ((high - level) / (high - low) * (h - 1)).astype(int)
    rows = np.arange(h)[:, None]

    pixels = np.tile(paper, (h, w, 1))
    for hertz in range(50, int(frequency[-1]), 50):
        x = int(hertz / frequency[-1] * w)
        pixels[:, x : x + scale] = grid
    for db in range(int(np.ceil(low / 10)) * 10, int(high), 10):
        y = int((high - db) / (high - low) * (h - 1))
        pixels[y : y + scale] = grid
    pixels[rows > line] = pixels[rows > line] * 0.25 + shade * 0.75
    for hertz in peaks:
        x = int(hertz / frequency[-1] * w)
        pixels[: line[x], x - scale : x + scale] = mark
    top, bottom = np.minimum(line, np.roll(line, 1)), np.maximum(line, np.roll(line, 1))
    pixels[(rows >= top - 2 * scale) & (rows <= bottom + 2 * scale)] = ink
    return pixels.reshape(height, scale, width, scale, 3).mean(axis=(1, 3)).astype(np.uint8)


def write_png(path, pixels):
    """Pixels as a PNG file."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def main():
    recording = measure()
    print(f"{recording.size} samples, {SECONDS} s at {RATE} Hz")

    frequency, power = signal.welch(recording, fs=RATE, nperseg=2000)
    decibel = 10 * np.log10(power)
    found, _ = signal.find_peaks(decibel, prominence=6)
    peaks = [{"hertz": round(frequency[i], 1), "decibel": round(decibel[i], 1)} for i in found]
    for peak in peaks:
        print(f"peak at {peak['hertz']} Hz, {peak['decibel']} dB")

    OUTPUT.mkdir(exist_ok=True)
    with (OUTPUT / "spectrum.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["hertz", "power"])
        table.writerows(zip(frequency.round(3), power))
    (OUTPUT / "peaks.json").write_text(json.dumps(peaks, indent=2) + "\n")
    write_png(OUTPUT / "spectrum.png", picture(frequency, decibel, [p["hertz"] for p in peaks]))
    print("wrote spectrum.csv, peaks.json and spectrum.png to output/")


if __name__ == "__main__":
    main()
