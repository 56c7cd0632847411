from __future__ import annotations

import base64
import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import soundfile
from PIL import Image
from previews import pictures_of, previews_of

RATE = 8000


def make_arrays(folder: Path) -> None:
    long = np.zeros(300_000)
    long[123_456] = 9.5
    long[200_000:220_000] = np.nan
    long[5] = np.inf
    np.save(folder / "long.npy", long)
    np.save(folder / "channels.npy", np.asfortranarray(np.arange(12_000.0).reshape(3, 4000)))
    np.save(folder / "matrix.npy", np.arange(3000).reshape(50, 60))
    np.save(folder / "volume.npy", np.ones((4, 5, 6), "f4"))
    np.save(folder / "empty.npy", np.empty((0, 3)))
    np.save(folder / "words.npy", np.array(["a", "b"]))
    np.savez_compressed(
        folder / "many.npz", signal=np.arange(100), wave=np.exp(1j * np.arange(50)), one=7
    )
    structure = {"fs": 250, "data": np.ones((20, 2))}
    scipy.io.savemat(folder / "old.mat", {"x": np.arange(30.0), "who": "S01", "s": structure})
    with h5py.File(folder / "tree.h5", "w") as file:
        data = file.create_dataset("eeg/data", data=np.ones((2, 5000)), compression="gzip")
        data.attrs["units"] = "µV"
        file["note"] = "hello"
        file["again"] = file["/"]
    with h5py.File(folder / "new.mat", "w", userblock_size=512) as file:
        file["x"] = np.arange(40.0)


def make_signals(folder: Path) -> None:
    seconds = np.arange(2 * RATE) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 1000 * seconds)
    tone[RATE] = -0.9
    soundfile.write(folder / "tone.wav", tone, RATE)
    soundfile.write(folder / "tone.flac", np.stack([tone, tone / 2], axis=1), RATE)
    soundfile.write(folder / "tone.ogg", tone, RATE)
    soundfile.write(folder / "silence.wav", np.zeros(10), RATE)


def make_tables(folder: Path) -> None:
    rows = "".join(f"{n / 10},{n * n},{'ab'[n % 2]}\n" for n in range(100))
    (folder / "table.csv").write_text(f"time,value,label\n{rows}")
    rows = "".join(f"{n};{n},5\r\n" for n in range(30))
    (folder / "português.csv").write_bytes(f"tempo;força\r\n{rows}".encode("cp1252"))
    np.savetxt(folder / "saved.tsv", np.ones((30, 2)), delimiter="\t", header="x\ty")
    (folder / "bare.csv").write_text("1,2\n3,\nnan,6\n")
    rows = "".join(f"{n / 256:.3f},{n % 7}\n" for n in range(600))
    (folder / "rounded.csv").write_text(f"t,y\n{rows}")
    rows = "".join(f"{10 ** (n / 20):.3f},{n % 7}\n" for n in range(60))
    (folder / "logarithmic.csv").write_text(f"hertz,y\n{rows}")
    (folder / "surprise.csv").write_text("a\n" + "1\n" * 300 + "broken\n")
    table = pa.table({"n": list(range(50)), "x": [0.5] * 49 + [None], "s": ["é"] * 50})
    pq.write_table(table, folder / "table.parquet")


def make_texts(folder: Path) -> None:
    (folder / "metrics.json").write_text('{"f1": 0.9, "names": ["é"]}')
    (folder / "long.log").write_text("a line\n" * 20_000)
    (folder / "notes.md").write_text("# Title\x1b[31m\n", encoding="utf-16")
    drawn = io.BytesIO()
    Image.new("RGB", (900, 30), "red").save(drawn, "PNG")
    cells = [
        {"cell_type": "markdown", "source": ["# A\n", "b"]},
        {"cell_type": "code", "source": "1+1", "outputs": [
            {"data": {"text/plain": "2", "text/html": "<script>1</script>",
                      "image/png": base64.b64encode(drawn.getvalue()).decode()}}]},
    ]  # fmt: skip
    (folder / "work.ipynb").write_text(json.dumps({"nbformat": 4, "cells": cells}))
    (folder / "paper.pdf").write_bytes(b"%PDF-")
    (folder / "page.html").write_text("<script>")
    (folder / "model.xyz").write_bytes(b"\0\1")


def make_pictures(folder: Path) -> None:
    Image.new("RGB", (1300, 650), "blue").save(folder / "wide.jpg")
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)).save(folder / "deep.tif")
    Image.new("P", (5, 5)).save(folder / "small.gif")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "output"
    (folder / "inner").mkdir(parents=True)
    for make in (make_arrays, make_signals, make_tables, make_texts, make_pictures):
        make(folder)
    (folder / "inner" / "é.txt").write_text("deeper")
    (folder / "link.txt").symlink_to("long.log")
    return folder


