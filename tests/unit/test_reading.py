"""Shared storage as the services have it: what a job left is read as what it is, near or far."""

from __future__ import annotations

import fcntl
import io
import os
import random
import shutil
import subprocess
import threading
import time
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from afar import Afar
from client import zipped
from descriptors import opened_below

from nias_bridge.errors import NotFound
from nias_bridge.node import archive, keeping, reading
from nias_bridge.reach import PIECE_BYTES, Mounted
from nias_bridge.services.evidence import read_json
from nias_bridge.storage import Storage

STORAGE = Storage(Mounted())


# No link leads a reader


def test_no_link_on_the_way_to_a_file_is_followed_out_of_a_folder(tmp_path: Path) -> None:
    for name in ("hers", "his"):
        (tmp_path / name / "tasks").mkdir(parents=True)
        (tmp_path / name / "tasks" / "exit.json").write_text(f'{{"of": "{name}"}}')
    of_his, his = PurePosixPath(tmp_path / "his"), tmp_path / "his" / "tasks"
    assert read_json(STORAGE, of_his / "tasks" / "exit.json") == {"of": "his"}
    assert [path for path, _ in STORAGE.listing(of_his, "tasks")] == ["exit.json"]
    shutil.rmtree(his)
    his.symlink_to(tmp_path / "hers" / "tasks")
    assert read_json(STORAGE, of_his / "tasks" / "exit.json") == {}
    assert STORAGE.listing(of_his / "tasks", "") == STORAGE.listing(of_his, "tasks") == []
    for root, inside in ((of_his / "tasks", "exit.json"), (of_his, "tasks/exit.json")):
        with pytest.raises(NotFound):
            STORAGE.open_beneath(root, inside)


def test_what_nfs_renamed_as_it_was_replaced_is_read_as_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, opening = tmp_path / "progress.json", os.open
    file.write_text('{"phase": "running"}')

    def replaced(path: str, flags: int) -> int:
        opened = opening(path, flags)
        file.rename(tmp_path / ".nfs00000000000e014200000002")
        return opened

    monkeypatch.setattr(os, "open", replaced)
    opened = reading.open_plain(str(file))
    with os.fdopen(opened) as was:
        assert was.read() == '{"phase": "running"}'


def test_who_waited_to_add_to_a_file_that_was_removed_finds_it_gone(tmp_path: Path) -> None:
    file = tmp_path / "upload.part"
    keeping.create(str(file))
    told: list[type[BaseException] | None] = []

    def add() -> None:
        try:
            keeping.append(str(file), 0, b"late")
        except OSError as error:
            told.append(type(error))

    with file.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=add)
        waiting.start()
        deadline = time.monotonic() + 10
        while len(opened_below(tmp_path)) < 2:  # it has opened what it is to add to
            assert time.monotonic() < deadline
        file.rename(tmp_path / ".nfs00000000000e014200000002")  # as NFS removes what is open
    waiting.join()
    assert told == [FileNotFoundError]


@pytest.mark.parametrize("swapped", ["output", "output/deep"])
def test_a_folder_that_becomes_a_link_while_it_is_listed_tells_nothing_of_where_it_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    for name in ("hers", "his"):
        (tmp_path / name / "output" / "deep").mkdir(parents=True)
    (tmp_path / "hers" / "output" / "deep" / "secret").touch()
    opens = os.open

    def swap_and_open(path: str, *arguments: Any, **more: Any) -> int:
        if path == str(tmp_path / "his" / "output" / "deep"):
            shutil.rmtree(tmp_path / "his" / swapped)
            (tmp_path / "his" / swapped).symlink_to(tmp_path / "hers" / swapped)
        return opens(path, *arguments, **more)

    monkeypatch.setattr(os, "open", swap_and_open)
    assert STORAGE.listing(PurePosixPath(tmp_path / "his"), "output") == []
    assert (tmp_path / "his" / swapped).is_symlink()


def test_what_is_no_plain_file_is_closed_again(tmp_path: Path) -> None:
    (tmp_path / "exit.json").mkdir()
    assert read_json(STORAGE, PurePosixPath(tmp_path / "exit.json")) == {}
    assert opened_below(tmp_path) == []


def test_a_file_that_was_replaced_while_it_was_opened_is_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, opens = tmp_path / "progress.json", os.open
    file.write_text('{"phase": "unpacking"}')

    def open_and_replace(*arguments: Any) -> int:
        descriptor = opens(*arguments)
        monkeypatch.setattr(os, "open", opens)
        STORAGE.write(PurePosixPath(file), '{"phase": "running"}')
        return descriptor

    monkeypatch.setattr(os, "open", open_and_replace)
    assert read_json(STORAGE, PurePosixPath(file)) == {"phase": "unpacking"}
    assert read_json(STORAGE, PurePosixPath(file)) == {"phase": "running"}


def test_a_name_that_no_file_can_have_is_not_there(tmp_path: Path) -> None:
    for name in ("a\0b", "\ud800", "x" * 300, "../" * 50 + "etc/passwd"):
        with pytest.raises(NotFound):
            STORAGE.open_beneath(PurePosixPath(tmp_path), name)


# What lies there


