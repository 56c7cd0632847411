"""What the node program does with a project that somebody gave to sbatch herself."""

from __future__ import annotations

import json
import os
import pwd
import stat
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uv
from shipped import put_program

from nias_bridge.node import catalogue, layout

SECONDS = 30
USER = "alice"
EEG = '[job]\ndatasets = ["eeg"]\n'
CODE = """
import os, pathlib
pathlib.Path("output/told.txt").write_text(os.environ.get("NIAS_TASK", "none"))
print("secret words")
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shared")
    put_program(root / layout.BIN)
    (root / layout.BIN / layout.UV).symlink_to(uv.find_uv_bin())
    # site.json itself is not for every account.
    (root / layout.BIN / layout.SITE_FOR_ALL).write_text(json.dumps({"pythons": {"3.99": "no-py"}}))
    return root


@dataclass
class Login:
    """A home on a login node, and the jobs that are started from there as Slurm would."""

    home: Path
    shared: Path

    @property
    def sbatch(self) -> Path:
        return self.shared / layout.SBATCH

    def project(self, name: str, files: Mapping[str, str]) -> Path:
        folder = self.home / name
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content)
        return folder

    def run(
        self, given: str | Sequence[str], job_id: int = 7, *, log: Path | None = None, **slurm: str
    ) -> int:
        variables = {
            "PATH": f"{self.home}/bin:/usr/bin:/bin",
            "TMPDIR": str(self.home),
            "SLURM_JOB_ID": str(job_id),
            "SLURM_JOB_USER": USER,
            "SLURM_SUBMIT_DIR": str(self.home),
            **slurm,
        }
        program = str(self.shared / layout.BIN / layout.NODE_PROGRAM)
        command = [sys.executable, "-I", "-S", program, "sbatch"]
        command += [
            "--shared",
            str(self.shared),
            "--",
            *([given] if isinstance(given, str) else given),
        ]
        with (log or self.sbatch / f"slurm-{job_id}.out").open("ab") as out:
            done = subprocess.run(
                command, env=variables, stdout=out, stderr=out, timeout=SECONDS, check=False,
                umask=0o007,
            )  # fmt: skip
        return done.returncode

    def log(self, folder: str) -> str:
        return (self.sbatch / USER / folder / layout.LOG).read_text()

    def packed(self, folder: str) -> list[str]:
        with zipfile.ZipFile(self.sbatch / USER / folder / layout.ARCHIVE) as packed:
            return sorted(packed.namelist())

    def squeue_says(self, submitted: float) -> None:
        command = self.home / "bin" / "squeue"
        command.parent.mkdir(exist_ok=True)
        command.write_text(f"#!/bin/sh\necho {int(submitted)}\n")
        command.chmod(0o755)


@pytest.fixture
def login(tmp_path: Path, shared: Path) -> Login:
    root = tmp_path / "shared"
    root.mkdir()
    (root / layout.BIN).symlink_to(shared / layout.BIN)
    (root / layout.SBATCH).mkdir()
    (root / layout.SBATCH).chmod(0o3733)
    home = tmp_path / "home"
    home.mkdir()
    return Login(home, root)


def test_a_folder_is_run_and_its_results_are_beside_it(login: Login) -> None:
    login.project("study", {"code.py": CODE, "output/.keep": ""})
    assert login.run("study") == 0, login.log("7")
    results = login.sbatch / USER / "7" / layout.RESULTS
    assert zipfile.ZipFile(results).namelist() == ["told.txt"]
    assert (login.home / "study-output-7" / "told.txt").read_text() == "none"
    assert str(results) in login.log("7")
    assert (login.home / "slurm-7.out").read_text() == login.log("7")
    assert not (login.sbatch / "slurm-7.out").exists()


def test_what_it_makes_is_the_groups_to_read_and_nobody_elses(login: Login) -> None:
    login.project("study", {"code.py": CODE + "os.chmod('output/told.txt', 0o600)\n"})
    assert login.run("study") == 0
    folder = login.sbatch / USER / "7"
    group = login.sbatch.stat().st_gid
    for name in (".", "project/output", "project/output/told.txt", layout.RESULTS, layout.LOG):
        status = (folder / name).stat()
        assert status.st_gid == group, name
        assert stat.S_IMODE(status.st_mode) & 0o040, name
    assert stat.S_IMODE(folder.parent.stat().st_mode) & 0o007 == 0


def test_environments_are_her_own(login: Login) -> None:
    login.project("study", {"code.py": CODE})
    login.run("study", 7)
    login.run("study", 8)
    assert "Environment built" in login.log("7")
    assert "Environment reused" in login.log("8")
    assert not (login.shared / layout.ENVIRONMENTS).exists()


def test_neither_earlier_results_nor_what_tools_keep_is_packed(login: Login) -> None:
    files = {"code.py": CODE, "data/a.csv": "1", "output/old.txt": "", ".git/HEAD": "",
             "__pycache__/x": "", "mine/pyvenv.cfg": "", "mine/lib/x.py": "",
             "slurm-3.out": "", "sub/output/kept.txt": ""}  # fmt: skip
    folder = login.project("study", files)
    (folder / "gone").symlink_to("nowhere")
    login.run("study")
    kept = ["code.py", "data/a.csv", "output/", "sub/output/kept.txt"]
    assert login.packed("7") == [f"study/{name}" for name in kept]


@pytest.mark.parametrize(
    ("words", "told"),
    [([], "nothing"), (["study", "--time=10"], "study --time=10")],
)
def test_anything_but_one_project_is_told_in_the_log_where_she_looks_for_it(
    login: Login, words: list[str], told: str
) -> None:
    login.project("study", {"code.py": CODE})
    assert login.run(words) != 0
    sentence = f"nias.sbatch was given {told}, and takes one project"
    assert sentence in (login.home / "slurm-7.out").read_text()
    ending = json.loads((login.sbatch / USER / "7" / layout.EXIT).read_text())
    assert sentence in ending["message"]
    assert not (login.sbatch / USER / "7" / layout.ARCHIVE).exists()


def test_a_zip_is_taken_as_it_is(login: Login) -> None:
    with zipfile.ZipFile(login.home / "study.zip", "w") as packed:
        packed.writestr("study/code.py", CODE)
    assert login.run("study.zip") == 0
    given = (login.home / "study.zip").read_bytes()
    assert (login.sbatch / USER / "7" / layout.ARCHIVE).read_bytes() == given
    assert not list(login.home.glob("study-output*"))


def test_a_log_of_her_own_says_where_the_runs_is(login: Login) -> None:
    login.project("study", {"code.py": CODE})
    hers = login.home / "hers.txt"
    login.run("study", log=hers)
    assert str(login.sbatch / USER / "7" / layout.LOG) in hers.read_text()
    assert "secret words" in login.log("7")
    assert not (login.home / "slurm-7.out").exists()


@pytest.mark.parametrize(
    ("given", "files", "words"),
    [
        ("nothing", {}, "nothing is not there"),
        ("study/code.py", {"code.py": CODE}, "code.py is neither a folder nor a zip"),
        ("study", {"main.py": CODE}, "has no code.py"),
        ("study", {"code.py": CODE, "nias.toml": "[job]\ntime = 3\n"}, "job.time is 3"),
        ("study", {"code.py": CODE, "nias.toml": '[job]\npython = "3.42"\n'}, "this site lacks"),
        ("study", {"code.py": CODE, "nias.toml": '[job]\npython = "3.99"\n'}, "not on this node"),
        ("study", {"code.py": CODE, "nias.toml": EEG}, "no ACLs"),
    ],
)
def test_what_cannot_be_run_is_told_in_log_and_record(
    login: Login, given: str, files: dict[str, str], words: str
) -> None:
    login.project("study", files)
    assert login.run(given) != 0
    assert words in login.log("7")
    told = json.loads((login.sbatch / USER / "7" / layout.EXIT).read_text())
    assert words in told["message"]


def catalogue_says(login: Login, *listed: catalogue.Listed) -> None:
    """What the bridge has written for the account that the tests are."""
    account = pwd.getpwuid(os.geteuid()).pw_name
    place = login.shared / layout.DATASETS / layout.CATALOGUES
    place.mkdir(parents=True, exist_ok=True)
    (place / layout.CATALOGUE.format(account)).write_text(catalogue.written("ana", listed))
    for sha256 in (sha256 for each in listed for sha256 in each.versions):
        inside = login.shared / layout.DATASETS / layout.CONTENT / sha256 / layout.CONTENT_FILES
        inside.mkdir(parents=True, exist_ok=True)
        (inside / "a.csv").write_text(sha256[:4])


READS = """
import os, pathlib
for path in sorted(pathlib.Path(os.environ["NIAS_DATA"]).rglob("*.csv")):
    print("reads", path, path.read_text(), flush=True)
