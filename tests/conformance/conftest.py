"""The ways to a Slurm that the one suite is held to."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ways import Way, command_line, fake

from nias_bridge.ports import Scheduler


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="nias-jobs-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module", params=["fake", "command line"])
def way(request: pytest.FixtureRequest, folder: Path) -> Way:
    """Each way in turn."""
    if request.param == "fake":
        return fake(folder)
    return command_line(folder, request.getfixturevalue("scheduler"))


@pytest.fixture(scope="module")
def real(folder: Path, scheduler: Scheduler) -> Way:
    """The command line on a real Slurm."""
    return command_line(folder, scheduler)
