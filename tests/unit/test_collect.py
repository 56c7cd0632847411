from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import resource
import signal
import socket
import threading
import time
import zipfile
from pathlib import Path

import pytest

from nias_bridge.node import layout
from nias_bridge.node.collect import Collected, collect


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / layout.PROJECT / layout.OUTPUT
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def run(output: Path) -> Path:
    return output.parent.parent


def manifest(run: Path) -> dict:
    return json.loads((run / layout.MANIFEST).read_text())


def left_out(run: Path) -> dict[str, str]:
    return {entry["path"]: entry["why"] for entry in manifest(run)["left_out"]}


def results(run: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(run / layout.RESULTS) as found:
        assert found.testzip() is None
        return {name: found.read(name) for name in found.namelist()}


def test_what_is_in_output_comes_back_with_size_and_hash(run, output):
    content = {"a.csv": b"1,2\n" * 1000, "plots/b.png": os.urandom(3000), "empty": b"",
               "gravação 2.wav": b"RIFF"}  # fmt: skip
    for name, data in content.items():
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).write_bytes(data)
    collected = collect(run)
    assert collected == Collected(4, sum(map(len, content.values())), 0)
    assert results(run) == content
    assert {f["path"]: f["sha256"] for f in manifest(run)["files"]} == {
        name: hashlib.sha256(data).hexdigest() for name, data in content.items()
    }
    assert sorted(p.name for p in run.iterdir()) == ["manifest.json", "project", "results.zip"]


def test_a_file_that_only_keeps_an_empty_folder_is_no_result(run, output):
    (output / "plots").mkdir()
    for name in (".gitkeep", "plots/.keep"):
        (output / name).touch()
    assert collect(run) == Collected(0, 0, 0)
    assert (results(run), left_out(run)) == ({}, {})


def test_what_does_not_shrink_is_stored(run, output):
    (output / "noise").write_bytes(os.urandom(100_000))
    (output / "zeros").write_bytes(bytes(100_000))
    collect(run)
    with zipfile.ZipFile(run / layout.RESULTS) as found:
        kinds = {i.filename: i.compress_type for i in found.infolist()}
    assert kinds == {"noise": zipfile.ZIP_STORED, "zeros": zipfile.ZIP_DEFLATED}


