"""Claims about hostile zips: each is answered alike by page, API and node, and writes nothing."""

from __future__ import annotations

import io
import json
import re
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import badzips
import pytest
from badzips import CODE, DEFLATED, ENCRYPTED, FULL, STREAMED, UTF8, entry, pack
from doors import GROWTH, Gateway, Node
from staged import here

from nias_bridge.node import layout

PLAIN_JOB = 48 * 1024**2  # bytes that the node's program has at its peak with a harmless zip


@dataclass(frozen=True)
class Bad:
    """A zip that is refused with these words; late: only unpacking can tell."""

    name: str
    zipped: Callable[[], bytes]
    says: str
    late: bool = False


def named(name: str | bytes, says: str, label: str = "", **more: object) -> Bad:
    """A zip with an entry of this name beside code.py."""
    shown = label or ascii(name)[:60]
    return Bad(f"name {shown}", lambda: pack(CODE, entry(name, b"x", **more)), says)


def kind(word: str, mode: int, says: str, content: bytes = b"/etc/passwd") -> Bad:
    return Bad(word, lambda: pack(CODE, entry("p/x", content, mode=mode)), says)


def linked_through() -> bytes:
    link = entry("p/data", b"/tmp", mode=stat.S_IFLNK | 0o777)
    return pack(CODE, link, entry("p/data/nias-hostile-written", b"x"))


def data_descriptor(size: int) -> bytes:
    """A streamed entry: its sizes stand behind its data, and lie there."""
    descriptor = struct.pack("<4s3L", b"PK\7\x08", 0, size, size)
    return pack(
        CODE, entry("p/x", b"abc", data=b"abc" + descriptor, packed=3, flags=UTF8 | STREAMED)
    )


def utf8_path_field(path: bytes) -> bytes:
    import zlib

    field = struct.pack("<BL", 1, zlib.crc32(b"p/x")) + path
    return struct.pack("<HH", 0x7075, len(field)) + field


def zip64_sizes(*sizes: int) -> bytes:
    return struct.pack(f"<HH{len(sizes)}Q", 1, 8 * len(sizes), *sizes)


BOMB = bytes(20_000_000)
HEAD = pack(CODE).partition(b"PK\1\2")[0]
OUT = "leads out of the project"
CONTROL = "has the control character"
DAMAGED = "damaged"

