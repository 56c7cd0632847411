"""How much of each rhythm is in an EEG: the power of its bands, channel by channel.

The recording is made here, as an EDF file: a minute of four channels, with eyes closed in the
middle of it. output/ gets the bands as a table and a figure, the alpha rhythm's course (HDF5), the
spectra (NPZ), and the seconds around the closing of the eyes as an EDF file of their own.
"""

import csv
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import mne
import numpy as np
from scipy import signal

RATE = 250  # samples per second
SECONDS = 60
CLOSED = (20, 40)  # seconds between which the eyes are closed
RHYTHMS = {"Fp1": (6, 12), "Cz": (20, 8), "O1": (10, 20), "O2": (10, 16)}  # hertz, µV
BANDS = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30)}  # hertz
RECORDING = Path("recording.edf")
OUTPUT = Path("output")

mne.set_log_level("warning")


def record():
    """An EDF file: a rhythm in each channel, over a drift. Alpha is weak while eyes are open."""
    time = np.arange(RATE * SECONDS) / RATE
    rng = np.random.default_rng(seed=7)
    channels = []
    for hertz, microvolts in RHYTHMS.values():
        closed = (time >= CLOSED[0]) & (time < CLOSED[1])
        strength = np.where(closed, 1, 0.25) if hertz == 10 else 1
        drift = signal.lfilter([0.5], [1, -0.95], rng.normal(size=time.size))
        channels.append(microvolts * strength * np.sin(2 * np.pi * hertz * time) + drift)
    raw = mne.io.RawArray(np.array(channels) * 1e-6, mne.create_info(list(RHYTHMS), RATE, "eeg"))
    raw.set_annotations(mne.Annotations(CLOSED[0], CLOSED[1] - CLOSED[0], "eyes closed"))
    raw.export(RECORDING, overwrite=True)


def band_powers(frequency, power):
    """The power of each channel in each band, in µV²."""
    step = frequency[1]
    return np.array(
        [power[:, (frequency >= low) & (frequency < high)].sum(axis=1) * step
         for low, high in BANDS.values()]
    ).T  # fmt: skip


def alpha_course(microvolts):
    """The strength of the alpha rhythm at each moment, in µV."""
    alpha = signal.butter(4, BANDS["alpha"], "bandpass", fs=RATE, output="sos")
    return np.abs(signal.hilbert(signal.sosfiltfilt(alpha, microvolts)))


def draw(path, names, frequency, power, course):
    """The spectra beside the course of alpha."""
    figure, (spectra, alpha) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    spectra.semilogy(frequency, power.T, label=names)
    spectra.set(xlabel="frequency (Hz)", ylabel="power (µV²/Hz)", xlim=(0, 40))
    spectra.legend()
    alpha.plot(np.arange(course.shape[1]) / RATE, course.T, linewidth=0.7)
    alpha.axvspan(*CLOSED, color="0.9", zorder=0)
    alpha.set(xlabel="time (s), eyes closed in grey", ylabel="alpha (µV)")
    figure.savefig(path, dpi=110)


def main():
    record()
    raw = mne.io.read_raw_edf(RECORDING, preload=True)
    names, microvolts = raw.ch_names, raw.get_data() * 1e6
    print(f"{len(names)} channels, {SECONDS} s at {raw.info['sfreq']:g} Hz: {', '.join(names)}")

    frequency, power = signal.welch(microvolts, fs=RATE, nperseg=2 * RATE)
    bands = band_powers(frequency, power)
    course = alpha_course(microvolts)

    OUTPUT.mkdir(exist_ok=True)
    with (OUTPUT / "bands.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["channel", *BANDS, "peak_hz"])
        for name, row, spectrum in zip(names, bands, power):
            peak = frequency[spectrum.argmax()]
            table.writerow([name, *row.round(2), peak])
            print(f"{name}: {list(BANDS)[row.argmax()]} most of all, peak at {peak:g} Hz")
    np.savez_compressed(OUTPUT / "spectra.npz", frequency=frequency, power=power)
    with h5py.File(OUTPUT / "alpha.h5", "w") as file:
        made = file.create_dataset("alpha", data=course.astype("f4"), compression="gzip")
        made.attrs.update(units="µV", rate=RATE, channels=names)
    around = raw.copy().crop(CLOSED[0] - 5, CLOSED[0] + 5, include_tmax=False)
    around.export(OUTPUT / "eyes-closing.edf", overwrite=True)
    draw(OUTPUT / "bands.png", names, frequency, power, course)
    print("wrote bands.csv, spectra.npz, alpha.h5, eyes-closing.edf and bands.png to output/")


if __name__ == "__main__":
    main()