def test_what_a_run_takes_is_counted_once_for_each_file_and_by_blocks(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x" * 100_000)
    plain = reading.size_of(str(tmp_path))
    os.link(tmp_path / "a" / "file", tmp_path / "again")
    (tmp_path / "link").symlink_to("/usr")
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(10**12)
    assert plain <= reading.size_of(str(tmp_path)) < plain + 20_000
    assert reading.size_of(str(tmp_path / "nowhere")) == 0


def test_a_folder_as_deep_as_can_be_is_weighed(tmp_path: Path) -> None:
    deep = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=deep)
        deeper = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = deeper
    os.close(deep)
    assert reading.size_of(str(tmp_path)) >= 0
    subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # pytest's own tidying gives up at it


def test_what_cannot_be_known_is_no_absence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert STORAGE.info(PurePosixPath(tmp_path / "claim")) is None
    (tmp_path / "file").touch()
    assert STORAGE.info(PurePosixPath(tmp_path / "file" / "claim")) is None

    def stale(path: str) -> os.stat_result:
        raise OSError(116, os.strerror(116), path)

    monkeypatch.setattr(os, "lstat", stale)
    with pytest.raises(OSError, match="Stale"):
        STORAGE.info(PurePosixPath(tmp_path / "claim"))


# Far away


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, 3 * PIECE_BYTES + 17])
def test_a_file_that_is_read_by_calls_is_read_as_any_other(tmp_path: Path, size: int) -> None:
    content = random.Random(size).randbytes(size)
    (tmp_path / "file").write_bytes(content)
    with (
        Storage(Afar()).open(PurePosixPath(tmp_path / "file")) as far,
        io.BytesIO(content) as near,
    ):
        dice = random.Random(size)
        for _ in range(60):
            whence = dice.choice([os.SEEK_SET, os.SEEK_END])
            offset = dice.randint(0, size + 10) - (size if whence == os.SEEK_END else 0)
            if whence == os.SEEK_END and offset < -size:
                offset = -size
            assert far.seek(offset, whence) == near.seek(offset, whence)
            wanted = dice.choice([0, 1, 100, 70_000, size, -1])
            assert far.read(wanted) == near.read(wanted)
        far.seek(0), near.seek(0)
        assert far.readlines() == near.readlines()
        with pytest.raises(OSError, match="before its beginning"):
            far.seek(-1 - size, os.SEEK_END)


def test_a_file_that_is_replaced_while_it_is_read_by_calls_is_an_error(tmp_path: Path) -> None:
    path = PurePosixPath(tmp_path / "file")
    STORAGE.write(path, b"a" * (2 * PIECE_BYTES))
    with Storage(Afar()).open(path) as far:
        assert far.read(10) == b"a" * 10
        STORAGE.write(path, b"b" * (2 * PIECE_BYTES))
        with pytest.raises(OSError, match="replaced"):
            far.read()


def test_a_small_zip_is_judged_in_one_call_and_a_large_one_in_few(tmp_path: Path) -> None:
    limits = archive.Limits(unpacked_bytes=10**9, files=20_000, ratio=200)
    small = zipped("p", {f"d/{n}": str(n) for n in range(500)} | {"code.py": "1"})
    (tmp_path / "small").write_bytes(small)
    noise = random.Random(1).randbytes(5 * PIECE_BYTES)
    (tmp_path / "large").write_bytes(zipped("p", {"code.py": "1", "noise": noise}))
    for name, most in (("small", 1), ("large", 4)):
        reach = Afar()
        with Storage(reach).open(PurePosixPath(tmp_path / name)) as file:
            inventory = archive.judge(file, "p.zip", limits)
            assert archive.read_member(file, inventory, "code.py", 10) == b"1"
        assert len(reach.asked) <= most, reach.asked


# Writing


def test_of_many_who_add_at_once_one_does_and_the_others_are_told_where_it_ends(
    tmp_path: Path,
) -> None:
    path = PurePosixPath(tmp_path / "part")
    STORAGE.create(path)
    together = threading.Barrier(8)
    told: list[tuple[int, bool]] = []

    def add(letter: int) -> None:
        together.wait()
        told.append(STORAGE.append(path, 0, bytes([letter]) * 300_000))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == [(300_000, False)] * 7 + [(300_000, True)]
    assert len(set(Path(path).read_bytes())) == 1
    assert STORAGE.append(path, 5, b"") == (300_000, False)
    assert STORAGE.append(path, 300_000, b"") == (300_000, True)


def test_who_adds_to_what_was_ended_meanwhile_makes_it_not_anew(tmp_path: Path) -> None:
    path = PurePosixPath(tmp_path / "part")
    STORAGE.create(path)
    STORAGE.end(path, path.with_suffix(".coming"))
    with pytest.raises(FileNotFoundError):
        STORAGE.append(path, 0, b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_what_was_there_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = PurePosixPath(tmp_path / "script")
    STORAGE.write(path, "old")

    def full(_: int, mode: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(OSError, match="No space"):
        STORAGE.write(path, "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("script", "old")]


def test_nothing_is_written_through_a_link_beside_or_in_its_place(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    (tmp_path / "script").symlink_to(precious)
    STORAGE.write(PurePosixPath(tmp_path / "script"), "new", 0o600)
    with pytest.raises(FileExistsError):
        (tmp_path / "part").symlink_to(tmp_path / "nowhere")
        STORAGE.create(PurePosixPath(tmp_path / "part"))
    assert precious.read_text() == "keep me"
    assert (tmp_path / "script").read_text() == "new"
    assert not (tmp_path / "nowhere").exists()