def test_a_link_out_of_output_is_left_out_and_listed(run, output, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_text("secret")
    (output / "passwd").symlink_to("/etc/passwd")
    (output / "up").symlink_to("../../../secret")
    (output / "hop1").symlink_to("hop2")
    (output / "hop2").symlink_to(tmp_path / "secret")
    (output / "folder").symlink_to(tmp_path / "outside")
    (output / "through").symlink_to("folder/x")
    (output / "twin").symlink_to(f"{output}-twin")
    collected = collect(run)
    assert results(run) == {}
    assert collected.left_out == 7
    assert all("link that leads out" in why for why in left_out(run).values())


def test_a_link_within_output_is_followed_to_its_file(run, output):
    (output / "d").mkdir()
    (output / "d" / "a").write_text("a")
    (output / "latest").symlink_to("d/a")
    (output / "again").symlink_to("latest")
    (output / "all").symlink_to("d")
    (output / "loop").symlink_to("loop")
    (output / "gone").symlink_to("nowhere")
    collect(run)
    assert results(run) == {"d/a": b"a", "latest": b"a", "again": b"a"}
    assert set(left_out(run)) == {"all", "gone", "loop"}


def test_a_name_with_control_characters_is_left_out_and_listed_on_one_line(run, output):
    for name in ("two\nlines", "back\rward", "esc\x1b[31m", "fine ✓"):
        (output / name).write_text("x")
    (output / "a\tfolder").mkdir()
    (output / "a\tfolder" / "inside").write_text("x")
    collect(run)
    assert set(results(run)) == {"fine ✓"}
    assert set(left_out(run)) == {
        "two<U+000A>lines",
        "back<U+000D>ward",
        "esc<U+001B>[31m",
        "a<U+0009>folder/inside",
    }
    assert all("control character" in why for why in left_out(run).values())


def test_pipes_and_sockets_are_left_out_without_waiting(run, output, monkeypatch):
    os.mkfifo(output / "pipe")
    (output / "to-pipe").symlink_to("pipe")
    monkeypatch.chdir(output)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        collect(run)
    assert set(left_out(run)) == {"pipe", "socket", "to-pipe"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file of somebody else")
def test_a_hard_link_to_somebody_elses_file_is_left_out(run, output, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.write_text("secret")
    os.chown(theirs, 12345, 12345)
    (output / "mine").hardlink_to(theirs)
    collect(run)
    assert "hard link" in left_out(run)["mine"]


def test_a_huge_sparse_file_is_left_out(run, output):
    with (output / "huge").open("wb") as file:
        file.truncate(10 * 1000**4)
    (output / "small").write_text("x")
    collect(run)
    assert "too large" in left_out(run)["huge"]
    assert results(run) == {"small": b"x"}


def test_the_limits_hold_for_all_files_together(run, output):
    for name in "abcd":
        (output / name).write_text("12345")
    collect(run, bytes_max=12)
    assert set(results(run)) == {"a", "b"}
    assert set(left_out(run)) == {"c", "d"}
    collect(run, files_max=3)
    assert "more than 3 files" in left_out(run)["d"]


def test_names_that_are_not_text_are_listed(run, output):
    (output / os.fsdecode(b"caf\xe9")).write_text("x")
    collect(run)
    assert "not UTF-8" in left_out(run)["caf\ufffd"]
    assert results(run) == {}


def test_an_output_that_was_removed_gives_empty_results(run, output):
    output.rmdir()
    assert collect(run) == Collected(0, 0, 0)
    assert results(run) == {}


@pytest.mark.parametrize("what", ["output", "project"])
def test_an_output_that_became_a_link_is_not_followed(run, output, tmp_path, what):
    outside = tmp_path / "elsewhere"
    (outside / "output").mkdir(parents=True)
    (outside / "output" / "secret").write_text("secret")
    (outside / "secret").write_text("secret")
    victim = output if what == "output" else output.parent
    victim.rename(tmp_path / "moved")
    victim.symlink_to(outside)
    collect(run)
    assert results(run) == {}
    assert "output" in left_out(run)


def test_a_folder_swapped_for_a_link_meanwhile_gives_nothing_away(run, output, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("secret")
    inside = output / "d"
    inside.mkdir()
    (inside / "f").write_text("mine")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            inside.rename(output.parent / "away")
            inside.symlink_to(outside)
            inside.unlink()
            (output.parent / "away").rename(inside)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(100):
            collect(run)
            assert set(results(run).values()) <= {b"mine"}
    finally:
        done.set()
        swapping.join()


def test_a_full_disk_leaves_nothing_half_written(run, output):
    (output / "a").write_bytes(os.urandom(100_000))
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, was[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            collect(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [p.name for p in run.iterdir()] == ["project"]


def test_when_time_is_up_the_results_are_a_whole_zip_of_what_was_packed_so_far(run, output):
    for name in "abc":
        (output / name).write_bytes(os.urandom(3_000_000))
    looks = iter([False] * 7)
    collect(run, time_is_up=lambda: next(looks, True))
    assert list(results(run)) == ["a"]
    why = left_out(run)
    assert set(why) == {"b", "c"}
    assert "ended before it was collected" in why["b"]
    assert "all that follows" in why["c"]


def test_collecting_that_is_killed_leaves_no_broken_results(run, output):
    with (output / "long").open("wb") as file:
        file.truncate(50 * 1000**3)
    collecting = multiprocessing.get_context("fork").Process(target=collect, args=(run,))
    collecting.start()
    try:
        deadline = time.monotonic() + 20
        while not any(p.stat().st_size for p in run.glob(f".{layout.RESULTS}.*")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        collecting.kill()
        collecting.join()
    assert not (run / layout.RESULTS).exists()
    assert not (run / layout.MANIFEST).exists()


def test_what_the_code_closed_to_its_group_is_opened_to_it(run, output):
    # Under an ACL the group's bits are the most that the gateway may.
    (output / "deep").mkdir()
    (output / "deep" / "closed.txt").write_text("42")
    (output / "deep" / "closed.txt").chmod(0o600)
    (output / "deep").chmod(0o700)
    assert collect(run).files == 1
    assert (output / "deep" / "closed.txt").stat().st_mode & 0o777 == 0o640
    assert (output / "deep").stat().st_mode & 0o777 == 0o750