CORPUS = [
    # Names that lead elsewhere
    named("../x", OUT),
    named("p/../../x", OUT),
    named("p/..", OUT),
    named("p/a/../../../../../../../../tmp/x", OUT),
    named("..\\x", OUT),
    named("p\\..\\..\\x", OUT),
    named("p/..\\../x", OUT),
    named("p/./../../x", OUT),
    named("/etc/cron.d/x", "absolute path"),
    named("//server/share/x", "absolute path"),
    named("\\\\server\\share\\x", "absolute path"),
    named("\\\\?\\C:\\x", "absolute path"),
    named("\\x", "absolute path"),
    named("C:/x", "drive letter"),
    named("c:x", "drive letter"),
    named("C:\\Windows\\x", "drive letter"),
    named("../x/", OUT, label="../x/ as a folder", mode=stat.S_IFDIR | 0o755),
    named("/x/", "absolute path", label="/x/ as a folder", mode=stat.S_IFDIR | 0o755),
    named("p/x", OUT, label="p/x, and ../x in its Unicode field", extra=utf8_path_field(b"../x")),
    named("p/\u2025/x\u0000/../..", OUT + "|" + CONTROL, label="two dots as one character, a NUL"),
    named(b"p/\xc0\xae\xc0\xae/x", "not the UTF-8", label="over-long UTF-8 dots"),
    # Names that can't be read, or play with who reads them
    named("p/a\nb", CONTROL),
    named("p/a\r\nb", CONTROL),
    named("p/a\x00.py", CONTROL),
    named("p/\x1b[2Jx", CONTROL),
    named("p/\x7f", CONTROL),
    named("p/\x85", CONTROL),
    named("p/\u2028x", CONTROL),
    named("p/\u202egpj.py", CONTROL),
    named("p/\u2066x\u2069", CONTROL),
    named("p/\u200fx", CONTROL),
    named(b"p/\xed\xa0\x80", "not the UTF-8", label="half a surrogate pair"),
    named("p/" + "a" * 256, "more than 255 bytes"),
    named("p/" + "é" * 128, "more than 255 bytes", label="128 é"),
    named("p/" + "a/" * 500 + "x", "more than 1,000 bytes"),
    named("p/" + "a/" * 30_000 + "x", "more than 1,000 bytes", label="30,000 folders deep"),
    named(b"p/" + b"x" * 65_000, "more than 255 bytes", label="65,000 bytes"),
    # Names that meet
    Bad("twice", lambda: pack(CODE, entry("p/a", b"1"), entry("p/a", b"2")), "in this zip twice"),
    Bad("code.py twice", lambda: pack(CODE, CODE), "in this zip twice"),
    Bad("case", lambda: pack(CODE, entry("p/A"), entry("p/a")), "differ only in case"),
    Bad("case of a folder", lambda: pack(CODE, entry("p/A/1"), entry("p/a/2")), "only in case"),
    Bad("case beyond ASCII", lambda: pack(CODE, entry("p/ß"), entry("p/SS")), "only in case"),
    Bad("composition", lambda: pack(CODE, entry("p/\u00e9"), entry("p/e\u0301")), "twice"),
    Bad("by a dot", lambda: pack(CODE, entry("p/a"), entry("p/./a")), "twice"),
    Bad("by a slash", lambda: pack(CODE, entry("p/a"), entry("p//a")), "twice"),
    Bad("by a backslash", lambda: pack(CODE, entry("p/a/b"), entry("p\\a\\b")), "twice"),
    Bad("file and folder", lambda: pack(CODE, entry("p/a"), entry("p/a/b")), "both a file and a"),
    Bad("output as a file", lambda: pack(CODE, entry("p/output", b"x")), "must be a folder"),
    # Kinds
    kind("link", stat.S_IFLNK | 0o777, "is a link"),
    kind("link to a folder above", stat.S_IFLNK | 0o777, "is a link", b"../../.."),
    kind("pipe", stat.S_IFIFO | 0o644, "special file", b""),
    kind("character device", stat.S_IFCHR | 0o666, "special file", b""),
    kind("block device", stat.S_IFBLK | 0o666, "special file", b""),
    kind("socket", stat.S_IFSOCK | 0o666, "special file", b""),
    kind("no kind that exists", 0o170000 | 0o644, "special file", b""),
    Bad("written through a link", linked_through, "is a link|both a file and a folder"),
    # Bombs
    Bad("ratio", lambda: pack(CODE, entry("p/x", BOMB, method=DEFLATED)), "times its size"),
    Bad("10 GB in 60 KB, overlapping", badzips.overlapping, "overlap|times its size|GB|MB"),
    Bad(
        "the same data twice",
        lambda: pack(CODE, entry("p/code2.py", CODE.content, offset=0)),
        "overlap",
    ),
    Bad("a million entries", lambda: badzips.million(1_000_000), "entries|far longer"),
    Bad("a million entries that are told as 5", lambda: badzips.million(5), "entries|far longer"),
    Bad("a petabyte, told", lambda: pack(CODE, entry("p/x", b"x", size=FULL,
        extra=zip64_sizes(2**50))), "at most"),
    Bad("more than is told", lambda: pack(CODE, entry("p/x", BOMB, method=DEFLATED, size=100)),
        "holds more than the zip says", late=True),
    Bad("less than is told", lambda: pack(CODE, entry("p/x", b"abc", size=100)),
        "ends too early", late=True),
    # Lies
    Bad("another name in its place", lambda: pack(CODE, entry("p/x", b"x", local_name=b"p/y")),
        "another one in the zip's list", late=True),
    Bad("a way out in its place", lambda: pack(CODE, entry("p/x", b"x", local_name=b"../")),
        "another one in the zip's list", late=True),
    Bad("another method in its place",
        lambda: badzips.changed(pack(entry("p/x", b"x"), CODE), b"PK\3\4", 8, b"\x08\0"),
        "another one in the zip's list", late=True),
    Bad("wrong checksum", lambda: pack(CODE, entry("p/x", b"abc", crc=1)), "checksum", late=True),
    Bad("no deflate", lambda: pack(CODE, entry("p/x", b"abc", method=DEFLATED, data=b"\xff" * 9)),
        "can't be unpacked", late=True),
    Bad("data beyond its end", lambda: pack(CODE, entry("p/x", b"abc", packed=500)), "overlap"),
    Bad("data within another's", lambda: pack(CODE, entry("p/x", b"abc", offset=7)), "overlap"),
    Bad("data where none is",
        lambda: pack(CODE, entry("p/x", b"a", offset=len(HEAD) + 9), more=b"?" * 99),
        "no data where", late=True),
    Bad("data behind the end", lambda: pack(CODE, entry("p/x", b"", offset=2**31)), "overlap"),
    Bad("encrypted", lambda: pack(CODE, entry("p/x", b"x", flags=ENCRYPTED)), "is encrypted"),
    Bad("encrypted in its place",
        lambda: badzips.changed(pack(entry("p/x", b"x"), CODE), b"PK\3\4", 6, b"\x01\0"),
        "is encrypted", late=True),
    Bad("Deflate64", lambda: pack(CODE, entry("p/x", b"x", method=9)), "Deflate64"),
    Bad("unknown method", lambda: pack(CODE, entry("p/x", b"x", method=77)), "number 77"),
    Bad("of several disks", lambda: pack(CODE, disks=1), "one part of several"),
    Bad("fewer than are told", lambda: pack(CODE, count=9), DAMAGED),
    Bad("more than are told", lambda: pack(CODE, entry("p/x"), count=1), DAMAGED),
    Bad("zip64 without its field", lambda: pack(CODE, entry("p/x", size=FULL)), "size of a large"),
    Bad("zip64 end that leads nowhere", lambda: pack(CODE)[:-22] + badzips.end64(1, 2**40, 2**41),
        DAMAGED),
    # What is no zip, or not only one
    Bad("empty", lambda: b"", "empty|not a zip"),
    Bad("a page", lambda: b"<html>", "not a zip"),
    Bad("a GIF with a zip behind it", lambda: b"GIF89a;" + pack(CODE), "not a zip"),
    Bad("a program with a zip behind it", lambda: b"#!/bin/sh\nexit\n" + pack(CODE), "not a zip"),
    Bad("a zip with a zip behind it", lambda: pack(CODE) + pack(entry("p/x"), CODE), DAMAGED),
    Bad("something put before the end", lambda: pack(CODE)[:-22] + b"PK" + pack(CODE)[-22:],
        DAMAGED),
    Bad("cut short", lambda: pack(CODE)[:-30], "cut short"),
    Bad("nothing in it", pack, "has no code.py"),
    Bad("two projects", lambda: pack(CODE, entry("q/code.py")), "more than one project"),
]  # fmt: skip


