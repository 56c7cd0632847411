"""The messages between a gateway and its login node, and the wall around the storage there."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nias_bridge.node import serving
from nias_bridge.node.operations import OPERATIONS

names = st.text(min_size=1)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(names, inner),
)


def sent(value: Any) -> Any:
    wire = io.BytesIO(b"".join(serving.pack(value)))
    told = serving.unpack(wire.read)
    assert wire.read() == b""
    return told


@given(values)
def test_what_is_sent_arrives_and_nothing_beside_it(value: Any) -> None:
    assert sent(value) == value


def test_bytes_are_sent_as_they_are_and_no_longer() -> None:
    data = os.urandom(100_000)
    assert len(b"".join(serving.pack({"data": data}))) < len(data) + 40


def test_names_that_are_no_text_arrive_as_they_were() -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    assert os.fsencode(sent([name])[0]) == b"caf\xe9.txt"


def asked(do: str, top: Path, /, **arguments: Any) -> dict[str, Any]:
    return serving.answer(
        {"do": do, "with": arguments}, str(top), os.path.realpath(top), OPERATIONS
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "shared"
    root.mkdir()
    (tmp_path / "shared-beside").mkdir()
    (tmp_path / "shared-beside" / "secret").write_text("theirs")
    (root / "mine").write_text("mine")
    return root


OUTSIDE = [
    ("info", {"path": "{beside}/secret"}),
    ("info", {"path": "{root}/../shared-beside/secret"}),
    ("info", {"path": "mine"}),
    ("infos", {"paths": ["{root}/mine", "{beside}/secret"]}),
    ("contents", {"paths": ["{beside}/secret"], "most": 10}),
    ("begin_beneath", {"root": "{root}", "path": "../shared-beside/secret", "most": 10}),
    ("begin_beneath", {"root": "{root}", "path": "{beside}/secret", "most": 10}),
    ("listing", {"root": "{root}", "inside": "../shared-beside", "most": 10}),
    ("entries", {"folder": "{beside}"}),
    ("write", {"path": "{beside}/new", "data": b"x", "mode": 0o600}),
    ("move", {"source": "{root}/mine", "target": "{beside}/new"}),
    ("take", {"source": "{beside}/secret", "target": "{root}/new"}),
    ("join", {"path": "{root}/mine", "offset": 4, "source": "{beside}/secret"}),
    ("end", {"path": "{root}/mine", "others": ["{beside}/secret"]}),
    ("retire", {"folder": "{root}", "lock": "{beside}/secret", "aside": "."}),
    ("clear", {"root": "{root}", "inside": "..", "stays": [], "logs": "", "tasks": ""}),
]


@pytest.mark.parametrize(("do", "arguments"), OUTSIDE)
def test_a_path_that_leads_out_of_the_storage_is_refused_as_it_is_written(
    root: Path, do: str, arguments: dict[str, Any]
) -> None:
    def meant(value: Any) -> Any:
        if isinstance(value, list):
            return [meant(each) for each in value]
        if not isinstance(value, str):
            return value
        return value.format(root=root, beside=root.with_name("shared-beside"))

    told = asked(do, root, **{name: meant(value) for name, value in arguments.items()})
    assert told["errno"] == errno.EACCES
    there = {file.relative_to(root.parent).as_posix(): file.read_text() for file in files(root)}
    assert there == {"shared/mine": "mine", "shared-beside/secret": "theirs"}


def files(root: Path) -> list[Path]:
    return [path for path in root.parent.rglob("*") if path.is_file()]


def test_every_argument_that_names_a_place_is_held_to_the_storage() -> None:
    def places(operation: Any) -> set[str]:
        kinds = {name: kind for name, kind in operation.__annotations__.items() if name != "return"}
        return {name for name, kind in kinds.items() if kind in ("str", "list[str]")}

    no_places = {"ending", "aside", "stays", "logs", "tasks", "filename", "word", "sha256"}
    for operation in OPERATIONS.values():
        assert places(operation) - serving.PATHS <= no_places, operation


def test_a_storage_that_a_link_leads_to_is_reached_through_it(root: Path) -> None:
    led = root.with_name("led")
    led.symlink_to(root)
    told = asked("begin", led, path=f"{led}/mine", most=10)["gave"]
    assert (told[0], told[2]) == (f"{root}/mine", b"mine")
    inode = told[1][3]
    assert asked("read", led, path=told[0], offset=1, most=10, inode=inode) == {"gave": b"ine"}
    assert asked("begin_beneath", led, root=str(led), path="mine", most=1)["gave"][2] == b"m"


def test_what_an_operation_fails_by_is_told_and_is_no_end(root: Path) -> None:
    told = asked("begin", root, path=f"{root}/none", most=1)
    assert (told["errno"], told["filename"]) == (errno.ENOENT, f"{root}/none")
    assert "ValueError" in asked("info", root, path=f"{root}/\0")["failed"]
    assert "KeyError" in asked("no such operation", root)["failed"]
