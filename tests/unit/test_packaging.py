"""What is shipped is whole: wheel, source archive, editable installs, each with its folders."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parents[2]
PACKAGE = "nias_bridge"
SHIPPED = (PACKAGE, "sbatch_templates", "web", "migrations", "examples")
ASSETS = SHIPPED[1:]


def _sources(folder: Path) -> set[str]:
    """What people wrote in a folder, by path from the root."""
    return {
        file.relative_to(folder.parent).as_posix()
        for file in folder.rglob("*")
        if file.is_file()
        and not {"__pycache__", ".mypy_cache", ".ruff_cache"} & set(file.parts)
        and not file.name.endswith((".pyc", "~"))
    }


SOURCES = set().union(*(_sources(ROOT / name) for name in SHIPPED))


def _installed_name(source: str) -> str:
    return source if source.startswith(f"{PACKAGE}/") else f"{PACKAGE}/{source}"


def _run(*argv: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        argv, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _setuptools(checkout: Path, call: str) -> None:
    """Ask the build backend itself, in this environment: no network and no copy of it."""
    code = f"import setuptools.build_meta as backend; backend.{call}"
    _run(sys.executable, "-W", "ignore", "-c", code, cwd=checkout)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is shipped, so that building leaves nothing in the real checkout."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in (*SOURCES, "setup.cfg", "pyproject.toml", "README.md"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    _setuptools(checkout, "build_wheel('dist')")
    return next((checkout / "dist").glob("*.whl"))


def _found_by(python_path: Path, tmp_path: Path) -> dict[str, str]:
    """Where each folder is found by a Python that has nothing but this path, and its assets."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:2]; import site; site.addsitedir(sys.argv[1])\n"
        f"from {PACKAGE} import assets\n"
        f"for name in {ASSETS!r}: print(name, assets.asset(name), sep='=')\n"
    )
    told = _run(sys.executable, "-S", "-c", code, str(python_path), cwd=tmp_path)
    return dict(line.split("=", 1) for line in told.splitlines())


def test_every_package_on_disk_is_listed_in_setup_cfg() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = set(config["options"]["packages"].split())
    with_python = {Path(_installed_name(s)).parent for s in SOURCES if s.endswith(".py")}
    needed = {".".join(folder.parts) for folder in with_python}
    needed = {name for name in needed if not name.startswith(f"{PACKAGE}.examples.")}
    assert listed == needed | {f"{PACKAGE}.{name}" for name in ASSETS}


def test_the_wheel_has_every_module_and_every_file_of_the_folders(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert shipped == {_installed_name(source) for source in SOURCES}


def test_the_source_archive_builds_the_same_wheel(
    checkout: Path, wheel: Path, tmp_path: Path
) -> None:
    _setuptools(checkout, "build_sdist('dist')")
    _run("tar", "-xf", next((checkout / "dist").glob("*.tar.gz")), cwd=tmp_path)
    unpacked = next(tmp_path.iterdir())
    _setuptools(unpacked, "build_wheel('dist')")
    again = next((unpacked / "dist").glob("*.whl"))
    assert again.name == wheel.name
    with zipfile.ZipFile(again) as one, zipfile.ZipFile(wheel) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


def test_an_installed_wheel_finds_its_folders_inside(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    _run(find_uv_bin(), "pip", "install", "-q", "--offline", "--no-deps",
         "--python", sys.executable, "--target", target, wheel, cwd=tmp_path)  # fmt: skip
    found = _found_by(target, tmp_path)
    assert found == {name: str(target / PACKAGE / name) for name in ASSETS}
    for source in SOURCES:
        assert (target / _installed_name(source)).is_file(), source


@pytest.mark.parametrize("mode", ["lenient", "compat", "strict"])
def test_an_editable_install_finds_its_folders(checkout: Path, tmp_path: Path, mode: str) -> None:
    copy = shutil.copytree(checkout, tmp_path / "checkout", ignore=shutil.ignore_patterns("dist"))
    _setuptools(copy, f"build_editable('dist', {{'editable_mode': '{mode}'}})")
    target = tmp_path / "site"
    with zipfile.ZipFile(next((copy / "dist").glob("*.whl"))) as archive:
        archive.extractall(target)
    for name, folder in _found_by(target, tmp_path).items():
        ours = {source for source in SOURCES if source.startswith(f"{name}/")}
        assert ours
        for source in ours:
            assert (Path(folder).parent / source).is_file(), source
