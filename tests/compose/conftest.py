"""A cluster of containers for the tests of this folder: of each process that runs some of them."""

from __future__ import annotations

import fcntl
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from client import Client
from containers import BUILD_SECONDS, Containers, checkout
from engine import IN_CI, Engine, NoEngine, engine
from freeports import free_port


@pytest.fixture(scope="session")
def docker() -> Iterator[Engine]:
    """Docker with Compose and the base image; in CI whatever of these is not here is made."""
    try:
        with engine(start=IN_CI) as found:
            yield found
    except NoEngine as error:
        if IN_CI:
            pytest.fail(str(error))
        pytest.skip(str(error))


@contextmanager
def one_at_a_time(place: Path) -> Iterator[None]:
    """What another process has built is then there, and taken from it."""
    with (place / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def containers(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """The cluster, up, as it comes: two nodes."""
    folder = Path(tempfile.mkdtemp(prefix="nias-compose-", dir="/tmp"))
    name = f"nias-compose-{secrets.token_hex(4)}"  # mkdtemp's can be none of an image
    cluster = Containers(docker, folder, name, free_port(), free_port())
    try:
        checkout(folder)
        with one_at_a_time(tmp_path_factory.getbasetemp().parent):
            cluster.compose("build", seconds=BUILD_SECONDS)
        cluster.up()
        yield cluster
    finally:
        cluster.compose("down", "--volumes", "--timeout", "2", check=False)
        docker.run("image", "rm", cluster.image, check=False)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def client(containers: Containers) -> Client:
    """Ana's. Each module has its own token: one of them removes all that the cluster knows."""
    return containers.client_of("ana")
