"""People on a login node of a real Slurm: what they give to sbatch, and what comes of it."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from accounts import account, do
from client import Client, zipped
from sites import served

from nias_bridge.client import Client as Nias
from nias_bridge.client import Refused
from nias_bridge.localcluster import LocalCluster
from nias_bridge.site import Site, running, said

DOCS = Path(__file__).parents[2] / "docs" / "sbatch.md"
CODE = """
import getpass, os, pathlib
out = pathlib.Path("output")
(out / "who.txt").write_text(getpass.getuser())
(out / "closed.txt").touch(0o600)
(out / "task.txt").write_text(os.environ.get("NIAS_TASK", "none"))
(out / "home.txt").write_text(str(pathlib.Path("/home").exists() and os.listdir("/home")))
print("secret words", flush=True)
"""
WAITS = CODE + "import time; time.sleep(600)\n"


@dataclass(frozen=True)
class Researcher:
    """Somebody with a Unix account, a home and projects there; perhaps with a client."""

    account: str
    home: Path
    script: Path
    conf: Path
    client: Client | None = None

    def shell(self, line: str, *, check: bool = True) -> str:
        """What a line of shell prints, typed by her on the login node."""
        told = {"SLURM_CONF": str(self.conf), "PATH": "/usr/bin:/bin", "HOME": str(self.home)}
        done = do(self.account, ["bash", "-c", line], env=told, cwd=self.home, timeout=120)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def project(self, name: str, files: Mapping[str, str]) -> Path:
        """A folder in her home."""
        folder = self.home / name
        for path, content in {"output/.keep": "", **files}.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        self.own(folder)
        return folder

    def own(self, path: Path) -> None:
        uid = pwd.getpwnam(self.account).pw_uid
        for each in (path, *path.rglob("*")):
            os.chown(each, uid, uid)

    def sbatch(self, words: str) -> int:
        return int(self.shell(f"sbatch --parsable {words}").strip())

    def run_of(self, job_id: int, *states: str, seconds: float = 60) -> dict[str, Any]:
        """Her run of this job, once it is on her page and in one of these states."""
        assert self.client
        deadline = time.monotonic() + seconds
        while True:
            runs = json.loads(self.client.get("/api/v1/runs?per_page=100"))["runs"]
            for run in runs:
                if run["job_id"] == job_id and (not states or run["state"] in states):
                    return dict(run)
            assert time.monotonic() < deadline, runs
            time.sleep(0.1)


@dataclass(frozen=True)
class Lab:
    """A site, and the people on its cluster's login node; carol has no account at the bridge."""

    site: Site
    alice: Researcher
    bob: Researcher
    carol: Researcher

    @property
    def sbatch(self) -> Path:
        return self.site.state / "shared" / "sbatch"

    def folder(self, who: Researcher, job_id: int) -> Path:
        return self.sbatch / who.account / str(job_id)

    def catalogue(self, who: Researcher) -> str:
        """What the datasets' names mean to her jobs, as the poller wrote it last."""
        file = self.sbatch.parent / "datasets" / "of" / f"{who.account}.json"
        return file.read_text() if file.exists() else ""


@pytest.fixture(scope="module")
def lab(cluster: LocalCluster, make_site: Callable[..., Site], nias: str) -> Iterator[Lab]:
    made = make_site(cluster)
    homes = Path(tempfile.mkdtemp(prefix="nias-homes-"))
    homes.chmod(0o755)
    script = made.state / "shared" / "bin" / "nias.sbatch"

    def person(unix: str) -> Researcher:
        home = homes / unix
        home.mkdir(mode=0o700)
        shutil.chown(home, unix, unix)
        return Researcher(unix, home, script, cluster.slurm_conf)

    def known(handle: str, who: Researcher) -> Researcher:
        email = f"{handle}@lab.org"
        said(made, "user", "add", email)
        said(made, "user", "account", email, who.account)
        client = Client(made.url, said(made, "token", "add", email))
        return Researcher(who.account, who.home, script, cluster.slurm_conf, client)

    try:
        with (
            account("alice") as alice,
            account("bob") as bob,
            account("carol") as carol,
            served(made),
            running(made, "poll"),
        ):
            yield Lab(made, known("alice", person(alice)), known("bob", person(bob)), person(carol))
    finally:
        shutil.rmtree(homes, ignore_errors=True)