@pytest.fixture(scope="module")
def entries(output: Path) -> dict[str, Any]:
    return previews_of(output)


@pytest.fixture(scope="module")
def text_of(output: Path, entries: dict[str, Any]):
    return lambda name: (pictures_of(output) / entries[name]["text"]).read_text()


def facts(entry: dict[str, Any], name: str) -> dict[str, Any]:
    return next(f for f in entry["summary"] if f.get("name") == name)


def test_every_plain_file_has_an_entry_and_none_failed(output: Path, entries: dict[str, Any]):
    plain = {str(p.relative_to(output)) for p in output.rglob("*")
             if p.is_file() and not p.is_symlink()}  # fmt: skip
    assert set(entries) == plain
    assert {name: e["error"] for name, e in entries.items() if e["error"]} == {}


def test_nothing_lies_there_that_no_entry_names(output: Path, entries: dict[str, Any]):
    named = {n for e in entries.values() for n in [*e["plots"], e.get("text")] if n}
    assert {p.name for p in pictures_of(output).iterdir()} == {*named, "index.json"}


def test_pictures_are_drawings_without_scripts_or_outside_references(
    output: Path, entries: dict[str, Any]
):
    drawings = list(pictures_of(output).glob("*.svg"))
    assert len(drawings) > 20
    for path in drawings:
        for node in ET.parse(path).iter():
            assert node.tag.split("}")[1] in {"svg", "path", "text", "image"}
            assert node.get("href", "data:image/png;").startswith("data:image/png;")
            assert "nan" not in node.get("d", "")


def test_an_array_is_told_in_figures(entries: dict[str, Any]):
    entry = entries["long.npy"]
    assert entry["kind"] == "array"
    (told,) = entry["summary"]
    assert (told["shape"], told["dtype"]) == ([300_000], "float64")
    assert (told["nan"], told["inf"], told["min"], told["max"]) == (20_000, 1, 0.0, 9.5)
    assert told["mean"] == pytest.approx(9.5 / 279_999)


def test_arrays_of_other_shapes_are_told_too(entries: dict[str, Any]):
    assert entries["channels.npy"]["summary"][0]["max"] == 11_999
    assert entries["matrix.npy"]["summary"][0]["mean"] == 1499.5
    assert entries["volume.npy"]["summary"][0]["shape"] == [4, 5, 6]
    assert entries["empty.npy"]["summary"] == [{"shape": [0, 3], "dtype": "float64"}]
    assert entries["words.npy"]["summary"] == [{"shape": [2], "dtype": "<U1"}]
    assert [len(entries[f"{n}.npy"]["plots"]) for n in ("channels", "matrix", "volume")] == [
        1,
        1,
        0,
    ]


def test_each_array_of_an_npz_has_its_own_facts(entries: dict[str, Any]):
    entry = entries["many.npz"]
    assert facts(entry, "signal")["max"] == 99
    assert facts(entry, "wave")["max"] == pytest.approx(1)
    assert facts(entry, "one")["value"] == "7"
    assert len(entry["plots"]) == 2


def test_a_mat_file_is_opened_down_into_its_structures(entries: dict[str, Any]):
    entry = entries["old.mat"]
    assert facts(entry, "x")["max"] == 29
    assert facts(entry, "who")["value"] == "S01"
    assert facts(entry, "s.fs")["value"] == "250"
    assert facts(entry, "s.data")["shape"] == [20, 2]


def test_a_mat_file_of_version_7_3_is_read_as_hdf5(entries: dict[str, Any]):
    assert entries["new.mat"]["kind"] == "mat"
    assert facts(entries["new.mat"], "x")["max"] == 39


def test_the_tree_of_an_hdf5_file_is_walked_once(entries: dict[str, Any]):
    entry = entries["tree.h5"]
    assert sorted(f["name"] for f in entry["summary"]) == ["eeg/data", "note"]
    assert facts(entry, "eeg/data")["shape"] == [2, 5000]


@pytest.mark.parametrize(("name", "channels"), [("tone.wav", 1), ("tone.flac", 2), ("tone.ogg", 1)])
def test_sound_has_its_facts_a_waveform_and_a_spectrogram(
    entries: dict[str, Any], name: str, channels: int
):
    (told,) = entries[name]["summary"]
    assert (told["rate"], told["channels"], told["seconds"]) == (RATE, channels, 2.0)
    assert told["peak"] == pytest.approx(0.9, abs=0.4)
    assert told["rms"] == pytest.approx(0.5 / 2**0.5, rel=0.3)
    assert len(entries[name]["plots"]) == 2


