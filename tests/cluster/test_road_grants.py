"""Datasets where jobs are people's own accounts, on a real Slurm: the kernel lets in just those who
may read them, and nobody who only knows where they lie."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from accounts import account, do, link
from granted import (
    IN,
    OUT,
    READS,
    a_folder,
    a_home,
    by_plain_sbatch,
    content_of,
    ended,
    is_told,
    nias_of,
    reach,
    submit,
    until,
)
from unixlab import Lab, Researcher, a_lab

from nias_bridge.client import Client as Nias
from nias_bridge.client import Dataset
from nias_bridge.localcluster import LocalCluster
from nias_bridge.site import Site

WAITS = READS + "import time; print('waits', flush=True); time.sleep(600)\n"


@pytest.fixture(scope="module")
def lab(cluster: LocalCluster, make_site: Callable[..., Site], nias: str) -> Iterator[Lab]:
    with a_lab(cluster, make_site, nias) as made:
        yield made


@pytest.fixture(scope="module")
def alices(lab: Lab) -> Nias:
    return nias_of(lab.site, lab.alice)


folder = pytest.fixture(scope="module")(a_folder)
home = pytest.fixture(a_home)


@pytest.fixture(scope="module")
def eeg(alices: Nias, folder: Path) -> Dataset:
    return alices.datasets.put(folder)


def test_her_run_reads_her_dataset_and_can_not_write_to_it(lab: Lab, eeg: Dataset) -> None:
    state, log = ended(lab.alice, "reads-eeg")
    assert state == "COMPLETED", log
    assert "reads ['first.csv', 'sub-01', 'sub-01/noise.bin']" in log
    assert "first is 1,2,3" in log
    assert (log.count("kept:"), "WROTE" in log) == (4, False)


def test_without_walls_her_account_can_not_change_it_either(lab: Lab, eeg: Dataset) -> None:
    content = content_of(lab, eeg)
    until(lambda: is_told(lab, lab.alice, content))  # nothing is set there any more
    before = subprocess.run(["ls", "-lR", content], capture_output=True, check=True).stdout
    file = content / "files" / "first.csv"
    for argv in (
        ["sh", "-c", f"echo x > {file}"],
        *(["chmod", "u+w", path] for path in (content, file.parent, file)),
        *(["setfacl", "-m", "o:rwx", path] for path in (content, file.parent, file)),
        ["mv", file, file.with_name("other")],
        ["rm", "-f", file],
        ["touch", file.with_name("new")],
        ["mv", content, content.with_name("0" * 64)],
        ["rm", "-rf", content],
    ):
        assert do(lab.alice.account, argv).returncode, argv
    after = subprocess.run(["ls", "-lR", content], capture_output=True, check=True).stdout
    assert after == before


def test_who_knows_the_hash_of_anothers_can_neither_list_nor_read_it(
    lab: Lab, eeg: Dataset
) -> None:
    content = content_of(lab, eeg)
    assert reach(lab.bob, content) == OUT
    for place in (content.parent, content.parent.parent, lab.shared / "datasets" / "of"):
        assert "Permission denied" in do(lab.bob.account, ["ls", place]).stderr
    stolen = Path(tempfile.mkdtemp(prefix="nias-stolen-"))
    stolen.chmod(0o777)
    for argv in (
        ["ln", content / "files" / "first.csv", stolen / "linked"],
        ["cp", "-r", content, stolen / "copied"],
        ["setfacl", "-m", f"u:{lab.bob.account}:rx", content],
        ["cat", lab.shared / "datasets" / "of" / f"{lab.alice.account}.json"],
    ):
        assert do(lab.bob.account, argv).returncode, argv
    assert [path for path in stolen.rglob("*") if path.is_file()] == []
    shutil.rmtree(stolen)


def test_nor_can_a_job_of_his_whose_list_of_datasets_he_wrote_himself(
    lab: Lab, eeg: Dataset, cluster: LocalCluster
) -> None:
    """From the submission on the run's folder is his, before the job begins."""
    content, bob = content_of(lab, eeg), lab.bob
    with pytest.raises(urllib.error.HTTPError, match="422"):
        submit(bob, "asks", "alice/eeg")
    run = bob.client.upload(READS, name="forges")
    here = lab.folder(bob, run)
    until(lambda: here.exists() and here.stat().st_uid == bob.uid)
    forged = json.dumps({"eeg": content.name})
    do(bob.account, ["sh", "-c", f"echo '{forged}' > {here}/datasets.json"])
    bob.client.ended(run["id"])
    # It may have begun before: what he has for good is the script.
    again = do(
        bob.account,
        ["sbatch", "--wait", "--parsable", here / "job.sbatch"],
        env={"SLURM_CONF": str(cluster.slurm_conf), "PATH": "/usr/bin:/bin"},
    )
    by_hand = here / f"by-hand-{again.stdout.strip()}"
    told = json.loads((by_hand / "exit.json").read_text())["message"]
    assert f"the dataset eeg ({content.name}) can't be read by this job's account" in told
    logs = "".join(log.read_text(errors="replace") for log in here.rglob("*.out"))
    assert "first is" not in logs


