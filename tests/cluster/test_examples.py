"""The examples on a real Slurm, with the packages of the field: what they find is what is true."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import soundfile
from client import Client
from sites import client_of, served

from nias_bridge.assets import asset
from nias_bridge.localcluster import LocalCluster
from nias_bridge.node import layout
from nias_bridge.site import Site, running

EXAMPLES = ("audio-features", "eeg-bands", "power-spectrum")

RATE = 250  # of the EEG, samples per second
HEART_RATE = 72.0
HEART = f"""
import heartpy, json, numpy as np
rate = 100
time = np.arange(60 * rate) / rate
pulse = np.exp(3 * np.cos(2 * np.pi * {HEART_RATE} / 60 * time))
pulse += np.random.default_rng(7).normal(scale=0.3, size=time.size)
_, measures = heartpy.process(pulse, rate)
with open("output/metrics.json", "w") as file:
    json.dump({{"bpm": measures["bpm"]}}, file)
"""


class Ended(NamedTuple):
    """A run that ended, and what it left."""

    run: dict[str, Any]
    files: dict[str, bytes]


def table(content: bytes) -> dict[str, np.ndarray]:
    """The columns of a CSV file with a header, as numbers where they are such."""
    header, *rows = csv.reader(io.StringIO(content.decode()))
    return {
        name: np.array(column, float) if column[0][0].isdigit() else np.array(column)
        for name, column in zip(header, zip(*rows, strict=True), strict=True)
    }


@pytest.fixture(scope="module")
def site(cluster: LocalCluster, make_site: Callable[..., Site]) -> Iterator[Site]:
    """One whose nodes make previews."""
    with served(make_site(cluster, previews=True)) as made, running(made, "poll"):
        yield made


@pytest.fixture(scope="module")
def client(site: Site) -> Client:
    return client_of(site)


@pytest.fixture(scope="module")
def sent(client: Client) -> dict[str, int]:
    """All of them under way at once; the runs' ids by name."""
    heart = client.upload(HEART, more={"requirements.txt": "heartpy\n"})["id"]
    return {"heart": heart, **{name: send(client, name) for name in EXAMPLES}}


@pytest.fixture(scope="module")
def ended(client: Client, sent: dict[str, int]) -> dict[str, Ended]:
    """The examples, COMPLETED, by name."""
    known = {}
    for name in EXAMPLES:
        run = client.ended(sent[name], seconds=180)
        assert run["state"] == "COMPLETED", (name, client.log(run["id"]))
        known[name] = Ended(run, client.results(run["id"]))
    return known


@pytest.fixture(scope="module")
def seen(site: Site, ended: dict[str, Ended]) -> dict[str, Any]:
    """The previews of each example's files, by name and path."""
    known = {}
    for name in ended:
        (index,) = site.state.glob(f"shared/{layout.RUNS}/*/{name}*/1/previews/index.json")
        known[name] = json.loads(index.read_text())["files"]
    return known


