from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from previews import previews_of

pyedflib = pytest.importorskip("pyedflib", reason="pyedflib has no wheels for this Python")

RATES = {"Fp1": 200, "Resp": 25}
HEADER = {"dimension": "uV", "physical_max": 100, "physical_min": -100}


def write(path: Path, kind: int, bits: int) -> None:
    scale = {"digital_max": 2 ** (bits - 1) - 1, "digital_min": -(2 ** (bits - 1))}
    with pyedflib.EdfWriter(str(path), len(RATES), kind) as file:
        file.setSignalHeaders(
            [{**HEADER, **scale, "label": n, "sample_frequency": r} for n, r in RATES.items()]
        )
        file.writeSamples([np.linspace(-50, 70, 200 * 5), np.full(25 * 5, -3.0)])
        if kind in (pyedflib.FILETYPE_EDFPLUS, pyedflib.FILETYPE_BDFPLUS):
            file.writeAnnotation(1, -1, "blink")
            file.writeAnnotation(2, 0.5, "olhos fechados")


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("run") / "output"
    output.mkdir()
    write(output / "night.edf", pyedflib.FILETYPE_EDFPLUS, 16)
    write(output / "night.bdf", pyedflib.FILETYPE_BDFPLUS, 24)
    write(output / "plain.edf", pyedflib.FILETYPE_EDF, 16)
    content = (output / "night.edf").read_bytes()
    (output / "cut.edf").write_bytes(content[: -len(content) // 3])
    (output / "header-only.edf").write_bytes(content[: 256 * 4])
    (output / "many.edf").write_bytes(content[:252] + b"9999" + content[256:])
    (output / "timeless.edf").write_bytes(content[:244] + b"nan     " + content[252:])
    return previews_of(output)


@pytest.mark.parametrize(
    ("name", "kind", "annotations"),
    [("night.edf", "EDF+C", 2), ("night.bdf", "BDF+C", 2), ("plain.edf", "EDF", 0)],
)
def test_a_recording_names_its_channels(
    entries: dict[str, Any], name: str, kind: str, annotations: int
):
    entry = entries[name]
    about, first, second = entry["summary"]
    assert (about["format"], about["channels"], about["seconds"]) == (kind, 2, 5.0)
    assert about["annotations"] == annotations
    assert (first["name"], first["unit"], first["rate"], first["samples"]) == (
        "Fp1", "uV", 200.0, 1000,
    )  # fmt: skip
    assert (first["min"], first["max"]) == pytest.approx((-50, 70), abs=0.01)
    assert first["mean"] == pytest.approx(10, abs=0.01)
    assert (second["min"], second["max"]) == pytest.approx((-3, -3), abs=0.01)
    assert len(entry["plots"]) == 1


def test_a_recording_that_was_cut_short_is_shown_as_far_as_it_goes(entries: dict[str, Any]):
    assert 0 < entries["cut.edf"]["summary"][0]["seconds"] < 5
    assert entries["header-only.edf"]["summary"][0]["seconds"] == 0
    assert entries["header-only.edf"]["error"] == ""


@pytest.mark.parametrize("name", ["many.edf", "timeless.edf"])
def test_a_header_that_cannot_be_true_is_refused(entries: dict[str, Any], name: str):
    assert entries[name]["kind"] == "other"
    assert "header" in entries[name]["error"]