@pytest.fixture(scope="module")
def alices(lab: Lab) -> dict[str, Any]:
    """A folder of Alice's that was given to sbatch and has run."""
    lab.alice.project("psd-study", {"code.py": CODE})
    job_id = lab.alice.sbatch(f"--wait {lab.alice.script} psd-study")
    return lab.alice.run_of(job_id, "COMPLETED", "FAILED")


def test_a_folder_given_to_sbatch_is_a_run_like_an_upload(lab: Lab, alices: dict[str, Any]) -> None:
    assert lab.alice.client
    log = lab.alice.client.log(alices["id"])
    assert (alices["state"], alices["origin"]) == ("COMPLETED", "sbatch"), log
    assert (alices["project"], alices["owner"]) == ("psd-study", "alice")
    assert "secret words" in log
    assert "Environment built" in log
    results = lab.alice.client.results(alices["id"])
    assert results["who.txt"] == lab.alice.account.encode()
    assert results["home.txt"] == b"['me']"  # the walls of an upload
    assert alices["accounting"]["elapsed_seconds"] >= 0


def test_it_says_where_the_results_are_and_they_are_there(lab: Lab, alices: dict[str, Any]) -> None:
    job_id = alices["job_id"]
    log = (lab.alice.home / f"slurm-{job_id}.out").read_text()
    zip_path = re.search(r"The results are in (\S+)\.", log)
    beside = re.search(r"They are in (\S+) as well\.", log)
    assert zip_path and beside
    with zipfile.ZipFile(zip_path[1]) as packed:
        assert {"who.txt", "closed.txt"} <= set(packed.namelist())
    assert Path(beside[1]) == lab.alice.home / f"psd-study-output-{job_id}"
    assert (Path(beside[1]) / "who.txt").read_text() == lab.alice.account
    left = [file.name for file in (lab.alice.home / "psd-study" / "output").iterdir()]
    assert left == [".keep"]


def test_what_the_code_closed_is_shown_to_her_all_the_same(
    lab: Lab, alices: dict[str, Any]
) -> None:
    assert lab.alice.client
    assert lab.alice.client.get(f"/api/v1/runs/{alices['id']}/files/closed.txt") == b""


def test_nobody_else_sees_it_on_the_pages_or_on_the_disk(lab: Lab, alices: dict[str, Any]) -> None:
    assert lab.bob.client
    with pytest.raises(urllib.error.HTTPError, match="404"):
        lab.bob.client.get(f"/api/v1/runs/{alices['id']}")
    folder = lab.folder(lab.alice, alices["job_id"])
    for tried in (f"ls {lab.sbatch}", f"ls {folder}", f"cat {folder}/results.zip"):
        assert lab.bob.shell(f"{tried} 2>/dev/null", check=False) == ""
    assert lab.bob.shell(f"mv {folder.parent} {folder.parent}-gone 2>&1 || echo kept") != ""
    assert folder.is_dir()


def test_a_second_run_reuses_the_environment(lab: Lab, alices: dict[str, Any]) -> None:
    job_id = lab.alice.sbatch(f"--wait {lab.alice.script} {lab.alice.home}/psd-study/")
    run = lab.alice.run_of(job_id, "COMPLETED")
    assert lab.alice.client
    assert (run["project"], run["number"]) == ("psd-study", alices["number"] + 1)
    assert "Environment reused" in lab.alice.client.log(run["id"])


