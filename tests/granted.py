"""Datasets as they are met by people whose jobs run as Unix accounts of their own."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from accounts import do
from unixlab import Lab, Researcher

from nias_bridge.client import Client as Nias
from nias_bridge.client import Dataset
from nias_bridge.localcluster import LocalCluster
from nias_bridge.site import Site, said

SECONDS = 30
TOML = '[job]\ndatasets = ["{}"]\n'
READS = """
import os
from pathlib import Path
(eeg,) = Path(os.environ["NIAS_DATA"]).iterdir()
print("reads", sorted(p.relative_to(eeg).as_posix() for p in eeg.rglob("*")))
print("first is", (eeg / "first.csv").read_text())
for what in (lambda: (eeg / "first.csv").write_text("x"), lambda: (eeg / "new").touch(),
             lambda: (eeg / "first.csv").chmod(0o666), lambda: (eeg / "first.csv").unlink()):
    try:
        what()
        print("WROTE")
    except OSError as error:
        print("kept:", error.strerror)
"""


def nias_of(site: Site, who: Researcher) -> Nias:
    return Nias(site.url, said(site, "token", "add", who.email))


def a_folder() -> Iterator[Path]:
    """Of data, for a fixture."""
    with tempfile.TemporaryDirectory(prefix="nias-data-") as made:
        data = Path(made) / "eeg"
        (data / "sub-01").mkdir(parents=True)
        (data / "first.csv").write_text("1,2,3")
        (data / "sub-01" / "noise.bin").write_bytes(os.urandom(100_000))
        yield data


def content_of(lab: Lab, eeg: Dataset) -> Path:
    assert eeg.newest
    return lab.shared / "datasets" / "content" / eeg.newest.sha256


def submit(who: Researcher, name: str, word: str = "eeg", code: str = READS) -> dict[str, Any]:
    return who.client.upload(code, name=name, more={"nias.toml": TOML.format(word)})


def ended(who: Researcher, name: str, word: str = "eeg") -> tuple[str, str]:
    run = who.client.ended(submit(who, name, word)["id"])
    return run["state"], who.client.log(run["id"])


def reach(who: Researcher, content: Path) -> set[bool]:
    """Whether her account, which knows where a content lies, can list it and read what is in it."""
    inside = content / "files"
    tried = (["ls", content], ["ls", inside], ["cat", inside / "first.csv"])
    return {do(who.account, argv).returncode == 0 for argv in tried}


IN, OUT = {True}, {False}


def is_told(lab: Lab, who: Researcher, content: Path) -> bool:
    """Whether her catalogue, which is written after doors are opened, has this content."""
    catalogue = lab.shared / "datasets" / "of" / f"{who.account}.json"
    return catalogue.exists() and content.name in catalogue.read_text()


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def by_plain_sbatch(lab: Lab, cluster: LocalCluster, home: Path, word: str, who: Researcher) -> str:
    """The log of a job that she gave to sbatch herself."""
    project = home / "by-hand"
    project.mkdir(exist_ok=True)
    (project / "code.py").write_text(READS)
    (project / "nias.toml").write_text(TOML.format(word))
    given = ["sbatch", "--wait", "--parsable", lab.shared / "bin" / "nias.sbatch", project]
    variables = {"SLURM_CONF": str(cluster.slurm_conf), "PATH": "/usr/bin:/bin"}
    job_id = do(who.account, given, env=variables).stdout.strip()
    return (lab.shared / "sbatch" / who.account / job_id / "slurm.out").read_text()


def a_home() -> Iterator[Path]:
    """A folder that every account can read, for a fixture."""
    with tempfile.TemporaryDirectory(prefix="nias-home-") as made:
        Path(made).chmod(0o755)
        yield Path(made)