def test_shared_with_him_he_reads_it_and_no_longer_once_it_is_taken_away(
    lab: Lab, eeg: Dataset
) -> None:
    content = content_of(lab, eeg)
    eeg.share([lab.bob.email])
    state, log = ended(lab.bob, "bob-reads", "alice/eeg")
    assert state == "COMPLETED", log
    assert "first is 1,2,3" in log and "WROTE" not in log
    until(lambda: reach(lab.bob, content) == IN)
    eeg.share([])
    until(lambda: reach(lab.bob, content) == OUT)
    with pytest.raises(urllib.error.HTTPError, match="422"):
        submit(lab.bob, "bob-reads-again", "alice/eeg")
    assert reach(lab.alice, content) == IN


def test_a_run_that_was_accepted_goes_on_where_sharing_is_taken_away_and_then_he_is_out(
    lab: Lab, eeg: Dataset
) -> None:
    content, bob = content_of(lab, eeg), lab.bob
    eeg.share([bob.email])
    run = submit(bob, "bob-waits", "alice/eeg", WAITS)
    bob.client.wait(run["id"], lambda _: "waits\n" in bob.client.log(run["id"]))
    eeg.share([])
    time.sleep(5)  # two rounds of the poller and more
    assert reach(bob, content) == IN
    bob.client.cancel(run["id"])
    bob.client.ended(run["id"])
    assert "first is 1,2,3" in bob.client.log(run["id"])
    until(lambda: reach(bob, content) == OUT)


def test_who_is_linked_to_another_account_takes_it_along(lab: Lab, eeg: Dataset) -> None:
    content, bob = content_of(lab, eeg), lab.bob
    eeg.share([bob.email])
    until(lambda: reach(bob, content) == IN)
    with account("other") as unix:
        other = Researcher("bob", unix, bob.client)
        link(lab.site, "bob", unix)
        until(lambda: (reach(bob, content), reach(other, content)) == (OUT, IN))
        link(lab.site, "bob", bob.account)
        until(lambda: (reach(bob, content), reach(other, content)) == (IN, OUT))
    eeg.share([])
    until(lambda: reach(bob, content) == OUT)


def test_content_from_when_all_jobs_were_the_bridges_own_is_put_right(
    lab: Lab, alices: Nias, folder: Path
) -> None:
    (folder / "old.csv").write_text("from before")
    content = content_of(lab, alices.datasets.put(folder, "old"))
    until(lambda: is_told(lab, lab.alice, content))

    def is_as_then() -> bool:
        subprocess.run(["setfacl", "-R", "-b", content], check=True)
        subprocess.run(["chmod", "-R", "u=rX,g=rX,o=", content], check=True)
        return reach(lab.alice, content) == OUT

    until(is_as_then)  # once a minute the poller puts all right
    state, log = ended(lab.alice, "reads-old", "old")
    assert state == "COMPLETED", log
    assert "'old.csv'" in log and "'sub-01/noise.bin'" in log
    assert (reach(lab.alice, content), reach(lab.bob, content)) == (IN, OUT)


def test_by_plain_sbatch_she_sees_what_an_upload_would_and_he_does_not(
    lab: Lab, eeg: Dataset, cluster: LocalCluster, home: Path
) -> None:
    until(lambda: is_told(lab, lab.alice, content_of(lab, eeg)))
    hers = by_plain_sbatch(lab, cluster, home, "alice/eeg", lab.alice)
    assert "first is 1,2,3" in hers
    assert (hers.count("kept:"), "WROTE" in hers) == (4, False)
    his = by_plain_sbatch(lab, cluster, home, "alice/eeg", lab.bob)
    assert "“alice/eeg” is no dataset of yours" in his
