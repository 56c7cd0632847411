"""People whose jobs run as Unix accounts of their own, and the site where they do."""

from __future__ import annotations

import pwd
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accounts import a_place_for_it, account, link, run_as_installed
from client import Client
from sites import served

from nias_bridge.localcluster import LocalCluster
from nias_bridge.settings import Settings
from nias_bridge.site import Site, running, said

SAYS_WHO = """
import getpass, os, pathlib
pathlib.Path("output/who.txt").write_text(f"{os.getuid()} {getpass.getuser()}")
pathlib.Path("output/closed.txt").touch(0o600)
print("secret words", flush=True)
"""
WAITS = SAYS_WHO + "import time; time.sleep(600)\n"


@dataclass(frozen=True)
class Researcher:
    """A person of the site: her handle, her account on the cluster, her token's client."""

    handle: str
    account: str
    client: Client

    @property
    def email(self) -> str:
        return f"{self.handle}@lab.org"

    @property
    def uid(self) -> int:
        return pwd.getpwnam(self.account).pw_uid

    def at_work(self) -> dict[str, Any]:
        """A run of hers whose code is at work."""
        run_id = self.client.upload(WAITS)["id"]
        return self.client.wait(
            run_id,
            lambda run: run["state"] == "RUNNING" and "secret words" in self.client.log(run_id),
        )


@dataclass(frozen=True)
class Lab:
    """A site with identity = "unix", and the program by which jobs run as others."""

    site: Site
    program: Path
    alice: Researcher
    bob: Researcher

    @property
    def shared(self) -> Path:
        return self.site.state / "shared"

    def folder(self, who: Researcher, run: dict[str, Any]) -> Path:
        return self.shared / "runs" / who.handle / run["project"] / str(run["number"])


def person(site: Site, handle: str, unix: str) -> Researcher:
    """Somebody new at the site, linked to this account."""
    said(site, "user", "add", f"{handle}@lab.org")
    link(site, handle, unix)
    return Researcher(
        handle, unix, Client(site.url, said(site, "token", "add", f"{handle}@lab.org"))
    )


@contextmanager
def a_lab(cluster: LocalCluster, make_site: Callable[..., Site], nias: str) -> Iterator[Lab]:
    """Alice and Bob at a site of this machine, which is served."""
    program = a_place_for_it()
    settings = Settings(
        shared_root="/to/be/named",
        database_url="sqlite://",
        secret_key="for tests only, and long enough for it",
        slurm_conf=cluster.slurm_conf,
        run_as=program,
    )
    made = make_site(cluster, identity="unix", run_as=program)
    settings = settings.model_copy(update={"shared_root": made.state / "shared"})
    with (
        run_as_installed(settings, nias),
        account("alice") as alice,
        account("bob") as bob,
        served(made),
        running(made, "poll"),
    ):
        yield Lab(made, program, person(made, "alice", alice), person(made, "bob", bob))


def alice_at_work(lab: Lab) -> Iterator[dict[str, Any]]:
    """A run of Alice's whose code is at work, for a fixture."""
    client, run = lab.alice.client, lab.alice.at_work()
    yield run
    if not client.run(run["id"])["ended"]:
        client.cancel(run["id"])
        client.ended(run["id"])


def recorded(slurm: Callable[..., str], run: dict[str, Any]) -> tuple[str, str]:
    """User and state on record. For some seconds that of a quick job is nameless, and root's."""
    asked = ("sacct", "-XnP", "--starttime=now-1hour", f"--jobs={run['job_id']}")
    deadline = time.monotonic() + 30
    while True:
        name, user, state = slurm(*asked, "--format=JobName%100,User,State").strip().split("|")
        if name == run["job_name"]:
            return user, state
        assert time.monotonic() < deadline, name
        time.sleep(0.2)