def test_no_case_has_the_name_of_another() -> None:
    assert len({bad.name for bad in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("bad", [b for b in CORPUS if b.late], ids=lambda bad: bad.name)
def test_what_only_unpacking_tells_is_stored_as_it_came(bad: Bad, gateway: Gateway) -> None:
    zipped = bad.zipped()
    with gateway.bounded():
        answer = gateway.send(zipped, again=1)
        assert answer.status == 202, answer.said
        assert gateway.send_page(zipped).status == 303
    run = gateway.bridge.store.run(json.loads(answer.body)["id"])
    files = here(gateway.bridge).run(run)
    assert files.archive.read_bytes() == zipped
    assert [path.name for path in files.folder.iterdir()] == [layout.ARCHIVE]


@pytest.mark.parametrize("bad", [b for b in CORPUS if not b.late], ids=lambda bad: bad.name)
def test_a_bad_zip_is_refused_by_page_and_api_with_its_words(bad: Bad, gateway: Gateway) -> None:
    zipped = bad.zipped()
    with gateway.unwritten(), gateway.bounded():
        for answer in (gateway.send(zipped), gateway.send_page(zipped)):
            assert answer.status == 422, answer.said
            assert re.search(bad.says, answer.said), answer.said


@pytest.mark.parametrize("bad", CORPUS, ids=lambda bad: bad.name)
def test_a_bad_zip_is_refused_by_the_node_with_the_same_words(
    bad: Bad, node: Node, job_folder: Path
) -> None:
    (job_folder / layout.ARCHIVE).write_bytes(bad.zipped())
    before = outside(job_folder)
    ended = node.run(job_folder)
    assert ended.told["reason"] == "archive"
    assert re.search(bad.says, ended.said), ended.said
    assert ended.peak < PLAIN_JOB + GROWTH
    assert outside(job_folder) == before


def outside(folder: Path) -> set[str]:
    """What lies beside a run's folder, and where these zips would like to write."""
    top = folder.parents[3]
    beside = {str(path) for path in top.rglob("*") if folder not in path.parents}
    aims = (Path("/tmp"), Path("/etc/cron.d"), top.parent)
    return beside | {str(each) for aim in aims for each in aim.glob("*x") if each.name == "x"}


# What looks hostile and is taken, because it is made harmless


def unpacked(node: Node, folder: Path, zipped: bytes) -> Path:
    (folder / layout.ARCHIVE).write_bytes(zipped)
    ended = node.run(folder)
    assert (ended.told["reason"], ended.told["exit_code"]) == ("finished", 0), ended.said
    return folder / layout.PROJECT


def test_setuid_and_other_rights_become_plain_ones(node: Node, job_folder: Path) -> None:
    modes = {"suid": 0o4777, "sgid": 0o2755, "sticky": 0o1777, "none": 0o000, "all": 0o666}
    entries = [entry(f"p/{name}", b"x", mode=stat.S_IFREG | mode) for name, mode in modes.items()]
    project = unpacked(node, job_folder, pack(CODE, *entries))
    found = {name: stat.S_IMODE((project / name).stat().st_mode) for name in modes}
    assert found == {"suid": 0o755, "sgid": 0o755, "sticky": 0o755, "none": 0o644, "all": 0o644}


def test_a_zip_within_a_zip_stays_packed(gateway: Gateway, node: Node, job_folder: Path) -> None:
    inner = pack(entry("bomb", BOMB, method=DEFLATED))
    for _ in range(5):
        inner = pack(entry("inner.zip", inner, method=DEFLATED))
    zipped = pack(CODE, entry("p/inner.zip", inner))
    with gateway.bounded():
        assert gateway.send(zipped, again=1).status == 202
    project = unpacked(node, job_folder, zipped)
    assert (project / "inner.zip").read_bytes() == inner
    assert {path.name for path in project.iterdir()} == {"code.py", "inner.zip", "output"}


@pytest.mark.parametrize(
    "zipped",
    [
        pack(CODE, entry("p/x", b"abc", flags=UTF8 | STREAMED)),
        data_descriptor(2**31),
        pack(CODE, entry("p/x", b"abc", local_size=77)),
        pack(CODE, entry("p/x", b"abc", size=FULL, extra=zip64_sizes(3))),
        pack(CODE, entry("p/x", b"abc"), after=bytes(512)),
        pack(CODE, entry("p/x", b"abc"), after=b"<script>alert(1)</script>"),
    ],
    ids=["streamed", "descriptor lies", "local size lies", "zip64", "padding", "trailing junk"],
)
def test_the_directory_alone_counts(node: Node, job_folder: Path, zipped: bytes) -> None:
    assert (unpacked(node, job_folder, zipped) / "x").read_bytes() == b"abc"


def test_four_hundred_folders_deep_is_taken_everywhere(
    gateway: Gateway, node: Node, job_folder: Path
) -> None:
    path = "d/" * 490 + "x"
    zipped = pack(CODE, entry(f"p/{path}", b"abc"))
    with gateway.bounded():
        assert gateway.send(zipped, again=1).status == 202
        assert gateway.send_page(zipped).status == 303
    assert (unpacked(node, job_folder, zipped) / path).read_bytes() == b"abc"


def test_encoded_dots_are_a_name_and_no_way_out(node: Node, job_folder: Path) -> None:
    zipped = pack(CODE, entry("p/%2e%2e%2fx", b"1"), entry("p/..%5cx", b"2"), entry("p/…/x", b"3"))
    project = unpacked(node, job_folder, zipped)
    found = {str(path.relative_to(project)) for path in project.rglob("*x")}
    assert found == {"%2e%2e%2fx", "..%5cx", "…/x"}


def test_the_zips_of_pythons_own_writer_are_taken(node: Node, job_folder: Path) -> None:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_LZMA) as packed:
        packed.writestr("p/code.py", CODE.content)
        packed.writestr("p/x", b"abc" * 1000)
    assert (unpacked(node, job_folder, body.getvalue()) / "x").read_bytes() == b"abc" * 1000
