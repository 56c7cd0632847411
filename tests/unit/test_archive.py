from __future__ import annotations

import io
import stat
import struct
import time
import tracemalloc
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nias_bridge.node import archive
from nias_bridge.node.archive import ArchiveError, Inventory, Limits

LIMITS = Limits(unpacked_bytes=50_000_000, files=1000, ratio=200)


@pytest.fixture
def zip_of(tmp_path: Path):
    def make(files: dict[str, bytes | str], *infos: zipfile.ZipInfo, name: str = "p.zip") -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for entry, content in files.items():
                out.writestr(entry, content)
            for info in infos:
                out.writestr(info, "x")
        return path

    return make


def raw_zip(entries: Iterable[tuple[bytes, bytes, int, bytes]], lie: int | None = None) -> bytes:
    """A stored zip written by hand: (raw name, content, flags, extra)."""
    out, central, count = io.BytesIO(), b"", 0
    for name, content, flags, extra in entries:
        offset, crc = out.tell(), zlib.crc32(content)
        size = lie if lie is not None else len(content)
        common = struct.pack("<HHHHHLLL", 20, flags, 0, 0, 0, crc, len(content), size)
        out.write(b"PK\3\4" + common + struct.pack("<HH", len(name), 0) + name + content)
        central += b"PK\1\2" + struct.pack("<H", 20) + common
        central += struct.pack("<HHHHHLL", len(name), len(extra), 0, 0, 0, 0, offset)
        central += name + extra
        count += 1
    start = out.tell()
    out.write(central + end_record(count, len(central), start))
    return out.getvalue()


def end_record(count: int, size: int, offset: int) -> bytes:
    return b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, count, count, size, offset, 0)


def judge(path: Path, filename: str = "p.zip") -> Inventory:
    with path.open("rb") as file:
        return archive.judge(file, filename, LIMITS)


def paths(inventory: Inventory) -> set[str]:
    return {entry.path for entry in inventory.entries}


def refused(path: Path, words: str, target: Path | None = None) -> None:
    with pytest.raises(ArchiveError, match=words) as error:
        if target is None:
            judge(path)
        else:
            archive.unpack(path, target, LIMITS, "p.zip")
    assert str(error.value).isprintable()
    assert str(error.value).endswith((".", ")"))


# Which project


def test_the_folder_that_holds_code_py_names_the_project(zip_of):
    found = judge(zip_of({"EMG/code.py": "1", "EMG/data/a.txt": "22", "EMG/output/": ""}))
    assert (found.name, found.unpacked_size, found.has_output) == ("EMG", 3, True)
    assert paths(found) == {"code.py", "data/a.txt"}
    assert found.ignored == 0


def test_the_shallowest_code_py_wins_however_deep_it_was_nested(zip_of):
    found = judge(zip_of({"a/": "", "a/b/EMG/code.py": "1", "a/b/EMG/lib/code.py": "2"}))
    assert found.name == "EMG"
    assert paths(found) == {"code.py", "lib/code.py"}
    assert found.ignored == 0


def test_files_at_the_root_take_the_name_of_the_zip(zip_of):
    path = zip_of({"code.py": "1", "notes/a": ""})
    assert judge(path, "Ana\u0301lise 2.zip").name == "Análise 2"
    assert judge(path, "C:\\Users\\me\\x.ZIP").name == "x"
    assert not judge(path).has_output


def test_what_lies_beside_the_project_is_ignored_and_counted(zip_of):
    found = judge(zip_of({"EMG/code.py": "", "notes.txt": "", "other/readme": ""}))
    assert (paths(found), found.ignored) == ({"code.py"}, 2)


def test_two_projects_are_refused_by_name(zip_of):
    refused(zip_of({"one/code.py": "", "two/code.py": ""}), "more than one project: “one” and “two")


def test_no_project_says_what_is_expected(zip_of):
    refused(zip_of({"p/main.py": ""}), "has no code.py. It must hold one folder")
    refused(zip_of({"p/Code.py": ""}), "“Code.py” must be written “code.py”")


def test_what_systems_add_is_ignored(zip_of):
    junk = ["__MACOSX/p/._code.py", "p/.DS_Store", "p/Thumbs.db", "p/desktop.ini", "p/._x"]
    found = judge(zip_of({"p/code.py": "", **dict.fromkeys(junk, "x")}))
    assert (paths(found), found.ignored) == ({"code.py"}, 5)


