from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import uv

from nias_bridge.node import needs, requirements

SCRIPT = """#!/usr/bin/env python
# /// script
# requires-python = ">=3.9"
# dependencies = [
#   "numpy>=1.26",
#   "scipy",
# ]
# ///
import numpy
"""
PROJECT = '[project]\nname = "p"\nversion = "0"\ndependencies = ["heartpy==1.2.7", "six>1"]\n'
LOCK = """
version = 1
[[package]]
name = "p"
source = { virtual = "." }
dependencies = [
  { name = "click" },
  { name = "numpy", version = "1.26.4", marker = "python_full_version < '3.10'" },
  { name = "numpy", version = "2.2.0", marker = "python_full_version >= '3.10'" },
  { name = "h5py", extra = ["mpi"] },
]
[[package]]
name = "click"
version = "8.1.7"
source = { registry = "https://example.org/simple" }
dependencies = [{ name = "colorama", marker = "sys_platform == 'win32'" }]
sdist = { url = "https://example.org/click-8.1.7.tar.gz", hash = "sha256:aa" }
wheels = [
  { url = "https://example.org/click-8.1.7-py3-none-any.whl", hash = "sha256:bb" },
  { url = "https://example.org/click-8.1.7-cp311-cp311-win_amd64.whl", hash = "sha256:cc" },
]
[[package]]
name = "colorama"
version = "0.4.6"
source = { registry = "https://example.org/simple" }
[[package]]
name = "numpy"
version = "1.26.4"
source = { registry = "https://example.org/simple" }
[[package]]
name = "numpy"
version = "2.2.0"
source = { registry = "https://example.org/simple" }
[[package]]
name = "h5py"
version = "3.12.0"
source = { registry = "https://example.org/simple" }
dependencies = [{ name = "numpy", version = "2.2.0", marker = "python_full_version >= '3.10'" }]
[package.optional-dependencies]
mpi = [{ name = "mpi4py" }]
[[package]]
name = "mpi4py"
version = "4.0.0"
source = { registry = "https://example.org/simple" }
dependencies = [{ name = "h5py" }]
[[package]]
name = "unused"
version = "1"
source = { registry = "https://example.org/simple" }
"""


def read(**files: str) -> needs.Needs:
    content = {name.replace("__", "."): text.encode() for name, text in files.items()}
    return needs.read(content.get)


@pytest.mark.parametrize(
    ("files", "source", "first"),
    [
        ({"requirements__txt": "mne\n", "uv__lock": LOCK}, "requirements.txt", "mne"),
        ({"requirements__txt": "", "code__py": SCRIPT}, "requirements.txt", ""),
        ({"uv__lock": LOCK, "pyproject__toml": PROJECT}, "uv.lock", "click==8.1.7"),
        ({"pyproject__toml": PROJECT, "code__py": SCRIPT}, "pyproject.toml", "heartpy==1.2.7"),
        ({"pyproject__toml": "[tool.ruff]\n", "code__py": SCRIPT}, "code.py", "numpy>=1.26"),
        ({"code__py": SCRIPT.replace("\n", "\r\n")}, "code.py", "numpy>=1.26"),
        ({"code__py": "print(1)"}, "", ""),
    ],
    ids=["requirements", "empty", "lock", "project", "script", "windows", "none"],
)
def test_the_first_file_that_says_something_counts(files, source, first):
    found = read(**files)
    assert found.source == source
    assert min(found.text.splitlines(), default="").startswith(first)


def test_a_lock_gives_each_package_that_is_needed_with_its_condition_and_hashes():
    found = read(uv__lock=LOCK, pyproject__toml=PROJECT)
    assert sorted(found.text.splitlines()) == [
        "click==8.1.7 --hash=sha256:aa --hash=sha256:bb",
        "h5py==3.12.0",
        "mpi4py==4.0.0",
        "numpy==1.26.4 ; (python_full_version < '3.10')",
        "numpy==2.2.0 ; (python_full_version >= '3.10')",
    ]
    assert requirements.parse(found.text)[1] == []


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"pyproject__toml": "[project"}, "pyproject.toml is not valid TOML"),
        ({"pyproject__toml": "[project]\ndependencies = 3"}, "must be a list of texts"),
        ({"uv__lock": "version = 1"}, "names no package that is here"),
        ({"uv__lock": "[[package]]\nname = 'x'"}, "is not as uv writes it"),
        (
            {"uv__lock": LOCK.replace('registry = "https://example.org/simple"', 'git = "u"', 1)},
            "click comes from git, not from a package index",
        ),
    ],
    ids=["toml", "dependencies", "rootless", "odd", "git"],
)
def test_what_can_not_be_read_is_said_with_the_file(files, sentence):
    with pytest.raises(needs.NeedsError, match=sentence):
        read(**files)


def test_a_lock_that_uv_wrote_asks_for_what_uv_itself_exports(tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "p"\nversion = "0"\nrequires-python = ">=3.11"\n'
        'dependencies = ["click==8.1.7", "pluggy"]\n'
    )
    command = [uv.find_uv_bin(), "--directory", tmp_path, "--quiet"]
    subprocess.run([*command, "lock"], check=True, timeout=60)
    exported = subprocess.run(
        [*command, "export", "--frozen", "--no-emit-project", "--no-hashes", "--no-header"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    uvs = {line.split(" ;")[0].strip() for line in exported.splitlines() if "==" in line}
    found = needs.read(
        lambda name: (tmp_path / name).read_bytes() if (tmp_path / name).exists() else None
    )
    ours = {line.split(" ")[0] for line in found.text.splitlines()}
    assert ours == uvs - {line for line in uvs if line.startswith("colorama")}  # Windows alone
