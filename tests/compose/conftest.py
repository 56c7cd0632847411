"""One cluster of containers for all tests of this folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from client import Client
from containers import BUILD_SECONDS, Containers, checkout
from engine import Engine, NoEngine, engine
from sites import free_port

IN_CI = os.environ.get("CI") == "true"


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


@pytest.fixture(scope="session")
def containers(docker: Engine) -> Iterator[Containers]:
    """The cluster, up, as it comes: two nodes."""
    folder = Path(tempfile.mkdtemp(prefix="nias-compose-", dir="/tmp"))
    cluster = Containers(docker, folder, folder.name.lower(), free_port(), free_port())
    try:
        checkout(folder)
        cluster.compose("build", seconds=BUILD_SECONDS)
        cluster.up()
        yield cluster
    finally:
        cluster.compose("down", "--volumes", "--timeout", "2", check=False)
        docker.run("image", "rm", cluster.image, check=False)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def client(containers: Containers) -> Client:
    return containers.client