def test_a_sound_too_short_for_a_spectrum_has_a_waveform(entries: dict[str, Any]):
    assert len(entries["silence.wav"]["plots"]) == 1


def test_a_table_shows_its_first_rows_and_every_column(entries: dict[str, Any]):
    entry = entries["table.csv"]
    assert entry["rows"][:2] == [["time", "value", "label"], ["0.0", "0", "a"]]
    assert len(entry["rows"]) == 21
    assert entry["summary"][0] == {"columns": 3, "rows": 100}
    assert facts(entry, "value")["max"] == 99**2
    assert facts(entry, "label") == {"name": "label", "type": "text"}


def test_a_first_column_that_rises_evenly_is_what_the_others_are_drawn_over(
    output: Path, entries: dict[str, Any]
):
    def labels(name: str) -> list[list[str]]:
        drawn = [(pictures_of(output) / plot).read_text() for plot in entries[name]["plots"]]
        return [re.findall(r">([a-z][^<]*)</text>", one) for one in drawn]

    assert labels("table.csv") == [["value", "time"]]
    assert labels("rounded.csv") == [["y", "t"]]
    assert labels("logarithmic.csv") == [["hertz", "row"], ["y", "row"]]
    assert labels("saved.tsv") == [["x", "row"], ["y", "row"]]


def test_a_decimal_comma_and_an_old_encoding_are_understood(entries: dict[str, Any]):
    told = facts(entries["português.csv"], "força")
    assert (told["min"], told["max"]) == (0.5, 29.5)


def test_names_in_a_comment_and_columns_without_names_are_understood(entries: dict[str, Any]):
    assert facts(entries["saved.tsv"], "y")["mean"] == 1
    assert entries["bare.csv"]["summary"][0]["rows"] == 3
    assert facts(entries["bare.csv"], "column 2")["nan"] == 1


def test_a_row_unlike_the_first_ones_is_named(entries: dict[str, Any]):
    assert "broken" in entries["surprise.csv"]["summary"][0]["note"]


def test_a_parquet_table_is_told_like_any_other(entries: dict[str, Any]):
    entry = entries["table.parquet"]
    assert entry["summary"][0] == {"rows": 50, "columns": 3}
    assert facts(entry, "n")["max"] == 49
    assert facts(entry, "x")["nan"] == 1
    assert facts(entry, "s")["type"] == "string"
    assert entry["rows"][1] == ["0", "0.5", "é"]


def test_texts_are_utf8_cut_and_without_control_characters(text_of, entries: dict[str, Any]):
    assert text_of("metrics.json") == '{\n  "f1": 0.9,\n  "names": [\n    "é"\n  ]\n}'
    assert len(text_of("long.log")) == 65536
    assert entries["long.log"]["summary"][0]["whole"] is False
    assert text_of("notes.md") == "# Title�[31m\n"
    assert text_of("inner/é.txt") == "deeper"


def test_a_notebook_shows_text_and_pictures_but_no_html(output: Path, entries: dict[str, Any]):
    entry = entries["work.ipynb"]
    assert [c["text"] for c in entry["cells"]] == ["# A\nb", "1+1"]
    assert entry["cells"][1]["output"] == "2"
    (picture,) = entry["cells"][1]["pictures"]
    with Image.open(pictures_of(output) / picture) as shown:
        assert shown.size == (640, 21)


def test_a_picture_has_a_small_png(output: Path, entries: dict[str, Any]):
    assert entries["wide.jpg"]["summary"] == [{"width": 1300, "height": 650, "format": "JPEG"}]
    with Image.open(pictures_of(output) / entries["wide.jpg"]["plots"][0]) as shown:
        assert (shown.format, shown.size) == ("PNG", (640, 320))


def test_measured_values_in_a_picture_go_from_black_to_white(output: Path, entries: dict[str, Any]):
    with Image.open(pictures_of(output) / entries["deep.tif"]["plots"][0]) as shown:
        assert shown.getextrema() == (0, 255)


@pytest.mark.parametrize(
    ("name", "kind"), [("paper.pdf", "pdf"), ("page.html", "html"), ("model.xyz", "other")]
)
def test_of_other_files_the_size_is_told(entries: dict[str, Any], output: Path, name, kind):
    size = (output / name).stat().st_size
    assert entries[name] == {"kind": kind, "summary": [{"size": size}], "plots": [], "error": ""}
