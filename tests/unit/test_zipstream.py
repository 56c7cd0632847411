"""What is streamed as a zip is one, of the length that was said, for every reader."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from nias_bridge.node import zipheaders, zipreader
from nias_bridge.services import zipstream

ZEROS = bytes(1024 * 1024)
THEN = 1_600_000_000


def streamed(parts: Sequence[zipstream.Part]) -> bytes:
    whole = b"".join(zipstream.stream(parts))
    assert len(whole) == zipstream.length(parts)
    return whole


@pytest.fixture
def parts(tmp_path: Path) -> list[zipstream.Part]:
    """One of each kind: bytes, a file, and the members of another zip."""
    noise = tmp_path / "noise"
    noise.write_bytes(os.urandom(3_000_000))
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("deflated", ZEROS, zipfile.ZIP_DEFLATED)
        archive.writestr("stored", b"abc")
    with other.open("rb") as whole:
        deflated, stored = zipreader.members(whole, 10)
    return [
        zipstream.text("a/gravação.txt", "análise".encode(), THEN),
        zipstream.text("empty", b"", THEN),
        zipstream.file("noise", 3_000_000, THEN, lambda: noise.open("rb")),
        zipstream.member("b/deflated", deflated, THEN, lambda: other.open("rb")),
        zipstream.member("b/stored", stored, THEN, lambda: other.open("rb")),
    ]


def test_python_reads_back_what_went_in_and_members_stay_packed(
    parts: list[zipstream.Part], tmp_path: Path
) -> None:
    with zipfile.ZipFile(io.BytesIO(streamed(parts))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "a/gravação.txt": "análise".encode(),
            "empty": b"",
            "noise": (tmp_path / "noise").read_bytes(),
            "b/deflated": ZEROS,
            "b/stored": b"abc",
        }
        assert archive.getinfo("b/deflated").compress_size < 10_000
        assert archive.getinfo("noise").date_time[0] == 2020


@pytest.mark.skipif(not shutil.which("unzip"), reason="unzip is not installed")
def test_unzip_finds_no_fault(parts: list[zipstream.Part], tmp_path: Path) -> None:
    target = tmp_path / "streamed.zip"
    target.write_bytes(streamed(parts))
    told = subprocess.run(["unzip", "-tq", target], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def test_files_beyond_4_gib_and_what_comes_after_them_are_found(tmp_path: Path) -> None:
    size = 4100 * len(ZEROS)
    huge = zipstream.Part(
        "huge", zipheaders.STORED, size, size, 0, THEN, lambda: (ZEROS for _ in range(4100))
    )
    parts = [huge, zipstream.text("after", b"here", THEN)]
    target = tmp_path / "huge.zip"
    with target.open("wb") as file:
        for piece in zipstream.stream(parts):
            if piece is ZEROS:
                file.seek(len(ZEROS), os.SEEK_CUR)  # a hole: nothing is written
            else:
                file.write(piece)
    assert target.stat().st_size == zipstream.length(parts)
    with zipfile.ZipFile(target) as archive:
        assert archive.getinfo("huge").file_size == size
        assert archive.read("after") == b"here"


def test_a_file_that_became_shorter_breaks_off_what_is_sent(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_bytes(b"12345")
    part = zipstream.file("short", 9, THEN, lambda: short.open("rb"))
    with pytest.raises(OSError, match="has become shorter"):
        b"".join(zipstream.stream([part]))


def test_a_file_that_grew_is_sent_as_long_as_it_was(tmp_path: Path) -> None:
    long = tmp_path / "long"
    long.write_bytes(b"123456789")
    part = zipstream.file("long", 5, THEN, lambda: long.open("rb"))
    with zipfile.ZipFile(io.BytesIO(streamed([part]))) as archive:
        assert archive.read("long") == b"12345"