def test_her_own_options_are_slurms(lab: Lab, slurm: Callable[..., str]) -> None:
    zip_path = lab.alice.home / "zipped.zip"
    zip_path.write_bytes(zipped("in-a-zip", {"code.py": CODE}))
    lab.alice.own(zip_path)
    options = f"--time=7 --mem=300M --job-name=her-own --output={lab.alice.home}/hers.txt"
    job_id = lab.alice.sbatch(f"--wait {options} {lab.alice.script} zipped.zip")
    run = lab.alice.run_of(job_id, "COMPLETED", "FAILED")
    assert lab.alice.client
    assert run["state"] == "COMPLETED", lab.alice.client.log(run["id"])
    assert (run["job_name"], run["project"]) == ("her-own", "zipped")
    told = slurm("scontrol", "show", "job", str(job_id))
    assert "TimeLimit=00:07:00" in told
    assert "MinMemoryNode=300M" in told
    assert str(lab.folder(lab.alice, job_id)) in (lab.alice.home / "hers.txt").read_text()
    assert "secret words" in lab.alice.client.log(run["id"])


def test_it_is_on_her_page_while_it_waits_and_she_cancels_it_by_scancel(lab: Lab) -> None:
    lab.alice.project("waits", {"code.py": WAITS})
    job_id = lab.alice.sbatch(f"--hold {lab.alice.script} waits")
    run = lab.alice.run_of(job_id, "PENDING")
    assert lab.alice.client
    with pytest.raises(urllib.error.HTTPError, match="409") as refused:
        lab.alice.client.cancel(run["id"])
    command = re.search(r"`(scancel \d+)`", json.load(refused.value)["detail"])
    lab.alice.shell(f"scontrol release {job_id}")
    lab.alice.run_of(job_id, "RUNNING")
    assert command
    lab.alice.shell(command[1])
    lab.alice.run_of(job_id, "CANCELLED")


def test_an_array_is_one_run_whose_tasks_have_their_own_results(
    lab: Lab, alices: dict[str, Any]
) -> None:
    job_id = lab.alice.sbatch(f"--wait --array=2-6:2 {lab.alice.script} psd-study")
    run = lab.alice.run_of(job_id, "COMPLETED", "FAILED")
    assert lab.alice.client
    assert (run["state"], run["tasks"]) == ("COMPLETED", 3)
    for index in (2, 4, 6):
        path = f"/api/v1/runs/{run['id']}/tasks/{index}/files/task.txt"
        assert lab.alice.client.get(path) == str(index).encode()
        beside = lab.alice.home / f"psd-study-output-{job_id}" / str(index) / "task.txt"
        assert beside.read_text() == str(index)


def test_a_sweep_without_its_tasks_is_told_how_to_be_submitted(lab: Lab) -> None:
    toml = "[sweep]\ngrid = { cutoff = [10, 20, 30] }\n"
    code = "import os; open('output/c.txt', 'w').write(os.environ['NIAS_PARAM_CUTOFF'])\n"
    lab.alice.project("swept", {"code.py": code, "nias.toml": toml})
    job_id = lab.alice.sbatch(f"{lab.alice.script} swept")
    run = lab.alice.run_of(job_id, "FAILED")
    assert lab.alice.client
    log = lab.alice.client.log(run["id"])
    assert "sweep of 3 tasks" in log
    array = re.search(r"--array=\S+", log)
    assert array
    job_id = lab.alice.sbatch(f"--wait {array[0]} {lab.alice.script} swept")
    run = lab.alice.run_of(job_id, "COMPLETED")
    path = f"/api/v1/runs/{run['id']}/tasks/2/files/c.txt"
    assert lab.alice.client.get(path) == b"30"


def test_a_project_that_is_not_there_is_told(lab: Lab) -> None:
    job_id = lab.alice.sbatch(f"{lab.alice.script} no-such-folder")
    run = lab.alice.run_of(job_id, "FAILED")
    assert lab.alice.client
    assert "no-such-folder is not there" in lab.alice.client.log(run["id"])


def test_a_job_without_its_project_is_told_what_it_lacks(lab: Lab) -> None:
    job_id = lab.alice.sbatch(f"{lab.alice.script}")
    run = lab.alice.run_of(job_id, "FAILED")
    assert lab.alice.client
    assert "takes one project" in lab.alice.client.log(run["id"])
    assert "takes one project" in lab.alice.shell(f"cat slurm-{job_id}.out")