def test_backslashes_are_separators(tmp_path):
    path = tmp_path / "p.zip"
    path.write_bytes(raw_zip([(b"p\\code.py", b"1", 0, b""), (b"p\\d\\a", b"2", 0, b"")]))
    assert paths(judge(path)) == {"code.py", "d/a"}


def test_an_output_that_is_a_file_is_refused(zip_of):
    refused(zip_of({"p/code.py": "", "p/output": "x"}), "“output” is a file")


# Names

WAV = "gravação.wav"
UNICODE_PATH = struct.pack("<BL", 1, zlib.crc32(b"p/grava__o.wav")) + f"p/{WAV}".encode()


@pytest.mark.parametrize(
    ("raw", "flags", "extra"),
    [
        (f"p/{WAV}".encode(), 0x800, b""),
        (f"p/{WAV}".encode(), 0, b""),
        (f"p/{WAV}".encode("cp850"), 0, b""),
        (unicodedata.normalize("NFD", f"p/{WAV}").encode(), 0x800, b""),
        (
            b"p/grava__o.wav",
            0,
            struct.pack("<HH", 0x7075, len(UNICODE_PATH)) + UNICODE_PATH,
        ),
    ],
    ids=["flag", "no flag", "cp850", "decomposed", "unicode path field"],
)
def test_a_name_is_found_whatever_zipped_it(tmp_path, raw, flags, extra):
    path = tmp_path / "p.zip"
    path.write_bytes(raw_zip([(b"p/code.py", b"", 0, b""), (raw, b"RIFF", flags, extra)]))
    archive.unpack(path, tmp_path / "out", LIMITS, "p.zip")
    assert (tmp_path / "out" / WAV).read_bytes() == b"RIFF"


def test_a_name_in_code_page_437_is_read(tmp_path):
    path = tmp_path / "p.zip"
    raw = "p/Señal ünd ƒ½.txt".encode("cp437")
    path.write_bytes(raw_zip([(b"p/code.py", b"", 0, b""), (raw, b"", 0, b"")]))
    assert "Señal ünd ƒ½.txt" in paths(judge(path))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/etc/passwd", "absolute"),
        ("//server/share", "absolute"),
        ("\\\\server\\share", "absolute"),
        ("../x", "leads out"),
        ("p/../../x", "leads out"),
        ("p\\..\\..\\x", "leads out"),
        ("C:/x", "drive letter"),
        ("c:x", "drive letter"),
        ("p/a\nb", "control character U\\+000A"),
        ("p/a\x00b", "control character U\\+0000"),
        ("p/a\u202egpj.exe", "control character U\\+202E"),
        ("p/" + "ã" * 200, "more than 255 bytes"),
        ("p/" + "a/" * 600, "more than 1,000 bytes"),
    ],
)
def test_an_unsafe_name_is_refused(tmp_path, name, words):
    path = tmp_path / "p.zip"
    path.write_bytes(raw_zip([(b"p/code.py", b"", 0, b""), (name.encode(), b"", 0x800, b"")]))
    refused(path, words)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["p/a", "p/a"], "twice"),
        (["p/Data.csv", "p/data.csv"], "differ only in case"),
        (["p/Data/a", "p/data/b"], "differ only in case"),
        (["p/é", "p/É"], "differ only in case"),
        (["p/\u00e9", "p/e\u0301"], "twice"),
        (["p/a", "p/./a"], "twice"),
        (["p/a", "p/a/b"], "both a file and a folder"),
        (["p/a/b", "p/a"], "both a file and a folder"),
    ],
)
def test_names_that_collide_are_refused(tmp_path, names, words):
    path = tmp_path / "p.zip"
    entries = [(name.encode(), b"", 0x800, b"") for name in ["p/code.py", *names]]
    path.write_bytes(raw_zip(entries))
    refused(path, words)


# Kinds


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (stat.S_IFLNK, "is a link"),
        (stat.S_IFIFO, "special file"),
        (stat.S_IFCHR, "special file"),
        (stat.S_IFSOCK, "special file"),
    ],
)
def test_links_and_special_files_are_refused(zip_of, kind, words):
    info = zipfile.ZipInfo("p/x")
    info.external_attr = (kind | 0o777) << 16
    refused(zip_of({"p/code.py": ""}, info), words)


