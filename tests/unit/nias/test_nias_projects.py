"""Claims about beginning a project and checking it, with no gateway anywhere."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from client import zipped
from commanded import Nias, project, within

from nias_bridge.errors import BadUpload
from nias_bridge.project import check as checks
from nias_bridge.project.beginning import active_python, begin
from nias_bridge.project.notebook import script
from nias_bridge.settings import Settings

CELLS = [
    ("markdown", "# Spectra\nof noise"),
    ("code", "%matplotlib inline\nimport click\n!pip install -q PyWavelets 'mne>=1.6'"),
    ("code", "%%time\nx = 1\nfor _ in range(2):\n    %timeit x\nfiles = !ls\nclick.echo?"),
    ("code", "%%bash\nls -l"),
    ("code", "text = '''\n% not magic\n'''\ndisplay(text)"),
]


def notebook(cells: list[tuple[str, str]] = CELLS) -> bytes:
    told = [{"cell_type": kind, "source": text.splitlines(True)} for kind, text in cells]
    return json.dumps({"nbformat": 4, "cells": told}).encode()


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nias:
    """The command, with no gateway known."""
    return within(tmp_path / "here", monkeypatch)


def test_a_notebook_becomes_a_program_that_runs() -> None:
    made = script(notebook(), "n.ipynb")
    assert made.installed == ("PyWavelets", "mne>=1.6")
    found: dict[str, object] = {}
    exec(made.text, found)
    assert (found["x"], found["text"]) == (1, "\n% not magic\n")
    for kept in ("# # Spectra", "# %matplotlib inline", "    pass  # %timeit x", "# %%bash\n# ls"):
        assert kept in made.text
    with pytest.raises(BadUpload, match=r"n\.ipynb is not a notebook"):
        script(b'{"worksheets": []}', "n.ipynb")


def test_a_notebook_becomes_a_project_beside_it(local: Nias) -> None:
    Path("spectra.ipynb").write_bytes(notebook())
    done = local("init", "spectra.ipynb")
    assert done.exit_code == 0, done.output
    folder = Path("spectra")
    pinned = f"click=={metadata.version('click')}"
    assert (folder / "requirements.txt").read_text() == f"PyWavelets\nmne>=1.6\n{pinned}\n"
    assert (folder / "output").is_dir()
    assert local("check", "spectra").exit_code == 0
    again = local("init", "spectra.ipynb")
    assert (again.exit_code, "is there already" in again.stderr) == (65, True)


def test_a_folder_gets_what_it_lacks_and_keeps_what_it_has(tmp_path: Path) -> None:
    folder = project(tmp_path, code__py="import click\nimport lab_tools\nimport filters\n",
                     filters__py="import cv2\n")  # fmt: skip
    begun = begin(folder)
    assert begun.made == ("requirements.txt", "output/")
    assert begun.requirements[0] == f"click=={metadata.version('click')}"
    assert any(line.startswith("opencv-python") for line in begun.requirements)
    assert begun.unknown == ("lab_tools",)
    (folder / "requirements.txt").write_text("mine\n")
    assert begin(folder).made == ()
    assert (folder / "requirements.txt").read_text() == "mine\n"


def test_a_program_of_another_name_keeps_it(tmp_path: Path) -> None:
    folder = project(tmp_path, analyse__py="print(1)\n")
    (folder / "code.py").unlink()
    assert begin(folder).made == ("nias.toml", "requirements.txt", "output/")
    assert (folder / "nias.toml").read_text() == '[job]\nmain = "analyse.py"\n'
    (folder / "nias.toml").unlink()
    (folder / "plot.py").write_text("")
    with pytest.raises(BadUpload, match=r"analyse.py, plot.py: which is to be run is not clear"):
        begin(folder)


def test_versions_are_those_of_the_active_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Path(active_python()).is_file()
    there = tmp_path / "env" / "bin"
    there.mkdir(parents=True)
    told = '{"numpy": {"numpy": "9.9"}, "torch": {"torch": "2.3.0+cu121"}}'
    (there / "python").write_text(f"#!/bin/sh\necho '{told}'\n")
    (there / "python").chmod(0o755)
    monkeypatch.setenv("VIRTUAL_ENV", str(there.parent))
    begun = begin(project(tmp_path, code__py="import numpy\nimport torch\n"))
    assert begun.requirements == ("numpy==9.9", "torch==2.3.0")
    with pytest.raises(BadUpload, match="does not tell which packages it has"):
        begin(project(tmp_path, "other"), python=str(tmp_path / "none"))


def test_what_the_gateway_would_say_is_said_here(local: Nias) -> None:
    project(
        Path(),
        code__py="import cv2, lab_tools\nx = open('C:/Users/ana/emg.csv')\n",
        requirements__txt="numpy @ file:///tmp/build/80754af9/numpy\nscipy\nsklearn\n",
        nias__toml='[job]\ntime = 5\ncpu = 2\nmain = "run.py"\n',
    )
    done = local("check", "psd-study")
    assert done.exit_code == 65
    for sentence in (
        "refused: nias.toml: the key job.cpu is not known; did you mean cpus?",
        "refused: nias.toml: job.time is 5; write a time in quotes",
        "refused: nias.toml: job.main is “run.py”; the project has no such file.",
        "refused: requirements.txt, line 1: ",
        "refused: requirements.txt, line 3: “sklearn”: ",
        "  write scikit-learn",
        "warning: code.py, line 2: “C:/Users/ana/emg.csv” is a path of one machine",
    ):
        assert sentence in done.stdout
    told = json.loads(local("check", "psd-study", "--json").stdout)
    assert (told["good"], len(told["problems"])) == (False, 5)
    assert told["problems"][-1]["mend"] == "scikit-learn"


def test_a_good_project_is_called_good_and_its_warnings_stop_nobody(local: Nias) -> None:
    project(Path(), code__py="import cv2\n", requirements__txt="numpy\n")
    done = local("check", "psd-study")
    assert done.exit_code == 0
    assert "import cv2 needs a line in requirements.txt.\n  write opencv-python" in done.stdout
    assert "psd-study can be submitted: 2 files, 17 bytes, 1 requirement" in done.stdout


@pytest.mark.parametrize(
    ("name", "files", "sentence"),
    [
        ("a", {"main.py": ""}, "The zip has no code.py"),
        ("a*b", {"code.py": ""}, "The project's name “a*b” has the character “*”"),
        ("a", {"code.py": "", "nias.toml": "[job"}, "nias.toml is not valid TOML"),
        ("a", {"nias.toml": ""}, "there is no code.py; name the file to run"),
        ("a", {"code.py": "", "uv.lock": "x"}, "uv.lock is not valid TOML"),
    ],
)
def test_zips_are_judged_too(
    tmp_path: Path, name: str, files: dict[str, str], sentence: str
) -> None:
    file = tmp_path / "project.zip"
    file.write_bytes(zipped(name, files))
    verdict = checks.check(file)
    assert not verdict.good
    assert sentence in verdict.problems[0].sentence


def test_what_is_no_zip_is_told(local: Nias) -> None:
    Path("x.zip").write_text("no")
    done = local("check", "x.zip")
    assert done.exit_code == 65
    assert done.stdout.startswith("refused: ")


def test_the_limits_are_those_that_a_site_has_unless_it_says_otherwise() -> None:
    site = {name: field.default for name, field in Settings.model_fields.items()}
    assert tuple(checks.LIMITS) == (
        site["unpacked_max_bytes"], site["unpacked_max_files"], site["unpacked_max_ratio"],
    )  # fmt: skip
    assert site["upload_max_bytes"] == checks.UPLOAD_MAX_BYTES
    assert site["tasks_max"] == checks.TASKS_MAX
