"""Datasets on a real Slurm: runs read the very bytes, can't write them, and see no others."""

from __future__ import annotations

import os
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from client import Client
from sites import OWNER, served

from nias_bridge.client import Client as Researcher
from nias_bridge.client import Dataset
from nias_bridge.localcluster import LocalCluster
from nias_bridge.site import Site, running, said

BOB, EVE = "bob@example.org", "eve@example.org"
CODE = """import os
from pathlib import Path
data = Path(os.environ["NIAS_DATA"])
print("sees", sorted(path.name for path in data.iterdir()))
eeg = data / "eeg"
print("reads", sorted(p.relative_to(eeg).as_posix() for p in eeg.rglob("*")))
print("first is", (eeg / "first.csv").read_text())
for what in (lambda: (eeg / "first.csv").write_text("x"), lambda: (eeg / "new").touch(),
             lambda: (eeg / "first.csv").chmod(0o666), lambda: (eeg / "first.csv").unlink(),
             lambda: (data / "other").mkdir()):
    try:
        what()
        print("WROTE")
    except OSError as error:
        print("kept:", error.strerror)
"""
TOML = '[job]\ndatasets = ["eeg"]\n'


def researcher(site: Site, email: str) -> Researcher:
    return Researcher(site.url, said(site, "token", "add", email))


def told_of(client: Researcher, run: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """A run once it has ended, and its log."""
    ended = client.run(run["id"]).wait(90)
    return dict(ended.told), "".join(ended.log())


@pytest.fixture(scope="module")
def people(site: Site) -> tuple[Researcher, Researcher, Researcher]:
    for email in (BOB, EVE):
        said(site, "user", "add", email)
    return researcher(site, OWNER), researcher(site, BOB), researcher(site, EVE)


@pytest.fixture(scope="module")
def eeg(people: tuple[Researcher, ...], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data") / "eeg"
    (folder / "sub-01").mkdir(parents=True)
    (folder / "first.csv").write_text("1,2,3")
    (folder / "sub-01" / "noise.bin").write_bytes(os.urandom(2_000_000))
    return people[0].datasets.put(folder)


def submit(site: Site, client: Researcher, name: str, toml: str, **query: str) -> dict[str, Any]:
    token = client.gateway._http.headers["Authorization"].removeprefix("Bearer ")
    return Client(site.url, token).upload(CODE, name=name, more={"nias.toml": toml}, **query)


def test_a_run_reads_its_dataset_and_can_not_write_to_it(
    site: Site, people: tuple[Researcher, ...], eeg: Dataset
) -> None:
    run, log = told_of(people[0], submit(site, people[0], "reads-eeg", TOML))
    assert run["state"] == "COMPLETED", log
    assert "sees ['eeg']" in log
    assert "reads ['first.csv', 'sub-01', 'sub-01/noise.bin']" in log
    assert "first is 1,2,3" in log
    assert (log.count("kept:"), "WROTE" in log) == (5, False)
    assert eeg.newest is not None
    assert [each["sha256"] for each in run["datasets"]] == [eeg.newest.sha256]


def test_another_who_has_it_shared_reads_it_and_who_has_not_is_refused(
    site: Site, people: tuple[Researcher, ...], eeg: Dataset
) -> None:
    _, bob, eve = people
    eeg.share([BOB])
    toml = f'[job]\ndatasets = ["{eeg.owner}/eeg"]\n'
    run, log = told_of(bob, submit(site, bob, "bob-reads", toml))
    assert run["state"] == "COMPLETED", log
    assert "first is 1,2,3" in log
    with pytest.raises(urllib.error.HTTPError) as refused:
        submit(site, eve, "eve-reads", toml)
    assert refused.value.code == 422
    assert "is no dataset of yours" in refused.value.read().decode()


def test_a_new_version_changes_nothing_for_a_run_that_is_run_again(
    people: tuple[Researcher, ...], eeg: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "first.csv").write_text("another")
    newer = people[0].datasets.put(tmp_path, "eeg")
    assert len(newer.versions) == 2
    run = people[0].run("reads-eeg").again()
    _, log = told_of(people[0], {"id": run.id})
    assert "first is 1,2,3" in log


def test_every_task_of_a_sweep_sees_the_same(
    site: Site, people: tuple[Researcher, ...], eeg: Dataset
) -> None:
    assert eeg.versions
    toml = TOML + "[sweep]\ngrid = { n = [1, 2] }\n"
    run = people[0].run(submit(site, people[0], "swept-eeg", toml)["id"]).wait(90)
    assert run.state == "COMPLETED"
    for task in (0, 1):
        assert "first is another" in "".join(run.log(task=task))


def test_without_a_sandbox_they_are_there_too(
    make_site: Callable[..., Site], cluster: LocalCluster, tmp_path: Path
) -> None:
    with served(make_site(cluster, sandbox="off")) as site, running(site, "poll"):
        known = researcher(site, OWNER)
        (tmp_path / "first.csv").write_text("1")
        known.datasets.put(tmp_path, "eeg")
        run, log = told_of(known, submit(site, known, "open-eeg", TOML))
    assert run["state"] == "COMPLETED", log
    assert "sees ['eeg']" in log and "first is 1" in log
