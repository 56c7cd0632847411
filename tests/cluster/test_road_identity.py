"""Two researchers with Unix accounts of their own, on a real Slurm: each has a wall around her."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import time
import urllib.error
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from accounts import account, do, link
from client import Client
from unixlab import SAYS_WHO, WAITS, Lab, a_lab, alice_at_work, recorded

from nias_bridge.localcluster import LocalCluster
from nias_bridge.site import Site, said


@pytest.fixture(scope="module")
def lab(cluster: LocalCluster, make_site: Callable[..., Site], nias: str) -> Iterator[Lab]:
    with a_lab(cluster, make_site, nias) as made:
        yield made


@pytest.fixture(scope="module")
def alices(lab: Lab) -> dict[str, Any]:
    """A run of Alice's that came to its end."""
    run = lab.alice.client.ended(lab.alice.client.upload(SAYS_WHO, name="alices")["id"])
    assert run["state"] == "COMPLETED", lab.alice.client.log(run["id"])
    return run


@pytest.fixture(scope="module")
def bobs(lab: Lab) -> dict[str, Any]:
    run = lab.bob.client.ended(lab.bob.client.upload(SAYS_WHO, name="bobs")["id"])
    assert run["state"] == "COMPLETED", lab.bob.client.log(run["id"])
    return run


at_work = pytest.fixture(alice_at_work)


def test_a_job_runs_as_its_owners_account_and_the_accounting_says_so(
    lab: Lab, alices: dict[str, Any], bobs: dict[str, Any], slurm: Callable[..., str]
) -> None:
    for who, run in ((lab.alice, alices), (lab.bob, bobs)):
        results = who.client.results(run["id"])
        assert results["who.txt"] == f"{who.uid} {who.account}".encode()
        assert recorded(slurm, run) == (who.account, "COMPLETED")
        assert lab.folder(who, run).stat().st_uid == who.uid
        assert "secret words" in who.client.log(run["id"])


def test_what_a_run_left_is_shown_even_where_the_code_closed_it(
    lab: Lab, alices: dict[str, Any]
) -> None:
    path = f"/api/v1/runs/{alices['id']}/files"
    assert lab.alice.client.get(f"{path}/who.txt").decode().startswith(str(lab.alice.uid))
    assert lab.alice.client.get(f"{path}/closed.txt") == b""


CLOSED = (
    *("runs", "runs/alice", "RUN", "RUN/slurm.out", "RUN/project.zip", "RUN/project/code.py"),
    *("RUN/results.zip", "RUN/job.sbatch", "RUN/claims", "uploads", "envs", "cache"),
    *("envs/private", "envs/private/alice", "cache/private/alice", "../db", "../db/nias.db"),
    *("../nias-bridge.toml", "../secret-key"),
)


@pytest.mark.parametrize("path", CLOSED)
def test_another_account_can_neither_list_nor_read(
    path: str, lab: Lab, alices: dict[str, Any]
) -> None:
    real = lab.shared / path.replace("RUN", str(lab.folder(lab.alice, alices)))
    assert os.path.lexists(real)
    tried = ["ls", real] if real.is_dir() else ["cat", real]
    assert "Permission denied" in do(lab.bob.account, tried).stderr
    assert do(lab.bob.account, ["touch", real / "x"]).returncode
    assert do(lab.bob.account, ["mv", real, f"{real}-gone"]).returncode
    assert os.path.lexists(real)


