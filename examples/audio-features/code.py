"""Hear a recording by numbers: loudness, spectral centroid and onsets, ten milliseconds at a time.

The recording is made here: a rising tone and four syllables, over hiss and the hum of the mains.
output/ gets it back without the hum, to listen to, with its features as a table and a figure.
"""

import csv
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import soundfile

RATE = 16000  # samples per second
SECONDS = 5.0
SWEEP = (0.5, 2.0, 300.0, 3000.0)  # from second to second, from hertz to hertz
SYLLABLES = (2.5, 3.1, 3.7, 4.3)  # seconds at which they begin
VOICE = 120  # Hz
FORMANTS = ((700, 130), (1200, 180), (2600, 300))  # of an "a": hertz and width
HUM = 50  # Hz

FRAME = 512  # samples that a feature is measured on
HOP = RATE // 100  # samples from one frame to the next
RISE = 10.0  # decibel within 50 ms that make an onset
OUTPUT = Path("output")


def record():
    """The recording, with all that disturbs it."""
    time = np.arange(int(SECONDS * RATE)) / RATE
    rng = np.random.default_rng(seed=7)
    sound = 0.05 * np.sin(2 * np.pi * HUM * time) + rng.normal(scale=0.001, size=time.size)

    start, stop, low, high = SWEEP
    inside = (time >= start) & (time < stop)
    t = time[inside] - start
    sound[inside] += 0.2 * np.sin(2 * np.pi * (low * t + (high - low) / (stop - start) * t**2 / 2))

    for begins in SYLLABLES:
        inside = (time >= begins) & (time < begins + 0.3)
        t = time[inside] - begins
        loudness = np.minimum(t / 0.02, 1) * np.exp(-6 * t)
        sound[inside] += 0.12 * loudness * vowel(t)
    return sound


def vowel(time):
    """The voice's harmonics, those near a formant the loudest."""
    harmonics = np.arange(VOICE, 5000, VOICE)
    weights = sum(np.exp(-(((harmonics - f) / width) ** 2)) for f, width in FORMANTS)
    return np.sin(2 * np.pi * np.outer(time, harmonics)) @ weights


def without_hum(sound, below=80):
    """The sound without what lies below a frequency in Hz, as loud as it may be."""
    spectrum = np.fft.rfft(sound)
    spectrum[np.fft.rfftfreq(sound.size, 1 / RATE) < below] = 0
    cleaned = np.fft.irfft(spectrum, sound.size)
    return 0.9 * cleaned / np.abs(cleaned).max()


def measure(sound):
    """The spectrogram, and the features of each frame as columns by their names."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME))) ** 2
    frequency = np.fft.rfftfreq(FRAME, 1 / RATE)

    rms = np.sqrt((frames**2).mean(axis=1))
    level = 20 * np.log10(rms)
    before = np.concatenate([level[:1].repeat(5), level[:-5]])  # 50 ms ago
    features = {
        "seconds": (np.arange(len(frames)) * HOP + FRAME / 2) / RATE,
        "rms": rms,
        "centroid_hz": (power @ frequency) / power.sum(axis=1),
        "rise_db": np.maximum(level - before, 0),
    }
    return power, features


def onsets(seconds, rise):
    """The times at which the sound begins to be louder, by more than RISE."""
    loud = rise > RISE
    begins = loud & ~np.concatenate([[False], loud[:-1]])
    return [round(float(second), 2) for second in seconds[begins]]


def draw(path, sound, power, features, found):
    """Waveform, spectrogram and loudness above each other, a line at each onset."""
    figure, (wave, image, loudness) = plt.subplots(
        3, sharex=True, figsize=(9, 7), layout="constrained"
    )
    wave.plot(np.arange(sound.size) / RATE, sound, linewidth=0.4)
    wave.set_ylabel("amplitude")
    image.imshow(
        10 * np.log10(power.T + 1e-6),
        origin="lower",
        aspect="auto",
        extent=(0, SECONDS, 0, RATE / 2000),
        cmap="magma",
    )
    image.plot(features["seconds"], features["centroid_hz"] / 1000, color="cyan", linewidth=0.8)
    image.set_ylabel("frequency (kHz)")
    loudness.plot(features["seconds"], features["rms"])
    loudness.set(ylabel="RMS", xlabel="time (s)")
    for second in found:
        loudness.axvline(second, color="tab:red", linewidth=0.8)
    figure.savefig(path, dpi=110)


def main():
    recording = record()
    cleaned = without_hum(recording)
    power, features = measure(cleaned)
    found = onsets(features["seconds"], features["rise_db"])
    print(f"{SECONDS} s at {RATE} Hz; it gets louder at {', '.join(map(str, found))} s")

    OUTPUT.mkdir(exist_ok=True)
    soundfile.write(OUTPUT / "recording.wav", recording, RATE)
    soundfile.write(OUTPUT / "cleaned.flac", cleaned, RATE)
    with (OUTPUT / "features.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(features)
        table.writerows(np.column_stack(list(features.values())).round(5).tolist())
    centroid = np.average(features["centroid_hz"], weights=features["rms"])
    metrics = {
        "onsets": len(found),
        "first_onset_s": found[0],
        "mean_centroid_hz": round(float(centroid), 1),
        "loudest_rms": round(float(features["rms"].max()), 4),
    }
    (OUTPUT / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    draw(OUTPUT / "features.png", cleaned, power, features, found)
    print("wrote two sounds, features.csv, features.png and metrics.json to output/")


if __name__ == "__main__":
    main()