def test_an_encrypted_entry_is_refused(tmp_path):
    path = tmp_path / "p.zip"
    path.write_bytes(raw_zip([(b"p/code.py", b"", 1, b"")]))
    refused(path, "is encrypted")


def test_an_unknown_compression_is_refused_by_name(zip_of):
    path = zip_of({"p/code.py": "x"})
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, data.index(b"PK\1\2") + 10, 9)
    path.write_bytes(data)
    refused(path, "Deflate64")


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_every_usual_compression_unpacks(tmp_path, method):
    content = bytes(range(256)) * 8000 + zlib.compress(b"q" * 999)
    with zipfile.ZipFile(tmp_path / "p.zip", "w", method) as out:
        out.writestr("p/code.py", content)
        out.writestr("p/empty", b"")
    archive.unpack(tmp_path / "p.zip", tmp_path / "out", LIMITS, "p.zip")
    assert (tmp_path / "out" / "code.py").read_bytes() == content
    assert (tmp_path / "out" / "empty").read_bytes() == b""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a zip"),
        (b"<html>PK\5\6" + b"\0" * 18, "is not a zip"),
        (b"Rar!\x1a\x07\x00", "is a RAR archive"),
        (b"PK\3\4" + b"\0" * 50, "cut short"),
        (b"PK\5\6" + b"\0" * 18, "has no code.py"),
        (b"PK\5\6" + b"\xff" * 18, "damaged|several"),
    ],
)
def test_what_is_no_zip_is_refused(tmp_path, content, words):
    path = tmp_path / "p.zip"
    path.write_bytes(content)
    refused(path, words)


def test_a_zip_behind_another_file_is_refused(zip_of):
    path = zip_of({"p/code.py": ""})
    path.write_bytes(b"GIF89a..." + path.read_bytes())
    refused(path, "is not a zip")


def test_a_comment_and_streamed_sizes_are_understood(tmp_path):
    class Unseekable(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data) -> int:
            self.data += bytes(data)
            return len(data)

    sink = Unseekable()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("p/code.py", "print()")
        out.comment = b"PK\5\6 is not the end"
    (tmp_path / "p.zip").write_bytes(sink.data)
    archive.unpack(tmp_path / "p.zip", tmp_path / "out", LIMITS, "p.zip")
    assert (tmp_path / "out" / "code.py").read_text() == "print()"


def test_zip64_is_read(tmp_path):
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as out, out.open("p/code.py", "w", force_zip64=True) as file:
        file.write(b"12")
    data = path.read_bytes()
    at = data.index(b"PK\5\6")
    size, offset = struct.unpack_from("<LL", data, at + 12)
    end64 = b"PK\6\6" + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, 1, 1, size, offset)
    locator = b"PK\6\7" + struct.pack("<LQL", 0, at, 1)
    path.write_bytes(data[:at] + end64 + locator + end_record(0xFFFF, 2**32 - 1, 2**32 - 1))
    archive.unpack(path, tmp_path / "out", LIMITS, "p.zip")
    assert (tmp_path / "out" / "code.py").read_bytes() == b"12"


# Harm


def test_overlapping_entries_are_refused(tmp_path):
    inner = raw_zip([(b"p/b", b"b" * 100, 0, b"")])[:133]
    data = bytearray(raw_zip([(b"p/code.py", b"", 0, b""), (b"p/a", inner, 0, b"")]))
    start = data.index(b"PK\1\2")
    again = inner.index(b"PK\3\4") + data.index(inner)
    central = data[start : data.index(b"PK\5\6")]
    entry = b"PK\1\2" + struct.pack("<H", 20) + inner[4:26]
    entry += struct.pack("<HHHHHLL", 3, 0, 0, 0, 0, 0, again) + b"p/b"
    whole = bytes(central) + entry
    path = tmp_path / "p.zip"
    path.write_bytes(data[:start] + whole + end_record(3, len(whole), start))
    refused(path, "overlap")


def test_a_ratio_bomb_is_refused(zip_of):
    refused(zip_of({"p/code.py": "", "p/zeros": bytes(20_000_000)}), "times its size")


def test_too_much_is_refused_with_the_figures(zip_of, tmp_path):
    path = zip_of({"p/code.py": "", "p/a": bytes(3000)})
    for limits, words in (
        (Limits(2_000, 10, 200), "at most 0 MB"),
        (Limits(10_000, 1, 200), "holds 2 files; at most 1 are taken"),
    ):
        with path.open("rb") as file, pytest.raises(ArchiveError, match=words):
            archive.judge(file, "p.zip", limits)


