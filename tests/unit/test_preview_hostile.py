from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile
from previews import pictures_of, previews_of

SECRET = "what lies in another file"


def npy(shape: str, dtype: str, content: bytes) -> bytes:
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">L", len(content))
        + kind
        + content
        + struct.pack(">L", zlib.crc32(kind + content))
    )


def png(width: int, height: int, rows: bytes) -> bytes:
    header = struct.pack(">2L5B", width, height, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch /tmp/nias-preview-was-fooled",))


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "output"
    folder.mkdir()
    (folder.parent / "secret.txt").write_text(SECRET)
    (folder.parent / "secret.bin").write_bytes(np.full(10, 42.0).tobytes())
    np.save(folder / "object.npy", np.array([Trap()], dtype=object))
    np.savez(folder / "objects.npz", a=np.array([Trap()], dtype=object), b=np.arange(3))
    (folder / "longer.npy").write_bytes(npy(f"({10**12},)", "'<f8'", b"1234"))
    (folder / "negative.npy").write_bytes(npy("(-5,)", "'<f8'", bytes(100)))
    (folder / "code.npy").write_bytes(npy("__import__('os').getpid()", "'<f8'", b""))
    (folder / "wide.npy").write_bytes(npy("(2,)", "'<f8'" + " " * 60000, bytes(16)))
    (folder / "bomb.png").write_bytes(png(60_000, 60_000, bytes(1000)))
    (folder / "cut.png").write_bytes(png(100, 100, os.urandom(1400))[:600])
    (folder / "deep.json").write_text("[" * 500_000)
    (folder / "number.json").write_text("9" * 100_000)
    (folder / "deep.ipynb").write_text('{"cells":' * 100_000)
    (folder / "odd.ipynb").write_text(json.dumps({"cells": [{"source": 5}]}))
    (folder / "binary.csv").write_bytes(os.urandom(5000))
    (folder / "one-line.csv").write_bytes(b"1," * 2_000_000)
    (folder / "torn.parquet").write_bytes(b"PAR1" + os.urandom(500) + b"PAR1")
    (folder / "torn.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(107) + os.urandom(400))
    (folder / "torn.edf").write_bytes(b"0       " + os.urandom(600))
    (folder / "torn.flac").write_bytes(b"fLaC" + os.urandom(500))
    (folder / "mark<up>&.md").write_text("<script>alert(1)</script>")
    soundfile.write(folder / "long.wav", np.zeros(500), 8000)
    lying = bytearray((folder / "long.wav").read_bytes())
    lying[4:8] = lying[40:44] = b"\xf0\xff\xff\x7f"
    (folder / "long.wav").write_bytes(lying)
    with h5py.File(folder / "links.h5", "w") as file:
        file["out"] = h5py.ExternalLink(str(folder.parent / "other.h5"), "/x")
        file["soft"] = h5py.SoftLink("/out")
        outside = [(str(folder.parent / "secret.bin"), 0, 80)]
        file.create_dataset("external", (10,), "f8", external=outside)
        layout = h5py.VirtualLayout((10,), "f8")
        layout[:] = h5py.VirtualSource(str(folder.parent / "other.h5"), "x", (10,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("huge", (200, 200_000), "f8", chunks=True)
    with h5py.File(folder.parent / "other.h5", "w") as file:
        file["x"] = np.full(10, 42.0)
    os.mkfifo(folder / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket.npy"))
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "folder").symlink_to(folder.parent)
    (folder / os.fsdecode(b"\xff.txt")).write_text("a name that is no text")
    (folder / "good.npy").write_bytes(npy("(3,)", "'<f8'", np.arange(3.0).tobytes()))
    return folder


@pytest.fixture(scope="module")
def entries(output: Path) -> dict[str, Any]:
    return previews_of(output)


def test_a_pickled_object_is_named_and_not_loaded(entries: dict[str, Any]):
    assert entries["object.npy"]["summary"] == [{"shape": [1], "dtype": "object"}]
    assert [f["name"] for f in entries["objects.npz"]["summary"]] == ["a", "b"]
    assert not Path("/tmp/nias-preview-was-fooled").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("longer.npy", "shorter than its header says"),
        ("negative.npy", "header"),
        ("code.npy", "as array"),
        ("wide.npy", "eader"),
        ("bomb.png", "too large"),
        ("cut.png", ""),
        ("deep.ipynb", "not a notebook"),
        ("odd.ipynb", "not a notebook"),
        ("binary.csv", ""),
        ("torn.parquet", ""),
        ("torn.mat", ""),
        ("torn.edf", ""),
        ("torn.flac", ""),
    ],
)
def test_a_file_that_is_not_what_it_says_stays_as_it_is(
    entries: dict[str, Any], name: str, words: str
):
    entry = entries[name]
    assert entry["kind"] == "other"
    assert words in entry["error"]
    assert entry["error"]
    assert entry["plots"] == []


def test_it_does_no_harm_to_the_others(entries: dict[str, Any]):
    assert entries["good.npy"]["summary"][0]["max"] == 2


@pytest.mark.parametrize("name", ["deep.json", "number.json"])
def test_json_that_cannot_be_laid_out_is_shown_as_it_is(
    output: Path, entries: dict[str, Any], name: str
):
    assert entries[name]["error"] == ""
    shown = (pictures_of(output) / entries[name]["text"]).read_text()
    assert (output / name).read_text().startswith(shown)


def test_a_wav_that_claims_to_be_longer_ends_where_it_ends(entries: dict[str, Any]):
    entry = entries["long.wav"]
    assert entry["error"] or entry["summary"][0]["samples"] <= 520


def test_links_and_storage_outside_an_hdf5_file_are_not_followed(entries: dict[str, Any]):
    assert entries["links.h5"]["error"] == ""
    told = {f["name"]: f for f in entries["links.h5"]["summary"]}
    for name in ("out", "soft", "external", "virtual"):
        assert "max" not in told[name]
        assert "note" in told[name]


def test_links_pipes_and_sockets_are_not_opened(output: Path, entries: dict[str, Any]):
    assert not {"pipe.csv", "socket.npy", "link.txt", "folder/secret.txt"} & set(entries)
    kept = [p.read_bytes() for p in pictures_of(output).iterdir()]
    assert not any(SECRET.encode() in content for content in kept)


def test_words_of_a_file_do_not_become_markup_of_a_plot(tmp_path: Path):
    output = tmp_path / "output"
    output.mkdir()
    rows = "".join(f"{n},1\n" for n in range(9))
    (output / "t.csv").write_text(f'<script>x</script>,"a""&"\n{rows}')
    entry = previews_of(output)["t.csv"]
    drawn = [(pictures_of(output) / plot).read_text() for plot in entry["plots"]]
    assert len(drawn) == 1
    assert "&lt;script&gt;" in drawn[0] and "<script" not in drawn[0]


def test_what_takes_too_long_or_too_much_is_given_up(tmp_path: Path, monkeypatch):
    from nias_bridge.node.preview import guard

    monkeypatch.setattr(guard, "SECONDS_MAX", 1)
    started = time.monotonic()
    with pytest.raises(guard.Failed, match="too long"):
        guard.guarded(lambda: time.sleep(60), 0.2, 0)
    with pytest.raises(guard.Failed, match="too long"):
        guard.guarded(lambda: sum(iter(int, 1)), 60, 0)
    with pytest.raises(guard.Failed, match="memory"):
        guard.guarded(lambda: len(bytearray(10**10)), 10, 0)
    with pytest.raises(guard.Failed, match="SIGKILL"):
        guard.guarded(lambda: os.kill(os.getpid(), 9), 10, 0)
    with pytest.raises(guard.Failed, match="File too large"):
        guard.guarded(lambda: (tmp_path / "x").write_bytes(bytes(20_000_000)), 10, 0)
    assert guard.guarded(lambda: {"a": [1]}, 10, 0) == {"a": [1]}
    assert time.monotonic() - started < 40, "each of the first two would take a minute"


def test_a_folder_swapped_for_a_link_is_not_followed(tmp_path: Path):
    from nias_bridge.node.preview.__main__ import _opened

    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text(SECRET)
    (tmp_path / "sub").symlink_to("real")
    with pytest.raises(OSError, match="Not a directory"):
        _opened(tmp_path, "sub/a.txt")


def test_where_nothing_can_be_started_nothing_breaks(tmp_path: Path):
    from nias_bridge.node import preview, sandbox

    told = preview.run(
        tmp_path / "no-python", tmp_path, tmp_path / "output", tmp_path / "p", sandbox.Walls()
    )
    assert told is False


TAKEN_OVER = """
import os, socket
from pathlib import Path

def tried(what):
    try:
        return str(what())
    except OSError:
        return "nothing"

def main(words):
    output, previews = Path(words[0]), Path(words[1])
    mine = output.parent.parent
    ways = [
        lambda: (mine / "others").read_text(),
        lambda: (output / "linked").read_text(),
        lambda: (output / "new").write_text("x"),
        lambda: socket.create_connection(("127.0.0.1", int((output / "port").read_text()))),
    ]
    told = [(output / "port").read_text() and "own files", *map(tried, ways)]
    (previews / "told").write_text("\\n".join(told))
"""


def test_a_parser_that_was_taken_over_reads_nothing_else_and_reaches_nobody(tmp_path: Path):
    from nias_bridge.node import preview, sandbox

    package = tmp_path / "program" / "nias_bridge" / "node" / "preview"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "__main__.py").write_text(TAKEN_OVER)
    output, previews = tmp_path / "project" / "output", tmp_path / "previews"
    output.mkdir(parents=True)
    (tmp_path / "others").write_text(SECRET)
    (output / "linked").symlink_to(tmp_path / "others")
    with socket.create_server(("127.0.0.1", 0)) as server:
        (output / "port").write_text(str(server.getsockname()[1]))
        python = Path(sys.executable)
        assert preview.run(python, tmp_path / "program", output, previews, sandbox.Walls())
    assert (previews / "told").read_text().split("\n") == ["own files", *["nothing"] * 4]