def test_all_of_anothers_run_answers_404(lab: Lab, alices: dict[str, Any]) -> None:
    run = f"/api/v1/runs/{alices['id']}"
    asked = ("", "/log?offset=0", "/results.zip", "/files/who.txt", "/run.json", "/crate.zip")
    for path in asked:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            lab.bob.client.get(run + path)
    for path in ("/cancel", "/again", "/pin"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            lab.bob.client.post(run + path)


PRIES = """
import json, os, pathlib, subprocess
from concurrent.futures import ThreadPoolExecutor
def attempt(argv):
    try:  # where nobody answers, Slurm's commands try for long
        done = subprocess.run(argv, capture_output=True, text=True, timeout=15)
        return [done.returncode, done.stdout + done.stderr]
    except (OSError, subprocess.TimeoutExpired) as error:
        return [-1, str(error)]
tried = json.loads(os.environ["NIAS_PARAM_TRIED"])
with ThreadPoolExecutor(len(tried)) as at_once:
    told = dict(zip(tried, at_once.map(attempt, tried.values())))
pathlib.Path("output/told.json").write_text(json.dumps(told))
"""


def test_from_inside_a_job_nothing_of_anothers_is_in_reach(
    lab: Lab, alices: dict[str, Any], at_work: dict[str, Any], cluster: LocalCluster
) -> None:
    folder, slurm = lab.folder(lab.alice, at_work), f"SLURM_CONF={cluster.slurm_conf}"
    stop_it = [lab.program, "cancel", lab.alice.account, at_work["job_name"], at_work["job_id"]]
    stop_it = [str(word) for word in stop_it]
    tried = {
        "list": ["ls", str(folder)],
        "list all of hers": ["ls", str(folder.parents[1])],
        "read": ["cat", str(lab.folder(lab.alice, alices) / "results.zip")],
        "log": ["cat", str(folder / "slurm.out")],
        "database": ["cat", str(lab.site.state / "db" / "nias.db")],
        "settings": ["cat", str(lab.site.config)],
        "stop": ["env", slurm, "scancel", str(at_work["job_id"])],
        "change": ["env", slurm, "scontrol", "hold", str(at_work["job_id"])],
        "kill": ["pkill", "-KILL", "-u", lab.alice.account],
        "sudo": ["sudo", "-n", *stop_it],
        "without sudo": stop_it,
        "another submits": ["env", slurm, "sbatch", f"--uid={lab.alice.account}", "--wrap=id"],
    }
    toml = f"[sweep]\ngrid = {{ tried = [{json.dumps(json.dumps(tried))}] }}\n"
    bob = lab.bob.client
    run = bob.ended(bob.upload(PRIES, more={"nias.toml": toml})["id"])
    assert run["state"] == "COMPLETED", run
    from_the_bridge = next(v for k, v in bob.results(run["id"]).items() if "told.json" in k)
    for told in (json.loads(from_the_bridge), _pried_by_plain_sbatch(lab, tried, slurm)):
        assert told.keys() == tried.keys()
        assert [name for name, (status, _) in told.items() if status == 0] == []
    assert lab.alice.client.run(at_work["id"])["state"] == "RUNNING"


def _pried_by_plain_sbatch(lab: Lab, tried: dict[str, list[str]], slurm_conf: str) -> Any:
    """What comes of the same attempts in a job of his own, which has no walls around it."""
    with tempfile.TemporaryDirectory(prefix="nias-pries-") as made:
        folder = Path(made)
        (folder / "output").mkdir()
        (folder / "pries.py").write_text(PRIES)
        for each in (folder, folder / "output"):
            shutil.chown(each, lab.bob.account)
        name, _, value = slurm_conf.partition("=")
        variables = {name: value, "PATH": "/usr/bin:/bin", "NIAS_PARAM_TRIED": json.dumps(tried)}
        argv = ["sbatch", "--wait", f"--chdir={folder}", "--output=/dev/null"]
        done = do(lab.bob.account, [*argv, "--wrap=python3 pries.py"], env=variables)
        assert done.returncode == 0, done.stderr
        return json.loads((folder / "output" / "told.json").read_text())


def test_by_plain_slurm_commands_nobody_stops_or_becomes_another(
    lab: Lab, at_work: dict[str, Any], cluster: LocalCluster
) -> None:
    def slurm(*argv: str) -> Any:
        environment = {"SLURM_CONF": str(cluster.slurm_conf), "PATH": "/usr/bin:/bin"}
        return do(lab.bob.account, argv, env=environment)

    folder, job = lab.folder(lab.alice, at_work), str(at_work["job_id"])
    assert slurm("scancel", job).returncode
    assert slurm("sbatch", f"--uid={lab.alice.account}", "--wrap=true").returncode
    # Her script can't be read by him, and his own job of that name, there, is not her run.
    assert "Unable to open file" in slurm("sbatch", str(folder / "job.sbatch")).stderr
    assert slurm("scontrol", "write", "batch_script", job, "-").stdout == ""
    named = slurm(
        *("sbatch", "--parsable", f"--job-name={at_work['job_name']}", f"--chdir={folder}"),
        *("--output=/dev/null", "--wrap=touch stolen; exit 7"),
    )
    assert named.returncode == 0, named.stderr
    _until_over(slurm, named.stdout.strip())
    run = lab.alice.client.run(at_work["id"])
    assert (run["state"], run["job_id"]) == ("RUNNING", at_work["job_id"])
    assert not (folder / "stolen").exists()


def _until_over(slurm: Callable[..., Any], job: str) -> None:
    deadline = time.monotonic() + 60
    while slurm("squeue", "--noheader", f"--jobs={job}", "--states=PD,R,CG").stdout.strip():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_job_is_cancelled_as_its_owner(
    lab: Lab, at_work: dict[str, Any], slurm: Callable[..., str]
) -> None:
    lab.alice.client.cancel(at_work["id"])
    run = lab.alice.client.ended(at_work["id"])
    assert run["state"] == "CANCELLED"
    assert recorded(slurm, run) == (lab.alice.account, f"CANCELLED by {lab.alice.uid}")


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that every account can read."""
    with tempfile.TemporaryDirectory(prefix="nias-home-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def test_what_she_gave_to_sbatch_herself_is_cancelled_as_her_too(
    lab: Lab, slurm: Callable[..., str], cluster: LocalCluster, home: Path
) -> None:
    alice = lab.alice
    project = home / "by-hand"
    project.mkdir()
    (project / "code.py").write_text(WAITS)
    environment = {"SLURM_CONF": str(cluster.slurm_conf), "PATH": "/usr/bin:/bin"}
    given = ["sbatch", "--parsable", lab.shared / "bin" / "nias.sbatch", project]
    job_id = int(do(alice.account, given, env=environment).stdout)

    def mine(runs: dict[str, Any]) -> dict[str, Any]:
        return next((run for run in runs["runs"] if run["job_id"] == job_id), {})

    deadline = time.monotonic() + 60
    while (run := mine(json.loads(alice.client.get("/api/v1/runs")))).get("state") != "RUNNING":
        assert time.monotonic() < deadline, run
        time.sleep(0.2)
    assert run["origin"] == "sbatch"
    alice.client.cancel(run["id"])
    run = alice.client.ended(run["id"])
    assert run["state"] == "CANCELLED"
    assert recorded(slurm, run) == (alice.account, f"CANCELLED by {alice.uid}")


def test_one_task_of_a_sweep_is_cancelled_as_its_owner(lab: Lab) -> None:
    bob = lab.bob.client
    code = "import os, time; time.sleep(600 * int(os.environ['NIAS_PARAM_LONG']))\n"
    toml = "[sweep]\ngrid = { long = [0, 1] }\n"
    run_id = bob.upload(code, more={"nias.toml": toml})["id"]
    bob.wait(run_id, lambda run: run["state"] == "RUNNING")
    bob.post(f"/api/v1/runs/{run_id}/tasks/1/cancel")
    bob.ended(run_id)
    listed = json.loads(bob.get(f"/api/v1/runs/{run_id}/tasks"))
    assert [task["state"] for task in listed["tasks"]] == ["COMPLETED", "CANCELLED"]


# What Bob puts a link in the place of, where it leads, and by what he would then see it.
LINKS = (
    ("slurm.out", "RUN/slurm.out", "/log?offset=0"),
    ("slurm.out", "../nias-bridge.toml", "/log?offset=0"),
    ("results.zip", "RUN/results.zip", "/results.zip"),
    ("requirements.lock", "../nias-bridge.toml", "/requirements.lock"),
    ("requirements.lock", "../nias-bridge.toml", "/crate.zip"),
    ("project.zip", "RUN/project.zip", "/crate.zip"),
    ("manifest.json", "RUN/manifest.json", "/files"),
    ("exit.json", "RUN/exit.json", ""),
    ("project", "RUN/project", "/files/who.txt"),
    ("project/output", "RUN/project/output", "/files/who.txt"),
)


@pytest.mark.parametrize(("name", "target", "path"), LINKS)
def test_a_link_in_ones_own_run_shows_nothing_of_anothers(
    name: str, target: str, path: str, lab: Lab, alices: dict[str, Any], bobs: dict[str, Any]
) -> None:
    real = lab.shared / target.replace("RUN", str(lab.folder(lab.alice, alices)))
    secret = _secret_of(real)
    own = lab.folder(lab.bob, bobs) / name
    kept = own.with_name(f"kept-{own.name}")
    do(lab.bob.account, ["mv", own, kept])
    assert do(lab.bob.account, ["ln", "-s", real, own]).returncode == 0
    try:
        answer = lab.bob.client.get(f"/api/v1/runs/{bobs['id']}{path}")
    except urllib.error.HTTPError as error:
        assert error.code == 404
    else:
        assert not any(secret in part for part in _parts(answer))
    finally:
        do(lab.bob.account, ["rm", own])
        do(lab.bob.account, ["mv", kept, own])


def _secret_of(real: Path) -> bytes:
    """What nobody else can have: a token, a key, or all of a file."""
    if real.is_dir():
        return next(real.rglob("who.txt")).read_bytes()
    if real.suffix == ".json":
        told = json.loads(real.read_text())
        return str(told.get("token") or told["files"][1]["sha256"]).encode()
    return real.read_bytes()


def _parts(answer: bytes) -> list[bytes]:
    """An answer, and what is in it where it is a zip."""
    if not zipfile.is_zipfile(io.BytesIO(answer)):
        return [answer]
    with zipfile.ZipFile(io.BytesIO(answer)) as packed:
        return [answer, *(packed.read(name) for name in packed.namelist())]


def test_the_same_zip_runs_again_though_it_is_the_accounts_by_now(
    lab: Lab, alices: dict[str, Any]
) -> None:
    again = lab.alice.client.post(f"/api/v1/runs/{alices['id']}/again")
    assert lab.alice.client.ended(again["id"])["state"] == "COMPLETED"
    first = lab.folder(lab.alice, alices) / "project.zip"
    assert first.stat().st_nlink == 1


def test_who_has_no_account_on_the_cluster_is_told_at_upload(lab: Lab) -> None:
    said(lab.site, "user", "add", "carol@lab.org")
    carol = Client(lab.site.url, said(lab.site, "token", "add", "carol@lab.org"))
    with pytest.raises(urllib.error.HTTPError, match="403") as refused:
        carol.upload("print(1)\n")
    assert "ask the administrator to link one" in json.load(refused.value)["detail"]


def test_an_account_that_may_not_be_used_ends_the_run_with_the_reason(lab: Lab) -> None:
    said(lab.site, "user", "add", "dave@lab.org")
    dave = Client(lab.site.url, said(lab.site, "token", "add", "dave@lab.org"))
    with account("dave", "--groups", "disk") as unix:
        link(lab.site, "dave", unix)
        run = dave.ended(dave.upload("print(1)\n")["id"])
    assert run["state"] == "REJECTED"
    assert "privileged group (disk)" in run["note"]