def test_a_requeued_job_stays_her_one_run(lab: Lab, slurm: Callable[..., str]) -> None:
    lab.alice.project("requeued", {"code.py": WAITS})
    job_id = lab.alice.sbatch(f"--requeue {lab.alice.script} requeued")
    run = lab.alice.run_of(job_id, "RUNNING")
    slurm("scontrol", "requeue", str(job_id))
    lab.alice.run_of(job_id, "PENDING", "REQUEUED")
    again = lab.alice.run_of(job_id, "RUNNING", seconds=90)
    assert again["id"] == run["id"]
    lab.alice.shell(f"scancel {job_id}")
    assert lab.alice.run_of(job_id, "CANCELLED")["accounting"]["restarts"] == 1


READS = """
import os, pathlib, time
(eeg,) = pathlib.Path(os.environ["NIAS_DATA"]).iterdir()
print("first is", (eeg / "first.csv").read_text(), flush=True)
try:
    (eeg / "first.csv").write_text("x")
except OSError as error:
    print("kept:", error.strerror, flush=True)
time.sleep(600)
"""
TOML = '[job]\ndatasets = ["{}"]\n'


def test_it_sees_the_datasets_that_it_names_and_its_record_says_which(
    lab: Lab, tmp_path: Path
) -> None:
    assert lab.alice.client
    (tmp_path / "first.csv").write_text("1,2,3")
    token = said(lab.site, "token", "add", "alice@lab.org")
    eeg = Nias(lab.site.url, token).datasets.put(tmp_path, "eeg")
    assert eeg.newest
    lab.alice.project("reads", {"code.py": READS, "nias.toml": TOML.format("eeg")})
    content = lab.sbatch.parent / "datasets" / "content" / eeg.newest.sha256
    _until(lambda: eeg.newest.sha256 in lab.catalogue(lab.alice))
    assert lab.alice.shell(f"ls {content}").startswith("SHA256SUMS")
    job_id = lab.alice.sbatch(f"{lab.alice.script} reads")
    run = lab.alice.run_of(job_id, "RUNNING")
    _until(lambda: "kept:" in lab.alice.client.log(run["id"]))
    assert "first is 1,2,3" in lab.alice.client.log(run["id"])
    _until(lambda: [d["sha256"] for d in lab.alice.run_of(job_id)["datasets"]] == [content.name])
    with pytest.raises(Refused, match=f"runs that have not ended: {run['id']}"):
        eeg.delete()
    lab.alice.shell(f"scancel {job_id}")
    lab.alice.run_of(job_id, "CANCELLED")
    assert "Permission denied" in lab.bob.shell(f"ls {content} 2>&1", check=False)


@pytest.mark.parametrize(
    ("who", "words"),
    [
        ("bob", "“alice/eeg” is no dataset of yours, and none that is shared with you."),
        ("carol", "the bridge has linked nobody to the account"),
    ],
)
def test_what_is_not_shared_with_her_or_who_is_linked_to_nobody_is_refused_in_the_log(
    lab: Lab, who: str, words: str
) -> None:
    person = getattr(lab, who)
    _until(lambda: bool(lab.catalogue(lab.bob)))
    person.project("asks", {"code.py": READS, "nias.toml": TOML.format("alice/eeg")})
    job_id = int(person.shell(f"sbatch --parsable {person.script} asks"))
    log = person.home / f"slurm-{job_id}.out"
    _until(lambda: log.exists() and words in log.read_text())


def _until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize("place", ["sbatch/ALICE/JOB", "runs", "bin", "sbatch"])
def test_a_working_directory_that_is_forged_gains_nothing(
    lab: Lab, alices: dict[str, Any], place: str
) -> None:
    inner = place.replace("ALICE", lab.alice.account).replace("JOB", str(alices["job_id"]))
    chdir = lab.site.state / "shared" / inner
    words = f"--job-name=nias --chdir={chdir} --output=/dev/null --wrap='exit 0'"
    job_id = lab.bob.sbatch(words)
    time.sleep(2)  # two ticks and more: what did not come by then is not going to
    for who in (lab.alice, lab.bob):
        assert who.client
        runs = json.loads(who.client.get("/api/v1/runs?per_page=100"))["runs"]
        assert job_id not in [run["job_id"] for run in runs]


