"""The cluster of docker/slurm-cluster, built from a copy of this checkout and running."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from client import Client
from engine import Engine, authorities, indexes

ROOT = Path(__file__).parents[2]
COMPOSE = "docker/slurm-cluster"
BUILD_SECONDS = 600
UP_SECONDS = 180
LOOK_SECONDS = 0.2
OUTSIDE = "compose.ssh.yaml"  # the overlay with an image of its own


@dataclass(frozen=True)
class Record:
    """A job as sacct has it; start and end in seconds of the epoch, None where there is none."""

    job_id: int
    name: str
    state: str
    user: str
    node: str
    start: int | None
    end: int | None


@dataclass(frozen=True)
class Containers:
    """One cluster; folder: the checkout it is built from, with files of the test beside it.

    overlays: the files of docker/slurm-cluster that are laid over compose.yaml, in this order.
    """

    engine: Engine
    folder: Path
    project: str
    http_port: int
    ssh_port: int
    overlays: tuple[str, ...] = ()

    @property
    def image(self) -> str:
        return self.project

    @property
    def url(self) -> str:
        """As the gateway calls itself."""
        return f"http://localhost:{self.http_port}"

    @property
    def key(self) -> Path:
        return self.folder / "researcher.key"

    @property
    def public_key(self) -> Path:
        return self.key.with_name(f"{self.key.name}.pub")

    @property
    def variables(self) -> dict[str, str]:
        """The environment of `docker compose`, so that this cluster is meant and no other."""
        return {
            **self.engine.variables,
            "COMPOSE_PROJECT_NAME": self.project,
            "NIAS_IMAGE": self.image,
            "NIAS_HTTP_PORT": str(self.http_port),
            "NIAS_SSH_PORT": str(self.ssh_port),
            **indexes(),
        }

    def compose(self, *argv: str, seconds: float = 60, check: bool = True) -> str:
        """What `docker compose ARGV` prints."""
        files = [self.folder / COMPOSE / name for name in ("compose.yaml", *self.overlays)]
        return self.engine.run(
            *("compose", *(f"--file={file}" for file in files)),
            *argv,
            seconds=seconds,
            check=check,
            **self.variables,
        ).stdout

    def up(self, *argv: str) -> None:
        """Return when all is ready, by the health checks."""
        self.compose("up", "--detach", "--wait", *argv, seconds=UP_SECONDS)

    @contextmanager
    def overlaid(self, *overlays: str) -> Iterator[Containers]:
        """This cluster with these overlays, and then without them and what they alone know of."""
        cluster = replace(self, overlays=overlays)
        outside = OUTSIDE in overlays
        if outside:
            cluster.compose("build", "gateway", seconds=BUILD_SECONDS)
        cluster.up()
        try:
            yield cluster
        finally:
            self.up()
            if outside:
                self.engine.run("network", "rm", f"{self.project}_outside")
                self.engine.run("image", "rm", f"{self.image}-outside")

    def inside(self, service: str, *argv: str, user: str = "root") -> str:
        """What a program in a service's container prints."""
        return self.compose("exec", "--no-TTY", "--user", user, service, *argv)

    def bridge(self, *argv: str) -> str:
        """What `nias-bridge ARGV` prints at the gateway."""
        return self.inside("gateway", "nias-bridge", *argv, user="nias").strip()

    def client_of(self, person: str) -> Client:
        """The API as one of the first people, by a token of hers."""
        return Client(self.url, self.bridge("token", "add", f"{person}@example.org"))

    def kill(self, service: str) -> None:
        self.compose("kill", service)

    def start(self, service: str) -> None:
        """Start what was killed, and return when it does its work again."""
        self.compose("start", service)
        eventually(lambda: self.health(service) == "healthy", seconds=90)

    def health(self, service: str) -> str:
        told = self.compose("ps", "--all", "--format", "json", service)
        return str(json.loads(told)["Health"])

    def nodes(self) -> dict[str, str]:
        """The state of each node, in Slurm's words: “idle*” does not answer."""
        told = self.inside("login", "sinfo", "--noheader", "--Node", "--format=%N %T")
        return dict(line.split() for line in told.splitlines())

    def records(self) -> list[Record]:
        """All jobs of the accounting, each attempt by itself."""
        columns = "JobIDRaw,JobName,State,User,NodeList,Start,End"
        told = self.inside(
            *("login", "env", "SLURM_TIME_FORMAT=%s", "sacct", "--allusers", "--allocations"),
            *("--duplicates", "--noheader", "--parsable2", f"--format={columns}"),
            "--starttime=now-1hour",
        )
        records = []
        for line in told.splitlines():
            job_id, name, state, user, node, start, end = line.split("|")
            times = [int(word) if word.isdigit() else None for word in (start, end)]
            records.append(Record(int(job_id), name, state, user, node, *times))
        return records

    def make_key(self) -> None:
        """The key of the test's researchers, where there is none yet."""
        if not self.key.exists():
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)]
            subprocess.run(argv, check=True, timeout=60)

    def authorize(self, *people: str) -> None:
        """Let the test's key log in as these researchers."""
        self.make_key()
        public = self.public_key.read_text().strip()
        for person in people:
            self.inside("login", "sh", "-c", f"echo '{public}' | authorize {person}")

    def sbatch(self, person: str, name: str, code: str) -> int:
        """The id of a job by plain sbatch: a researcher's project, given to it in her home."""
        made = f"mkdir -p {name}/output && cat >{name}/code.py <<'CODE'\n{code}\nCODE\n"
        return int(self.ssh(person, f"{made}sbatch --parsable /shared/nias/bin/nias.sbatch {name}"))

    def ssh(self, person: str, command: str) -> str:
        """What a researcher's command on the login node prints, over real ssh."""
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        done = subprocess.run(
            [
                *("ssh", "-i", str(self.key), "-p", str(self.ssh_port), "-o", "BatchMode=yes"),
                *(word for option in options for word in ("-o", option)),
                *(f"{person}@127.0.0.1", command),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def checkout(folder: Path) -> None:
    """What the image is built from, in a folder of its own: nothing is put into the real one."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for name in (".dockerignore", *(line[1:] for line in ignored if line.startswith("!"))):
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    for certificate in authorities():
        shutil.copy(certificate, folder / COMPOSE / "ca")


def eventually(true: Callable[[], Any], *, seconds: float) -> None:
    """Return when `true()` is; what answers with an error is not there yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except (OSError, AssertionError):
            pass
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(LOOK_SECONDS)