@pytest.mark.parametrize("told", [1_000_000, 5], ids=["honest count", "lying count"])
def test_a_million_entries_are_refused_quickly_in_little_memory(tmp_path, told):
    entry = b"PK\1\2" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"a"
    path = tmp_path / "p.zip"
    body = entry * 1_000_000
    end = (
        b"PK\6\6" + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, told, told, len(body), 4)
        + b"PK\6\7" + struct.pack("<LQL", 0, 4 + len(body), 1)
        + end_record(0xFFFF, 2**32 - 1, 2**32 - 1)
    )  # fmt: skip
    path.write_bytes(b"PK\3\4" + body + end)
    tracemalloc.start()
    started = time.process_time()
    with path.open("rb") as file, pytest.raises(ArchiveError, match=r"entries|far longer"):
        archive.judge(file, "p.zip", Limits(10**9, 20_000, 200))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - started < 2
    assert peak < 64_000_000


def test_a_size_that_lies_is_refused_while_unpacking(tmp_path):
    path = tmp_path / "p.zip"
    path.write_bytes(raw_zip([(b"p/code.py", b"x" * 1000, 0, b"")], lie=10))
    refused(path, "holds more than the zip says", tmp_path / "out")
    path.write_bytes(raw_zip([(b"p/code.py", b"x" * 1000, 0, b"")], lie=2000))
    refused(path, "ends too early", tmp_path / "out2")


def test_damage_is_told(zip_of, tmp_path):
    path = zip_of({"p/code.py": "x"})
    data = bytearray(path.read_bytes())
    for at in (data.index(b"PK\1\2") + 16, 14):
        data[at] ^= 1
    path.write_bytes(data)
    refused(path, r"checksum \(CRC\)", tmp_path / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_that_hides_its_size_is_never_in_memory_at_once(tmp_path, method):
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w", method) as out:
        out.writestr("p/code.py", "")
        with out.open("p/requirements.txt", "w") as file:
            for _ in range(40):
                file.write(bytes(1_000_000))
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        struct.pack_into("<L", data, data.rindex(mark) + at, 100)
    path.write_bytes(data)
    inventory = judge(path)
    tracemalloc.start()
    with path.open("rb") as file, pytest.raises(ArchiveError, match="holds more"):
        archive.read_member(file, inventory, "requirements.txt", 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


# Unpacking


def test_unpacking_makes_plain_files_and_an_output(tmp_path):
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as out:
        for name, mode in (("p/code.py", 0o644), ("p/run.sh", 0o4777), ("p/secret", 0o000)):
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | mode) << 16
            out.writestr(info, name)
        out.writestr("p/empty/", "")
    inventory = archive.unpack(path, tmp_path / "out", LIMITS, "p.zip")
    modes = {e.path: stat.S_IMODE((tmp_path / "out" / e.path).stat().st_mode)
             for e in inventory.entries}  # fmt: skip
    assert modes == {"code.py": 0o644, "run.sh": 0o755, "secret": 0o644}
    assert (tmp_path / "out" / "output").is_dir()
    assert (tmp_path / "out" / "empty").is_dir()


def test_one_member_is_read_within_its_limit(zip_of):
    path = zip_of({"p/code.py": "", "p/requirements.txt": "numpy\n"})
    inventory = judge(path)
    with path.open("rb") as file:
        assert archive.read_member(file, inventory, "requirements.txt", 100) == b"numpy\n"
        assert archive.read_member(file, inventory, "nias.toml", 100) is None
        with pytest.raises(ArchiveError, match="at most 3"):
            archive.read_member(file, inventory, "requirements.txt", 3)


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_no_damaged_zip_gives_anything_but_a_sentence(tmp_path_factory, data):
    sound = raw_zip([(b"p/code.py", b"print(1)", 0, b""), (b"p/d/x", b"abc", 0x800, b"")])
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("z")
    (folder / "p.zip").write_bytes(damaged[: data.draw(st.integers(0, len(sound)))] or damaged)
    try:
        archive.unpack(folder / "p.zip", folder / "in" / "out", LIMITS, "p.zip")
    except ArchiveError as error:
        assert str(error).isprintable()
    assert {p.name for p in folder.iterdir()} <= {"p.zip", "in"}
