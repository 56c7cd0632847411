from __future__ import annotations

import importlib.machinery
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import uv

from nias_bridge import pipconfig
from nias_bridge.node import environment, installer, layout, soundness
from nias_bridge.node.environment import BuildFailed, Environment, Wish, obtain, obtain_again

VARIABLES = pipconfig.told()
TINY = ["iniconfig==2.0.0"]
NOT_THERE = ["iniconfig==0.0.0.1"]


def wish(*lines: str, owner: str = "lab", source: bool = True, **variables: str) -> Wish:
    return Wish(lines, owner, {**VARIABLES, **variables}, source)


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnished(tmp_path_factory.mktemp("shared"))


def furnished(root: Path) -> Path:
    (root / layout.BIN).mkdir()
    (root / layout.BIN / layout.UV).symlink_to(uv.find_uv_bin())
    return root


@pytest.fixture(scope="module")
def tiny(shared: Path) -> Environment:
    return obtain(shared, wish(*TINY), silent)


def python(made: Environment, *arguments: str, folder: Path | None = None) -> str:
    clean = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    command = [str(made.python), *arguments]
    return subprocess.run(
        command, cwd=folder, env=clean, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_an_environment_is_built_once_and_then_reused_at_no_cost(shared, tiny):
    assert (tiny.built, tiny.packages) == (True, 1)
    quickest = min(obtain(shared, wish("Iniconfig == 2.0.0"), silent).seconds
                   for _ in range(20))  # fmt: skip
    again = obtain(shared, wish("Iniconfig == 2.0.0"), silent)
    assert (again.key, again.built) == (tiny.key, False)
    assert quickest < 0.005
    assert python(tiny, "-c", "import iniconfig; print('fine')") == "fine\n"


def test_its_record_tells_what_is_in_it_and_its_time_when_it_was_used(shared, tiny):
    record = tiny.folder / soundness.RECORD
    told = json.loads(record.read_text())
    assert told["installed"] == ["iniconfig==2.0.0"]
    assert told["requirements"] == TINY
    use = tiny.folder.with_name(f"{tiny.key}.use")
    os.utime(use, (1, 1))
    obtain(shared, wish(*TINY), silent)
    assert time.time() - use.stat().st_mtime < 60


def test_nothing_half_built_is_left(tiny):
    assert not list(tiny.folder.parent.glob(".building-*"))


def test_our_own_process_can_borrow_what_is_built_already_and_builds_nothing(
    shared, tiny, tmp_path
):
    with environment.lent(shared, wish(*TINY)):
        found = importlib.machinery.PathFinder.find_spec("iniconfig", sys.path[-1:])
        assert found is not None
        assert found.origin is not None
        assert Path(found.origin).is_relative_to(tiny.folder)
    before = list(sys.path)
    with environment.lent(tmp_path, wish(*TINY)):
        assert sys.path == before
    assert list(tmp_path.iterdir()) == []


def test_the_same_environment_is_had_again_while_it_holds_what_it_held(shared, tiny):
    again = obtain_again(shared, wish(*TINY), tiny.lock, silent)
    assert (again.key, again.built) == (tiny.key, False)


def test_what_was_installed_is_had_again_though_the_requirements_would_bring_a_newer_one(shared):
    older = obtain(shared, wish("iniconfig==1.1.1"), silent)
    newest = obtain(shared, wish("iniconfig>1"), silent)
    assert newest.lock != older.lock
    said: list[str] = []
    again = obtain_again(shared, wish("iniconfig>1"), older.lock, said.append)
    assert again.lock == older.lock
    assert python(again, "-c", "import iniconfig; print(iniconfig.__file__)")
    assert said == []


def test_where_jobs_are_their_owners_accounts_nothing_is_written_for_all(tmp_path):
    furnished(tmp_path)
    made = obtain(tmp_path, wish(*TINY)._replace(alone=True), silent)
    made.release()
    assert made.folder.parent == tmp_path / "envs" / "private" / "lab"
    written = {path.relative_to(tmp_path).parts[:3] for path in tmp_path.rglob("*")}
    assert {parts for parts in written if len(parts) == 3} <= {
        ("envs", "private", "lab"),
        ("cache", "private", "lab"),
    }
    aside = environment.put_aside(made.folder)
    os.utime(aside, (0, 0))
    obtain(tmp_path, wish(*TINY)._replace(alone=True), silent).release()
    assert not aside.exists()


def test_other_indexes_mean_another_environment(tmp_path):
    first, second = (wish("numpy", UV_INDEX_URL=f"https://example.org/{n}") for n in "ab")
    assert environment._key(first) != environment._key(second)
    assert environment._key(wish("numpy", HTTPS_PROXY="x")) == environment._key(wish("numpy"))


def test_what_can_not_be_installed_is_told_in_the_installers_words(shared):
    with pytest.raises(BuildFailed) as failure:
        obtain(shared, wish(*NOT_THERE), silent)
    assert "iniconfig" in failure.value.details
    assert not list((shared / layout.ENVIRONMENTS).glob(".building-*"))


def test_a_broken_environment_is_built_anew(shared, tiny):
    (tiny.folder / "bin" / "python").unlink()
    (tiny.folder / "bin" / "python").symlink_to("/nonexistent/python3")
    leftover = tiny.folder.with_name(f".building-{tiny.key}-dead")
    leftover.mkdir()
    again = obtain(shared, wish(*TINY), silent)
    assert again.built
    assert python(again, "-c", "print(1)") == "1\n"
    assert not leftover.exists()


def _obtain_in_a_process(root: str, said: multiprocessing.Queue[str]) -> None:
    made = obtain(Path(root), wish("iniconfig"), said.put)
    said.put(f"built={made.built}")


def test_two_jobs_at_once_build_it_once_and_one_says_that_it_waits(shared):
    forking = multiprocessing.get_context("fork")
    said: multiprocessing.Queue[str] = forking.Queue()
    jobs = [forking.Process(target=_obtain_in_a_process, args=(str(shared), said)) for _ in "ab"]
    for job in jobs:
        job.start()
    told = [said.get(timeout=60)]
    while len([t for t in told if t.startswith("built")]) < 2:
        told.append(said.get(timeout=60))
    for job in jobs:
        job.join()
    assert sorted(t for t in told if t.startswith("built")) == ["built=False", "built=True"]


def test_without_uv_pip_builds_one_whose_scripts_know_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr(installer.shutil, "which", lambda _: None)
    made = obtain(tmp_path, wish("wheel==0.45.1"), silent)
    assert made.built
    script = made.folder / "bin" / "wheel"
    assert str(made.folder / "bin" / "python") in script.read_text()
    assert "wheel" in subprocess.check_output([script, "version"], text=True)


# code.py has the name of a standard module

ONCE = """
import os
with open("count", "a") as f:
    f.write("x")
"""


@pytest.mark.parametrize(
    "program",
    [
        "import pdb, doctest",
        "import code; assert code.interact",
        "import doctest\nassert doctest.testmod().failed == 0",
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import pdb'], check=True)",
        "import subprocess, sys\nsubprocess.run([sys.executable, 'other.py'], check=True)",
        """
import multiprocessing, sys
def work(n):
    import pdb
    return n + 1
if __name__ == "__main__":
    for how in ("fork", "spawn"):
        with multiprocessing.get_context(how).Pool(2) as pool:
            assert pool.map(work, [1, 2]) == [2, 3]
""",
    ],
    ids=["pdb", "code", "doctest", "subprocess", "script", "multiprocessing"],
)
def test_nothing_runs_the_program_a_second_time(tiny, tmp_path, program):
    guarded = "if __name__ == '__main__':\n" + "".join(f"    {x}\n" for x in ONCE.split("\n"))
    (tmp_path / "code.py").write_text((guarded if "spawn" in program else ONCE) + program)
    (tmp_path / "other.py").write_text("import pdb, code\nassert code.interact")
    python(tiny, "code.py", folder=tmp_path)
    assert (tmp_path / "count").read_text() == "x"


def test_the_programs_own_modules_are_found(tiny, tmp_path):
    (tmp_path / "code.py").write_text("import mine; print(mine.x)")
    (tmp_path / "mine.py").write_text("x = 3")
    assert python(tiny, "code.py", folder=tmp_path) == "3\n"


def test_uv_is_told_the_index_and_the_certificates_that_pip_is_told(tmp_path):
    fake = tmp_path / layout.BIN / layout.UV
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nenv\nexit 1\n")
    fake.chmod(0o755)

    def environment_of_uv(**variables: str) -> set[str]:
        with pytest.raises(BuildFailed) as failed:
            obtain(tmp_path, Wish(tuple(TINY), "lab", variables), silent)
        return set(failed.value.details.splitlines())

    told = environment_of_uv(PIP_INDEX_URL="https://lab/a", PIP_EXTRA_INDEX_URL="https://lab/b")
    assert {"UV_DEFAULT_INDEX=https://lab/a", "UV_INDEX=https://lab/b"} <= told
    assert "UV_INDEX_STRATEGY=unsafe-best-match" in told
    told = environment_of_uv(PIP_INDEX_URL="https://lab/a", UV_DEFAULT_INDEX="https://lab/c")
    assert "UV_DEFAULT_INDEX=https://lab/c" in told
    assert "SSL_CERT_FILE=/lab.pem" in environment_of_uv(PIP_CERT="/lab.pem")
    told = environment_of_uv(PIP_FIND_LINKS=f"https://lab/w {tmp_path} file:///not/there")
    assert f"UV_FIND_LINKS=https://lab/w,{tmp_path}" in told


@pytest.mark.skipif(
    not Path("/etc/ssl/certs/ca-certificates.crt").exists(), reason="no ca-certificates here"
)
def test_uv_trusts_whom_the_machine_trusts(tmp_path):
    fake = tmp_path / layout.BIN / layout.UV
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nenv\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(BuildFailed) as failed:
        obtain(tmp_path, Wish(tuple(TINY), "lab", {}), silent)
    assert "UV_SYSTEM_CERTS=1" in failed.value.details