def test_a_job_of_nobodys_account_waits_until_it_is_linked(lab: Lab) -> None:
    lab.carol.project("carols", {"code.py": CODE})
    job_id = lab.carol.sbatch(f"--wait {lab.carol.script} carols")
    _until(lambda: str(job_id) in said(lab.site, "unclaimed"))
    said(lab.site, "user", "add", "carol@lab.org")
    said(lab.site, "user", "add", "chief@lab.org", "--admin")
    token = said(lab.site, "token", "add", "chief@lab.org", "--scope", "admin")
    chief = Client(lab.site.url, token)
    (waiting,) = json.loads(chief.get("/api/v1/unclaimed"))["unclaimed"]
    (job,) = (each for each in waiting["jobs"] if each["job_id"] == job_id)
    assert waiting["account"] == lab.carol.account
    assert job["project"] == "carols"
    people = json.loads(chief.get("/api/v1/people"))["people"]
    person = next(each["id"] for each in people if each["email"] == "carol@lab.org")
    body = json.dumps({"person": person}).encode()
    chief.post(f"/api/v1/unclaimed/{lab.carol.account}/link", body, kind="application/json")
    client = Client(lab.site.url, said(lab.site, "token", "add", "carol@lab.org"))
    carol = Researcher(lab.carol.account, lab.carol.home, lab.carol.script, lab.carol.conf, client)
    run = carol.run_of(job_id, "COMPLETED")
    assert client.results(run["id"])["who.txt"] == lab.carol.account.encode()
    assert str(job_id) not in said(lab.site, "unclaimed")


def test_the_bridge_can_run_it_again(lab: Lab, alices: dict[str, Any]) -> None:
    assert lab.alice.client
    again = lab.alice.client.post(f"/api/v1/runs/{alices['id']}/again")
    run = lab.alice.client.ended(again["id"])
    assert (run["state"], run["origin"]) == ("COMPLETED", "web")


def test_the_script_has_the_help_of_a_command(lab: Lab) -> None:
    told = subprocess.run(
        ["bash", lab.alice.script, "--help"], capture_output=True, text=True, check=True
    ).stdout
    heads = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "FILES", "EXIT STATUS", "EXAMPLES"]
    assert [head for head in heads if f"\n{head}\n" in told] == heads
    assert max(map(len, told.splitlines())) <= 100
    without = subprocess.run(
        ["bash", lab.alice.script, "psd-study"], capture_output=True, text=True, check=False
    )
    assert (without.returncode, "give" in without.stderr) == (2, True)


def _printed(prompt: str) -> list[str]:
    """The commands that the page prints behind this prompt, in order."""
    return re.findall(rf"^{re.escape(prompt)} (.+)$", DOCS.read_text(), re.MULTILINE)


def test_the_page_prints_commands() -> None:
    assert len(_printed("$")) > 10


def test_every_command_of_the_page_does_what_it_says(lab: Lab, slurm: Callable[..., str]) -> None:
    who = lab.bob
    assert who.client
    who.project("psd-study", {"code.py": CODE})
    zip_path = who.home / "psd-study.zip"
    zip_path.write_bytes(zipped("psd-study", {"code.py": CODE}))
    who.own(zip_path)
    uploaded = Client(lab.site.url, said(lab.site, "token", "add", "lab@example.org"))
    uploaded.ended(uploaded.upload(CODE, name="native-looks")["id"])
    said_by = {}
    for line in _printed("$"):
        here = line.replace("/shared/nias", str(lab.site.state / "shared"))
        said_by[line] = who.shell(here)
        if line.startswith("sbatch "):
            job = int(said_by[line].split()[3])
            run = who.run_of(job, "COMPLETED")
            assert run["origin"] == "sbatch"
    silent = {line for line, told in said_by.items() if not told.strip()}
    assert silent == set(), silent
    comment = next(told for line, told in said_by.items() if line.endswith("Comment"))
    assert re.search(r"\|nias-\w+-native-looks\|.*/native-looks/1\|NIAS bridge: lab/nat", comment)