"""
OLD, NEW, HIS = "1a" * 32, "2b" * 32, "3c" * 32


def test_the_datasets_that_it_names_are_there_and_what_they_were_is_written_down(
    login: Login,
) -> None:
    theirs = catalogue.Listed("ana", "eeg", (NEW, OLD)), catalogue.Listed("bob", "emg", (HIS,))
    catalogue_says(login, *theirs)
    toml = f'[job]\ndatasets = ["eeg@{OLD[:4]}", "bob/emg"]\n'
    login.project("study", {"code.py": READS, "nias.toml": toml})
    assert login.run("study") == 0, login.log("7")
    assert "reads /nias/data/eeg/a.csv 1a1a" in login.log("7")
    assert "reads /nias/data/emg/a.csv 3c3c" in login.log("7")
    assert f"Datasets: ana/eeg@{OLD[:12]}, bob/emg@{HIS[:12]}." in login.log("7")
    told = json.loads((login.sbatch / USER / "7" / layout.SEEN).read_text())
    assert told == {"eeg": OLD, "emg": HIS}


def test_all_tasks_of_an_array_and_what_is_begun_anew_see_the_same(login: Login) -> None:
    login.project("study", {"code.py": READS, "nias.toml": EEG})
    array = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_COUNT": "2"}
    for index, versions in (("0", (OLD,)), ("1", (NEW, OLD))):
        catalogue_says(login, catalogue.Listed("ana", "eeg", versions))
        assert login.run("study", 8, SLURM_ARRAY_TASK_ID=index, **array) == 0
        log = (login.sbatch / USER / "7" / f"tasks-{index}.out").read_text()
        assert "1a1a" in log and "2b2b" not in log


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ([], "“eeg” is no dataset of yours, and none that is shared with you."),
        ([("bob", "eeg", (HIS,)), ("eve", "eeg", (HIS,))], "“eeg” may be bob/eeg or eve/eeg"),
        ([("ana", "eeg", ())], "is still being unpacked."),
        ([("ana", "eeg", (), "The zip is damaged.")], "could not be unpacked: The zip is damaged."),
    ],
)
def test_a_dataset_that_is_not_to_be_had_is_told_as_at_an_upload(
    login: Login, listed: list[tuple[Any, ...]], words: str
) -> None:
    catalogue_says(login, *(catalogue.Listed(*each) for each in listed))
    login.project("study", {"code.py": READS, "nias.toml": EEG})
    assert login.run("study") != 0
    assert "nias.toml: job.datasets is eeg; " in login.log("7")
    assert words in login.log("7")
    assert words in json.loads((login.sbatch / USER / "7" / layout.EXIT).read_text())["message"]


def test_an_account_that_is_linked_to_nobody_is_told_so(login: Login) -> None:
    (login.shared / layout.DATASETS / layout.CATALOGUES).mkdir(parents=True)
    login.project("study", {"code.py": READS, "nias.toml": EEG})
    assert login.run("study") != 0
    assert "the bridge has linked nobody to the account" in login.log("7")


def test_each_task_of_an_array_has_its_own_folder_and_number(login: Login) -> None:
    login.project("study", {"code.py": CODE})
    for index in ("2", "4"):
        array = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": index,
                 "SLURM_ARRAY_TASK_COUNT": "2"}  # fmt: skip
        assert login.run("study", 7 + int(index), **array) == 0
        assert (login.home / "study-output-7" / index / "told.txt").read_text() == index
        assert (login.sbatch / USER / "7" / f"tasks-{index}.out").exists()
    assert sorted(f.name for f in (login.sbatch / USER).iterdir()) == ["7", "cache", "envs"]


def test_a_job_that_slurm_started_twice_does_its_work_once(login: Login) -> None:
    login.project("study", {"code.py": CODE})
    login.squeue_says(1000)  # long before the first start
    assert login.run("study") == 0
    assert login.run("study") == layout.ALREADY_RUN
    assert not (login.sbatch / USER / "7.2").exists()


def test_a_number_that_slurm_gave_again_is_another_folder(login: Login) -> None:
    login.project("study", {"code.py": CODE})
    login.run("study")
    login.squeue_says(4_000_000_000)
    assert login.run("study") == 0
    assert (login.sbatch / USER / "7.2" / layout.RESULTS).exists()


def test_a_requeued_job_begins_afresh_where_it_was(login: Login) -> None:
    login.project("study", {"code.py": CODE})
    login.run("study")
    assert login.run("study", SLURM_RESTART_COUNT="1") == 0
    assert not (login.sbatch / USER / "7.2").exists()
    assert login.log("7").count("secret words") == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_that_another_made_under_her_name_is_left_alone(login: Login) -> None:
    login.project("study", {"code.py": CODE})
    (login.sbatch / USER).mkdir(mode=0o777)
    os.chown(login.sbatch / USER, 1, -1)
    assert login.run("study") == 0
    assert list((login.sbatch / USER).iterdir()) == []
    assert (login.sbatch / f"{USER}.2" / "7" / layout.RESULTS).exists()
