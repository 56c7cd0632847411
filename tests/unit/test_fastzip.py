from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nias_bridge.node import fastzip

CONTENTS = {
    "empty.txt": b"",
    "short.txt": b"a line\n",
    "gravação/análise.csv": b"0.25,0.5\n" * 500_000,
    "zeros.bin": bytes(5 * fastzip.BLOCK + 17),
    "noise.bin": os.urandom(3 * fastzip.BLOCK),
    "picture.png": b"\x89PNG" + bytes(10_000),
}


@pytest.fixture(params=["isal", "zlib"])
def packed(request, tmp_path: Path, monkeypatch) -> Path:
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)
    else:
        pytest.importorskip("isal")
    files = []
    for number, (name, content) in enumerate(CONTENTS.items()):
        path = tmp_path / str(number)
        path.write_bytes(content)
        os.utime(path, (0, 1_600_000_000))
        files.append((name, path))
    target = tmp_path / "results.zip"
    listed = fastzip.pack(files, target)
    assert {e.name: (e.size, e.sha256) for e in listed} == {
        name: (len(content), hashlib.sha256(content).hexdigest())
        for name, content in CONTENTS.items()
    }
    return target


def test_python_reads_back_what_went_in(packed: Path):
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == CONTENTS


@pytest.mark.skipif(not shutil.which("unzip"), reason="unzip is not installed")
def test_unzip_finds_no_fault(packed: Path):
    told = subprocess.run(["unzip", "-tq", packed], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def test_what_is_packed_already_is_stored_and_the_rest_deflated(packed: Path):
    with zipfile.ZipFile(packed) as archive:
        stored = {i.filename for i in archive.infolist() if i.compress_type == zipfile.ZIP_STORED}
        sizes = {i.filename: i.compress_size for i in archive.infolist()}
    assert stored == {"empty.txt", "short.txt", "noise.bin", "picture.png"}
    assert sizes["zeros.bin"] < 100_000


def test_times_and_modes_are_those_of_plain_files(packed: Path):
    with zipfile.ZipFile(packed) as archive:
        info = archive.getinfo("zeros.bin")
    assert info.date_time[0] == 2020
    assert info.external_attr >> 16 == 0o100644


def test_an_entry_announced_as_larger_than_4_gib_is_written_as_zip64():
    file = io.BytesIO()
    with fastzip.Writer(file) as writer:
        writer.add("a", [b"x" * 1000], size_max=5 * 2**30, modified=0)
        writer.add("b", [b"y"], size_max=1, modified=0)
    assert file.getvalue()[4:6] == b"\x2d\x00"  # needs version 4.5
    with zipfile.ZipFile(file) as archive:
        assert archive.read("a") == b"x" * 1000
        assert archive.read("b") == b"y"


def test_a_file_that_fails_half_way_leaves_the_zip_without_it():
    def failing():
        yield os.urandom(fastzip.BLOCK)
        raise OSError("the disk is gone")

    file = io.BytesIO()
    with fastzip.Writer(file) as writer:
        writer.add("before", [b"1"], size_max=1, modified=0)
        with pytest.raises(OSError, match="gone"):
            writer.add("broken", failing(), size_max=2 * fastzip.BLOCK, modified=0)
        writer.add("after", [b"2"], size_max=1, modified=0)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["before", "after"]


def test_more_than_65535_files_are_counted():
    file = io.BytesIO()
    with fastzip.Writer(file) as writer:
        for number in range(66_000):
            writer.add(f"{number}.png", [b"x"], size_max=1, modified=1e9)
    with zipfile.ZipFile(file) as archive:
        assert len(archive.namelist()) == 66_000


@pytest.mark.parametrize("when", [-1e18, 0, 1e18])
def test_a_time_that_zip_cannot_hold_does_no_harm(when: float):
    file = io.BytesIO()
    with fastzip.Writer(file) as writer:
        writer.add("a", [b"x"], size_max=1, modified=when)
    with zipfile.ZipFile(file) as archive:
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)
