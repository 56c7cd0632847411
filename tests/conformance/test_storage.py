"""Shared storage: one suite for every way to reach it, mounted here or served on a login node."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest
from loginnode import LoginNode

from nias_bridge.errors import NotFound
from nias_bridge.node.archive import Limits
from nias_bridge.reach import Mounted
from nias_bridge.slurm.files import LoginFiles
from nias_bridge.slurm.ssh import Connection
from nias_bridge.storage import Growing, Storage

MIB = 1024 * 1024


@dataclass
class Place:
    """A storage, and its root as the tests put things there, for the account that it works as."""

    storage: Storage
    root: Path
    user: str | None

    def __truediv__(self, name: str) -> PurePosixPath:
        return PurePosixPath(self.root / name)

    def put(self, name: str, content: bytes | str = b"", mode: int = 0o644) -> PurePosixPath:
        path = self.root / name
        self.folder(path.parent.relative_to(self.root).as_posix())
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        self._hand_over(path)
        return PurePosixPath(path)

    def folder(self, name: str) -> PurePosixPath:
        path = self.root / name
        for folder in [*reversed(path.parents), path]:
            if folder.is_relative_to(self.root) and not folder.exists():
                folder.mkdir()
                self._hand_over(folder)
        return PurePosixPath(path)

    def link(self, name: str, target: str | PurePosixPath) -> PurePosixPath:
        path = self.root / name
        path.symlink_to(target)
        return PurePosixPath(path)

    def _hand_over(self, path: Path) -> None:
        if self.user:
            shutil.chown(path, self.user)


@pytest.fixture(params=["mounted", "login node"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    root = Path(tempfile.mkdtemp(prefix="nias-storage-", dir="/tmp")).resolve()
    if request.param == "mounted":
        yield Place(Storage(Mounted()), root, None)
    else:
        node: LoginNode = request.getfixturevalue("login_node")
        connection = Connection(node.login, timeout=20)
        there = LoginFiles(connection, PurePosixPath(root), timeout=20)
        if os.geteuid() == 0:
            shutil.chown(root, node.user)
        yield Place(Storage(there), root, node.user if os.geteuid() == 0 else None)
        there.close()
        connection.close()
    shutil.rmtree(root)


# --- reading ---


def test_what_is_there_is_told_a_link_as_itself_and_nothing_as_none(place: Place) -> None:
    file, folder = place.put("file", "four"), place.folder("folder")
    link, none = place.link("link", "file"), place / "none"
    told = place.storage.infos([file, folder, link, none])
    assert [info and (info.plain, info.folder) for info in told] == [
        (True, False), (False, True), (False, False), None,
    ]  # fmt: skip
    info = place.storage.info(file)
    status = Path(file).stat()
    assert info
    assert (info.size, info.modified_ns, info.inode) == (4, status.st_mtime_ns, status.st_ino)
    assert place.storage.info(none) is None and place.storage.info(file / "below") is None
    assert place.storage.is_plain(file) and not place.storage.is_plain(link)


def test_small_files_are_read_in_one_call_and_what_is_none_of_them_is_none(place: Place) -> None:
    files = [place.put("a", b"\0\xff"), place / "none", place.put("c", "x" * 11), place.put("d")]
    assert place.storage.contents(files, most=10) == [b"\0\xff", None, None, b""]


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 5])
def test_a_file_is_read_whole(place: Place, size: int) -> None:
    content = os.urandom(size)
    file = place.put("file", content)
    with place.storage.open(file) as opened:
        assert opened.info.size == size
        assert opened.read() == content
    assert place.storage.sha256(file) == hashlib.sha256(content).hexdigest()


def test_any_part_of_a_file_is_read(place: Place) -> None:
    content = os.urandom(3 * MIB)
    with place.storage.open(place.put("file", content)) as opened:
        for start, size in ((2 * MIB - 3, 10), (5, 2 * MIB), (3 * MIB - 4, 100), (0, 1)):
            opened.seek(start)
            assert opened.read(size) == content[start : start + size]
        opened.seek(-7, os.SEEK_END)
        assert opened.read() == content[-7:]


def test_a_file_that_is_replaced_while_it_is_read_is_never_two_files_in_one(place: Place) -> None:
    old, new = b"o" * (4 * MIB), b"n" * (4 * MIB)
    file = place.put("file", old)
    with place.storage.open(file) as opened:
        read = opened.read(MIB)
        Path(place.put("new", new)).replace(file)
        try:
            read += opened.read()
        except OSError as error:
            assert error.errno == errno.ESTALE
    assert old.startswith(read)


def test_no_link_leads_a_reader_anywhere(place: Place) -> None:
    place.put("other/secret", "theirs")
    place.folder("run/output")
    for name, target in (
        ("run/file", "../other/secret"),
        ("run/folder", "../other"),
        ("run/absolute", "/etc/passwd"),
    ):
        place.link(name, target)
    led = [place / "run/file", place / "run/folder/secret", place / "run/absolute"]
    for file in led:
        with pytest.raises(OSError, match=r"link|symbolic"):
            place.storage.open(file)
        with pytest.raises(NotFound, match="There is no plain file"):
            place.storage.open_beneath(place / "run", file.relative_to(place / "run").as_posix())
        with pytest.raises(OSError, match=r"link|symbolic"):
            place.storage.sha256(file)
    assert place.storage.contents(led, most=100_000) == [None, None, None]
    assert place.storage.listing(PurePosixPath(place.root), "run/folder") == []
    assert place.storage.listing(place / "run", ".") == []


def test_a_link_within_a_folder_is_followed_by_its_name(place: Place) -> None:
    file = place.put("run/output/a.txt", "here")
    place.link("run/output/b.txt", "a.txt")
    with place.storage.open_beneath(place / "run", "output/b.txt") as opened:
        assert (opened.path, opened.read()) == (file, b"here")


def test_a_pipe_holds_nobody_up(place: Place) -> None:
    os.mkfifo(place / "pipe")
    with pytest.raises(OSError, match="not a plain file"):
        place.storage.open(place / "pipe")
    assert place.storage.contents([place / "pipe"], most=10) == [None]


def test_what_is_not_there_is_told_as_files_do(place: Place) -> None:
    for ask in (place.storage.open, place.storage.sha256, place.storage.seal):
        with pytest.raises(FileNotFoundError, match="none"):
            ask(place / "none")


def test_what_a_folder_holds_is_listed(place: Place) -> None:
    place.put("run/output/b.txt", "12")
    place.put("run/output/deep/a.txt", "1")
    place.link("run/output/link", "b.txt")
    assert place.storage.listing(place / "run", "output") == [("b.txt", 2), ("deep/a.txt", 1)]
    assert place.storage.listing(place / "run", "output", most=1) == [("b.txt", 2)]
    assert place.storage.listing(place / "run", "none") == []
    there = place.storage.entries(place / "run/output")
    assert [(name, info.plain) for name, info in there.items()] == [
        ("b.txt", True), ("deep", False), ("link", False),
    ]  # fmt: skip
    assert list(place.storage.entries(place / "run/output", ".txt")) == ["b.txt"]
    assert place.storage.entries(place / "none") == {}


def test_what_a_folder_takes_counts_a_file_of_several_names_once(place: Place) -> None:
    file = place.put("run/a", os.urandom(MIB))
    once = place.storage.size_of(place / "run")
    os.link(file, place / "run/b")
    assert MIB <= once == place.storage.size_of(place / "run") < MIB + 64 * 1024


def test_there_is_room_and_it_is_told_where_nothing_can_be_written(place: Place) -> None:
    space = place.storage.space(PurePosixPath(place.root))
    assert 0 < space.free <= space.total and space.writable
    with pytest.raises(FileNotFoundError):
        place.storage.space(place / "none")
    with pytest.raises(NotADirectoryError):
        place.storage.space(place.put("file"))


# --- writing ---


def test_a_small_file_is_published_with_just_its_permissions(place: Place) -> None:
    for content, mode in ((b"\0\xff", 0o640), ("é", 0o644), (b"", 0o600)):
        place.storage.write(place / "file", content, mode)
        file = place.root / "file"
        data = content.encode() if isinstance(content, str) else content
        assert (file.read_bytes(), file.stat().st_mode & 0o777) == (data, mode)
    assert [path.name for path in place.root.iterdir()] == ["file"]


def test_a_new_file_is_new(place: Place) -> None:
    place.storage.create(place / "file")
    with pytest.raises(FileExistsError):
        place.storage.create(place / "file")
    place.link("link", "elsewhere")
    with pytest.raises(FileExistsError):
        place.storage.create(place / "link")


def test_a_file_is_added_to_where_it_ends_alone(place: Place) -> None:
    file = place / "file"
    with pytest.raises(FileNotFoundError):
        place.storage.append(file, 0, b"x")
    place.storage.create(file)
    assert place.storage.append(file, 0, b"one") == (3, True)
    assert place.storage.append(file, 0, b"again") == (3, False)
    assert place.storage.append(file, 3, memoryview(b"two")) == (6, True)
    assert place.storage.append(file, 6, b"") == (6, True)
    assert place.storage.join(file, 6, place.put("more", "three")) == (11, True)
    assert place.storage.join(file, 6, place / "more") == (11, False)
    assert Path(file).read_bytes() == b"onetwothree"
    assert place.storage.seal(file) == hashlib.sha256(b"onetwothree").hexdigest()
    place.storage.end(file, place / "more", place / "none")
    assert list(place.root.iterdir()) == []


def test_what_is_sent_piece_by_piece_arrives_whole(place: Place) -> None:
    content = os.urandom(2 * MIB + 7)
    with io.BufferedWriter(Growing(place.storage, place / "grown")) as file:
        shutil.copyfileobj(io.BytesIO(content), file)
    place.storage.put(place / "put", io.BytesIO(content), 0o755)
    assert (place.root / "grown").read_bytes() == content
    assert (place.root / "put").read_bytes() == content
    assert (place.root / "put").stat().st_mode & 0o777 == 0o755
    assert {path.name for path in place.root.iterdir()} == {"grown", "put"}


def test_files_get_their_places_and_go(place: Place) -> None:
    place.storage.make_folder(place / "a/b")
    place.storage.make_folder(place / "a/b")
    place.storage.move(place.put("file", "x"), place / "a/b/moved")
    with pytest.raises(FileNotFoundError):
        place.storage.move(place / "file", place / "a/b/moved")
    os.utime(place / "a/b/moved", (1, 1))
    place.storage.touch(place / "a/b/moved")
    place.storage.touch(place / "none")
    assert (place.root / "a/b/moved").stat().st_mtime > 1e9
    place.storage.permit(place / "a", add=0o011, drop=0o700 & ~0o500)
    assert (place.root / "a").stat().st_mode & 0o311 == 0o111
    place.storage.remove(place / "a/b/moved", place / "none")
    assert list((place.root / "a/b").iterdir()) == []


def test_a_file_is_had_a_second_time_but_not_what_a_link_leads_to(place: Place) -> None:
    place.storage.take(place.put("file", "x"), place / "second")
    assert (place.root / "second").stat().st_ino == (place.root / "file").stat().st_ino
    place.storage.take(place.link("link", "file"), place / "third")
    place.storage.take(place / "none", place / "third")
    assert not (place.root / "third").exists()


def test_a_lock_that_is_held_keeps_a_folder_in_its_place(place: Place) -> None:
    place.put("envs/one/file")
    locks = [place.put("one.lock", mode=0o666), place / "none"]
    with Path(locks[0]).open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        assert place.storage.held(locks) == [True, False]
        assert not place.storage.retire(place / "envs/one", locks[0], ".gone-")
    assert place.storage.held(locks) == [False, False]
    assert place.storage.retire(place / "envs/one", locks[0], ".gone-")
    assert list((place.root / "envs").iterdir()) == []


def test_what_is_discarded_or_cleared_goes_and_no_link_is_followed(place: Place) -> None:
    place.put("other/file", "stays")
    for name in ("record", "slurm.out", "project/deep/file", "tasks/0/results", "tasks/0/record"):
        place.put(f"runs/one/{name}")
    place.link("runs/one/link", place / "other")
    place.storage.discard(place / "none")
    how = {"stays": ["record"], "logs": "*.out", "tasks": "tasks"}
    assert place.storage.clear(PurePosixPath(place.root), "runs/one", **how) == []
    left = sorted(p.relative_to(place.root / "runs/one").as_posix() for p in files(place))
    assert left == ["record", "slurm.out", "tasks/0/record"]
    place.storage.discard(place / "runs")
    assert not (place.root / "runs").exists()
    assert (place.root / "other/file").read_text() == "stays"


def test_a_dataset_is_made_where_the_storage_is(place: Place) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/a.csv", "1,2\n")
        archive.writestr("data/deep/b.csv", "3,4\n")
    part, folder = place.put("data.part", packed.getvalue()), place.folder("contents")
    made = place.storage.publish_dataset(
        part, folder, filename="data.zip", word="w", limits=Limits(MIB, 10, 200)
    )
    assert (made["size"], made["files"]) == (8, 2)
    listed = place.storage.files_of_dataset(folder, made["sha256"], 10)
    assert [(path, size) for path, size, _ in listed] == [("a.csv", 4), ("deep/b.csv", 4)]
    door = place.root / "contents" / made["sha256"]
    assert place.storage.why_no_acls(folder) == ""
    assert place.storage.open_datasets(folder, {door.name: [1, 2], "0": [1]}) == {}
    assert _named(door) == {"user:1:r-x", "user:2:r-x"}
    assert place.storage.open_datasets(folder, {door.name: []}) == {}
    assert (_named(door), door.stat().st_mode & 0o777) == (set(), 0o500)
    of = place.folder("of")
    texts = {"alice": (1, "what she may see"), "bob": (2, "what he may")}
    assert place.storage.tell_datasets(of, texts, texts.keys()) == {}
    assert (place.root / "of/alice.json").read_text() == "what she may see"
    assert _named(place.root / "of/bob.json") == {"user:2:r--"}
    assert place.storage.tell_datasets(of, {}, ["bob"]) == {}
    assert [path.name for path in (place.root / "of").iterdir()] == ["bob.json"]
    content = folder / made["sha256"]
    for known, stays in ((1, [content.name]), (modified(place, content), [])):
        place.storage.drop_dataset(folder, made["sha256"], known)
        assert list(place.storage.entries(folder)) == stays
    assert list((place.root / "contents").iterdir()) == []


def modified(place: Place, path: PurePosixPath) -> int:
    there = place.storage.info(path)
    assert there
    return there.modified_ns


def _named(path: Path) -> set[str]:
    """Whom an ACL names, by numbers, and what they may."""
    told = subprocess.run(["getfacl", "-acpn", path], capture_output=True, text=True, check=True)
    return {line for line in told.stdout.split() if line.startswith("user:") and "::" not in line}


def files(place: Place) -> list[Path]:
    return [path for path in (place.root / "runs/one").rglob("*") if path.is_file()]
