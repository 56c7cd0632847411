"""Fixtures: one gateway process for all hostile input, without a Slurm, and the node's program."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import staged
import uv
from doors import Gateway, Node, workers
from freeports import free_port
from shipped import put_program
from sites import OWNER

from nias_bridge.bootstrap import open_bridge
from nias_bridge.node import layout
from nias_bridge.settings import CONFIG_VARIABLE, Settings, read_settings
from nias_bridge.site import running, said, service_user, set_up, wait_until_served


@pytest.fixture(scope="session")
def make_gateway() -> Iterator[Callable[..., Any]]:
    """Sets up sites in folders of their own."""
    folders: list[Path] = []

    def make(**settings: Any) -> Any:
        state = Path(tempfile.mkdtemp(prefix="nias-hostile-"))
        state.chmod(0o755)
        folders.append(state)
        site = set_up(state, port=free_port(), slurm_conf=Path("/nonexistent"), **settings)
        said(site, "user", "add", OWNER)
        return site

    yield make
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def gateway(make_gateway: Callable[..., Any]) -> Iterator[Gateway]:
    """A gateway that is served; at the end it is still the process that it was."""
    site = make_gateway(upload_max_bytes=100 * 1024**2)
    with running(site, "serve") as process:
        wait_until_served(site)
        before = os.environ.get(CONFIG_VARIABLE)
        os.environ[CONFIG_VARIABLE] = str(site.config)
        try:
            settings = read_settings()
        finally:
            os.environ.pop(CONFIG_VARIABLE)
            if before is not None:
                os.environ[CONFIG_VARIABLE] = before
        (worker,) = workers(process)
        bridge = staged.as_person(open_bridge(settings), OWNER.partition("@")[0])
        made = Gateway(site, bridge, worker, said(site, "token", "add", OWNER))
        for path in ("/", "/upload", "/results"):  # what is loaded once is no growth
            made.get(path)
        yield made
        assert workers(process) == [worker], made.log()


@pytest.fixture(scope="session")
def node_storage() -> Iterator[Path]:
    """Shared storage with the node's program, which the jobs' account can write to."""
    top = Path(tempfile.mkdtemp(prefix="nias-hostile-node-"))
    root = top / "shared"
    put_program(root / layout.BIN)
    (root / layout.BIN / layout.UV).symlink_to(uv.find_uv_bin())
    limits = {
        name: Settings.model_fields[f"unpacked_max_{word}"].default
        for name, word in (("unpacked_bytes", "bytes"), ("files", "files"), ("ratio", "ratio"))
    }
    (root / layout.BIN / layout.SITE).write_text(json.dumps({"limits": limits}))
    top.chmod(0o755)
    if user := service_user():
        for folder in (top, root):
            shutil.chown(folder, user, user)
    yield root
    shutil.rmtree(top, ignore_errors=True)


@pytest.fixture
def without_walls(node_storage: Path) -> Iterator[None]:
    """The site has turned the sandbox off: code reaches all that its account does."""
    file = node_storage / layout.BIN / layout.SITE
    before = file.read_text()
    file.write_text(json.dumps({**json.loads(before), "sandbox": "off"}))
    yield
    file.write_text(before)


@pytest.fixture
def node(node_storage: Path) -> Node:
    user = service_user()
    identity = {"user": user, "group": user, "extra_groups": []} if user else {}
    return Node(node_storage, identity)


@pytest.fixture
def job_folder(node_storage: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The folder of a run on the nodes' storage, of the account that jobs have."""
    folder = Path(tempfile.mkdtemp(dir=node_storage)) / "runs" / "lab" / "p" / "1"
    folder.mkdir(parents=True)
    if user := service_user():
        for each in (folder, *list(folder.parents)[:4]):
            shutil.chown(each, user, user)
    yield folder
    shutil.rmtree(folder.parents[3])