def send(client: Client, name: str) -> int:
    """Upload an example as a researcher would; returns the run's id."""
    folder = asset("examples") / name
    files = {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    code = files.pop("code.py").decode()
    return int(client.upload(code, name=name, more=files, again="1")["id"])


def test_heartpy_finds_the_heart_rate_once_its_environment_is_corrected(
    client: Client, sent: dict[str, int]
) -> None:
    """It imports pkg_resources without asking for it: what a newer setuptools has no longer."""
    wanting = client.ended(sent["heart"], seconds=180)
    assert wanting["diagnosis"]["rule"] == "needs-older-setuptools", wanting
    again = client.post(f"/api/v1/runs/{wanting['id']}/correct?rule=needs-older-setuptools")
    run = client.ended(again["id"], seconds=180)
    assert run["state"] == "COMPLETED", client.log(run["id"])
    measures = json.loads(client.results(run["id"])["metrics.json"])
    assert measures["bpm"] == pytest.approx(HEART_RATE, abs=0.5)


def test_no_package_complains_about_the_home_it_is_given(
    client: Client, ended: dict[str, Ended]
) -> None:
    for done in ended.values():
        assert "not a writable directory" not in client.log(done.run["id"])


def test_the_power_spectrum_has_its_two_tones(ended: dict[str, Ended]) -> None:
    peaks = json.loads(ended["power-spectrum"].files["peaks.json"])
    assert [peak["hertz"] for peak in peaks] == pytest.approx([50, 120], abs=0.5)


def test_the_onsets_of_the_sound_are_found_where_they_are(
    client: Client, ended: dict[str, Ended]
) -> None:
    audio = ended["audio-features"]
    log = client.log(audio.run["id"])
    told = log.partition("it gets louder at ")[2].partition(" s\n")[0]
    assert [float(second) for second in told.split(", ")] == pytest.approx(
        [0.5, 2.5, 3.1, 3.7, 4.3], abs=0.03
    )
    assert json.loads(audio.files["metrics.json"])["onsets"] == 5


def test_the_spectral_centroid_follows_the_rising_tone(ended: dict[str, Ended]) -> None:
    features = table(ended["audio-features"].files["features.csv"])
    rising = (features["seconds"] > 0.6) & (features["seconds"] < 1.9)
    truth = 300 + (3000 - 300) * (features["seconds"][rising] - 0.5) / 1.5
    assert features["centroid_hz"][rising] == pytest.approx(truth, rel=0.02)


def test_the_cleaned_sound_has_lost_its_hum_and_nothing_else(ended: dict[str, Ended]) -> None:
    files = ended["audio-features"].files

    def strength(name: str, hertz: float) -> float:
        sound, rate = soundfile.read(io.BytesIO(files[name]))
        return abs(sound @ np.exp(-2j * np.pi * hertz * np.arange(len(sound)) / rate)) / len(sound)

    assert strength("recording.wav", 50) == pytest.approx(0.05 / 2, rel=0.05)
    assert strength("cleaned.flac", 50) < 1e-5
    assert strength("cleaned.flac", 720) > strength("recording.wav", 720)


def test_each_rhythm_of_the_eeg_is_in_its_band_with_its_power(ended: dict[str, Ended]) -> None:
    bands = table(ended["eeg-bands"].files["bands.csv"])
    assert list(bands["channel"]) == ["Fp1", "Cz", "O1", "O2"]
    assert list(bands["peak_hz"]) == [6, 20, 10, 10]
    # A sine of amplitude A has the power A²/2; alpha is a quarter as strong with open eyes.
    alpha_share = (1 / 3) + (2 / 3) / 16
    assert bands["theta"][0] == pytest.approx(12**2 / 2, rel=0.03)
    assert bands["beta"][1] == pytest.approx(8**2 / 2, rel=0.03)
    assert bands["alpha"][2] == pytest.approx(20**2 / 2 * alpha_share, rel=0.03)
    assert bands["alpha"][3] == pytest.approx(16**2 / 2 * alpha_share, rel=0.03)


def test_alpha_is_four_times_as_strong_while_the_eyes_are_closed(ended: dict[str, Ended]) -> None:
    with h5py.File(io.BytesIO(ended["eeg-bands"].files["alpha.h5"])) as file:
        alpha = file["alpha"][2].reshape(60, -1).mean(axis=1)
    assert alpha[21:39].mean() == pytest.approx(20, rel=0.05)
    assert alpha[1:19].mean() == pytest.approx(5, rel=0.1)


def test_the_excerpt_is_an_edf_file_that_another_program_reads(
    ended: dict[str, Ended], tmp_path: Path
) -> None:
    pyedflib = pytest.importorskip("pyedflib", reason="it has no wheels for this Python")
    path = tmp_path / "excerpt.edf"
    path.write_bytes(ended["eeg-bands"].files["eyes-closing.edf"])
    with pyedflib.EdfReader(str(path)) as edf:
        assert edf.getSignalLabels() == ["Fp1", "Cz", "O1", "O2"]
        assert edf.getFileDuration() == 10
        onset, _, text = edf.readAnnotations()
        occipital = edf.readSignal(2)
    assert (list(onset), list(text)) == ([5], ["eyes closed"])
    assert occipital[1300:].std() == pytest.approx(20 / 2**0.5, rel=0.1)
    assert occipital[:1200].std() == pytest.approx(5 / 2**0.5, rel=0.1)


def facts(preview: dict[str, Any], name: str) -> dict[str, Any]:
    """What a preview tells of one part of its file."""
    return next(part for part in preview["summary"] if part.get("name") == name)


def test_every_file_of_the_examples_has_a_preview_without_an_error(
    ended: dict[str, Ended], seen: dict[str, Any]
) -> None:
    for name, example in ended.items():
        assert set(example.files) <= set(seen[name]), name
        assert not [look["error"] for look in seen[name].values() if look["error"]]


def test_a_sound_is_seen_with_its_length_waveform_and_spectrogram(seen: dict[str, Any]) -> None:
    for name in ("recording.wav", "cleaned.flac"):
        look = seen["audio-features"][name]
        (told,) = look["summary"]
        assert (told["rate"], told["channels"], told["seconds"]) == (16000, 1, 5.0)
        assert len(look["plots"]) == 2
    assert told["peak"] == pytest.approx(0.9, abs=1e-3)


def test_the_edf_file_is_seen_with_its_channels(seen: dict[str, Any]) -> None:
    look = seen["eeg-bands"]["eyes-closing.edf"]
    about, *channels = look["summary"]
    assert (about["channels"], about["seconds"], about["annotations"]) == (4, 10, 1)
    assert [(c["name"], c["unit"], c["rate"]) for c in channels] == [
        (name, "uV", 250) for name in ("Fp1", "Cz", "O1", "O2")
    ]
    assert channels[2]["max"] == pytest.approx(20, abs=5)
    assert len(look["plots"]) == 1


def test_arrays_are_seen_with_their_shapes_and_extremes(seen: dict[str, Any]) -> None:
    previews = seen["eeg-bands"]
    assert facts(previews["spectra.npz"], "power")["shape"] == [4, 251]
    assert facts(previews["spectra.npz"], "frequency")["max"] == RATE / 2
    alpha = facts(previews["alpha.h5"], "alpha")
    assert (alpha["shape"], alpha["dtype"]) == ([4, 60 * RATE], "float32")
    assert alpha["max"] == pytest.approx(20, abs=3)


def test_tables_are_seen_with_their_columns_and_first_rows(seen: dict[str, Any]) -> None:
    bands = seen["eeg-bands"]["bands.csv"]
    assert bands["rows"][0] == ["channel", "delta", "theta", "alpha", "beta", "peak_hz"]
    assert [row[0] for row in bands["rows"][1:]] == ["Fp1", "Cz", "O1", "O2"]
    features = seen["audio-features"]["features.csv"]
    assert facts(features, "rms")["max"] == pytest.approx(0.2163, abs=1e-3)
    assert len(features["plots"]) == 3  # over the seconds of its first column


def test_pictures_are_seen_small(seen: dict[str, Any]) -> None:
    (told,) = seen["eeg-bands"]["bands.png"]["summary"]
    assert (told["width"], told["height"], told["format"]) == (1210, 440, "PNG")
