"""Environments when things go wrong: builders killed, disks full, files deleted, many at once."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv

from nias_bridge import pipconfig
from nias_bridge.node import building, files, layout, sandbox, soundness
from nias_bridge.node.environment import BuildFailed, Wish, obtain

VARIABLES = pipconfig.told()
ONLY_SOURCE = "python_speech_features==0.6"
SECONDS = 60
FORKING = multiprocessing.get_context("fork")


def wish(*lines: str, owner: str = "lab", source: bool = True) -> Wish:
    return Wish(lines, owner, VARIABLES, source)


def silent(_: str) -> None:
    pass


def furnish(root: Path) -> Path:
    (root / layout.BIN).mkdir(parents=True)
    shutil.copy(uv.find_uv_bin(), root / layout.BIN / layout.UV)
    return root


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnish(tmp_path_factory.mktemp("shared"))


def _report(root: Path, lines: tuple[str, ...], said: multiprocessing.Queue[bool]) -> None:
    said.put(obtain(root, wish(*lines), silent).built)


def test_twenty_that_start_at_once_build_it_once(shared):
    said: multiprocessing.Queue[bool] = FORKING.Queue()
    jobs = [
        FORKING.Process(target=_report, args=(shared, ("six==1.16.0",), said)) for _ in range(20)
    ]
    for job in jobs:
        job.start()
    built = [said.get(timeout=SECONDS) for _ in jobs]
    for job in jobs:
        job.join()
    assert sorted(built) == [False] * 19 + [True]


def test_it_can_not_be_written_to(shared):
    made = obtain(shared, wish("iniconfig==2.0.0"), silent)
    for path in (made.folder, *made.folder.rglob("*")):
        if not path.is_symlink():
            assert not stat.S_IMODE(path.stat().st_mode) & 0o222, path
    made.release()


def test_the_lock_has_the_one_file_of_each_package_and_installs_the_same_again(shared, tmp_path):
    made = obtain(shared, wish("iniconfig", "pluggy==1.5.0"), silent)
    locked = re.findall(r"(\S+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}\n", made.lock)
    assert [name for name, _ in locked] == ["iniconfig", "pluggy"]
    lines = made.lock.replace("\\\n", "").splitlines()[1:]
    again = obtain(shared, wish(*(" ".join(line.split()) for line in lines)), silent)
    assert again.lock == made.lock


def test_a_file_with_another_hash_than_the_project_gives_is_not_installed(shared):
    with pytest.raises(BuildFailed, match=r"iniconfig==2\.0\.0: no file .* has a hash"):
        obtain(shared, wish(f"iniconfig==2.0.0 --hash=sha256:{'0' * 64}"), silent)


# Files that are gone


def test_a_deleted_file_is_noticed_before_the_next_run(shared):
    made = obtain(shared, wish("pluggy==1.4.0"), silent)
    made.release()
    next(made.folder.glob("lib/*/site-packages/pluggy/__init__.py")).unlink()
    again = obtain(shared, wish("pluggy==1.4.0"), silent)
    assert again.built
    assert next(again.folder.glob("lib/*/site-packages/pluggy/__init__.py")).exists()


def test_what_lies_deep_or_was_cut_short_is_found_by_a_close_look_and_mended_by_the_next_run(
    shared,
):
    made = obtain(shared, wish("pluggy==1.3.0"), silent)
    assert soundness.doubt(made.folder) == []
    module = next(made.folder.glob("lib/*/site-packages/pluggy/_hooks.py"))
    module.unlink()  # a hard link to uv's cache: that must stay whole
    module.write_bytes(b"")
    record = files.read_json(made.folder / soundness.RECORD)
    inside = module.parent.relative_to(made.folder).as_posix()
    os.utime(module.parent, ns=(0, record["folders"][inside]))
    assert not obtain(shared, wish("pluggy==1.3.0"), silent).built, "a quick look sees nothing"
    assert soundness.doubt(made.folder) == ["pluggy/_hooks.py"]
    again = obtain(shared, wish("pluggy==1.3.0"), silent)
    assert again.built
    assert soundness.doubt(again.folder) == []


# Builders that die


def _build_slowly(root: Path, marker: Path) -> None:
    def wait(*_: object) -> None:
        marker.touch()
        time.sleep(SECONDS)

    building.bytecode.provide = wait  # type: ignore[assignment]  # within this process alone
    obtain(root, wish("iniconfig==1.1.1"), silent)


def test_a_builder_killed_midway_leaves_no_half_environment_and_no_stuck_lock(shared, tmp_path):
    builder = FORKING.Process(target=_build_slowly, args=(shared, tmp_path / "midway"))
    builder.start()
    deadline = time.monotonic() + SECONDS
    while not (tmp_path / "midway").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert builder.pid
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    envs = shared / layout.ENVIRONMENTS
    assert len(list(envs.glob(".building-*"))) == 1
    began = time.monotonic()
    made = obtain(shared, wish("iniconfig==1.1.1"), silent)
    assert made.built
    assert time.monotonic() - began < SECONDS / 2, "it waits for nobody"
    assert not list(envs.glob(".building-*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "small"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_disk_full_in_mid_build_is_told_and_with_room_again_it_is_built(small_disk):
    (small_disk / layout.BIN).mkdir()
    (small_disk / layout.BIN / layout.UV).symlink_to(uv.find_uv_bin())
    with pytest.raises(BuildFailed, match="no room left on the shared storage"):
        obtain(small_disk, wish("pygments==2.18.0"), silent)
    envs = small_disk / layout.ENVIRONMENTS
    assert [f.name for f in envs.iterdir() if f.suffix != ".lock"] == []
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert obtain(small_disk, wish("pygments==2.18.0"), silent).built


# What exists only as source


def test_what_has_no_wheel_is_refused_by_name_where_the_site_forbids_it(shared):
    with pytest.raises(BuildFailed, match=r"^python-speech-features: there is only source code"):
        obtain(shared, wish(ONLY_SOURCE, source=False), silent)


def test_what_has_no_wheel_is_built_for_its_owner_alone(shared):
    said: list[str] = []
    made = obtain(shared, wish(ONLY_SOURCE, owner="ada"), said.append)
    assert made.built
    assert made.folder.parent == shared / layout.ENVIRONMENTS / layout.PRIVATE / "ada"
    assert "It is built for your runs alone" in said[0]
    assert "--hash=sha256:" in made.lock
    imported = [made.python, "-c", "import python_speech_features"]
    missing_numpy = subprocess.run(imported, capture_output=True, text=True, check=False).stderr
    assert "numpy" in missing_numpy or not missing_numpy
    assert not obtain(shared, wish(ONLY_SOURCE, owner="ada"), silent).built
    built_from = {p.relative_to(shared).as_posix() for p in shared.rglob("python_speech_features*")}
    assert built_from
    assert all(path.split("/")[1:3] == ["private", "ada"] for path in built_from)


def test_source_is_not_built_where_it_cannot_be_confined(shared, tmp_path, monkeypatch):
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'no namespaces here' >&2; exit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    sandbox._try.cache_clear()
    try:
        with pytest.raises(sandbox.Refused, match="bubblewrap does not work"):
            obtain(shared, wish(ONLY_SOURCE, owner="eve"), silent)
    finally:
        sandbox._try.cache_clear()
    assert not list((shared / layout.ENVIRONMENTS / layout.PRIVATE / "eve").glob("[!.]*.use"))
