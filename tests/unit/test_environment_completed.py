"""What the build of an environment leaves for later: compiled modules, made of nothing but what
was installed."""

from __future__ import annotations

import importlib.util
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import uv

from nias_bridge import pipconfig
from nias_bridge.node import building, bytecode, files, layout, soundness
from nias_bridge.node.environment import Environment, Wish, obtain

MAGIC = importlib.util.MAGIC_NUMBER


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    (tmp_path / layout.BIN).mkdir()
    (tmp_path / layout.BIN / layout.UV).symlink_to(uv.find_uv_bin())
    return tmp_path


@pytest.fixture
def pluggy(shared: Path) -> Callable[..., Environment]:
    def obtained(*further: str) -> Environment:
        return obtain(shared, Wish(("pluggy==1.5.0", *further), "lab", pipconfig.told()), print)

    return obtained


def folder(made: Environment) -> Path:
    return next(made.folder.glob("lib/*/site-packages/pluggy"))


def compiled(made: Environment) -> set[str]:
    """The modules of pluggy that have bytecode which is not compared with its source."""
    found = (folder(made) / "__pycache__").glob("*.pyc")
    return {path.name.split(".")[0] for path in found
            if path.read_bytes()[:8] == MAGIC + b"\1\0\0\0"}  # fmt: skip


def test_modules_are_compiled_once_the_environment_is_in_use_and_it_stays_as_sound(shared, pluggy):
    made = pluggy()
    assert (made.built, made.complete, compiled(made)) == (True, False, set())
    building.complete(shared, made)
    again = pluggy()
    assert (again.built, again.complete) == (False, True)
    assert compiled(again) == {path.stem for path in folder(made).glob("*.py")}
    record = files.read_json(made.folder / soundness.RECORD)
    assert record["bytes"] > sum(path.stat().st_size for path in folder(made).iterdir())
    for path in (made.folder, *made.folder.rglob("*")):
        assert path.is_symlink() or not stat.S_IMODE(path.stat().st_mode) & 0o222, path
    told = subprocess.check_output([made.python, "-v", "-c", "import pluggy"],
                                   stderr=subprocess.STDOUT, text=True)  # fmt: skip
    assert f"code object from {folder(made)}/__pycache__/_hooks." in told.replace("'", "")


def test_another_environment_has_them_from_its_first_run_on(shared, pluggy):
    building.complete(shared, pluggy())
    other = pluggy("iniconfig==2.0.0")
    assert (other.built, other.complete) == (True, False)  # iniconfig is new here
    assert "_hooks" in compiled(other)


def test_what_a_program_changed_is_not_compiled(shared, pluggy):
    made = pluggy()
    hooks = folder(made) / "_hooks.py"
    hooks.chmod(0o644)
    hooks.write_text("print('changed')\n")
    building.complete(shared, made)
    assert compiled(made) == {path.stem for path in folder(made).glob("*.py")} - {"_hooks"}
    assert not list(shared.glob("cache/compiled/*/*/pluggy/__pycache__/_hooks.*"))


def test_nothing_is_compiled_by_a_list_of_files_that_a_program_changed(shared, pluggy):
    made = pluggy()
    record = next(made.folder.glob("lib/*/site-packages/pluggy-*.dist-info/RECORD"))
    record.chmod(0o644)
    record.write_bytes(record.read_bytes() + b"\n")
    building.complete(shared, made)
    assert compiled(made) == set()
    assert pluggy("iniconfig==2.0.0").complete is False


def test_what_python_itself_left_there_as_root_gives_way(shared, pluggy):
    made = pluggy()
    place = folder(made) / "__pycache__"
    place.chmod(0o755)
    Path(importlib.util.cache_from_source(str(folder(made) / "_hooks.py"))).touch()
    building.complete(shared, made)
    assert "_hooks" in compiled(made)


def test_one_that_is_broken_off_is_completed_by_the_next(shared, pluggy, monkeypatch):
    made = pluggy()
    with monkeypatch.context() as patched:
        patched.setattr(bytecode, "_publish", lambda *_: Path("/nowhere").stat())
        with pytest.raises(FileNotFoundError):
            building.complete(shared, made)
    assert not list(shared.glob("cache/compiled/*/.*"))
    made.release()
    again = pluggy()
    assert (again.built, again.complete) == (False, False)
    building.complete(shared, again)
    assert compiled(again)


def test_a_compiler_that_dies_leaves_nothing_and_is_not_tried_again(shared, pluggy, monkeypatch):
    made = pluggy()
    monkeypatch.setattr(bytecode, "_compile", lambda *_: os.kill(os.getpid(), 9))
    building.complete(shared, made)
    assert compiled(made) == set()
    assert pluggy().complete
    assert not list(shared.glob("cache/compiled/*/*"))
