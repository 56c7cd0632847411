"""With its overlay jobs run as their owners' own accounts, wherever the gateway is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from containers import Containers, eventually

SAYS_WHO = """
import getpass, os
open("output/who.txt", "w").write(f"{getpass.getuser()} {os.getuid()}")
"""
OVERLAYS = {
    "inside": ("compose.unix.yaml",),
    "outside": ("compose.ssh.yaml", "compose.unix.yaml"),
}


@pytest.fixture(params=OVERLAYS)
def unix(containers: Containers, request: pytest.FixtureRequest) -> Iterator[Containers]:
    with containers.overlaid(*OVERLAYS[request.param]) as cluster:
        yield cluster


def test_jobs_run_as_their_owners_accounts_and_keep_their_files_to_them(unix: Containers) -> None:
    ben = unix.client_of("ben")
    run = ben.ended(ben.upload(SAYS_WHO, name="who-runs-it", again="1")["id"])
    assert run["state"] == "COMPLETED", ben.log(run["id"])
    assert ben.results(run["id"]) == {"who.txt": b"ben 2002"}
    eventually(
        lambda: [r.user for r in unix.records() if r.name == run["job_name"]] == ["ben"],
        seconds=20,
    )
    folder = f"/shared/nias/runs/ben/who-runs-it/{run['number']}"
    allowed = f"test -r {folder}/slurm.out && echo yes || echo no"
    answers = {
        person: unix.inside("login", "sh", "-c", allowed, user=person).strip()
        for person in ("ana", "ben")
    }
    assert answers == {"ana": "no", "ben": "yes"}
