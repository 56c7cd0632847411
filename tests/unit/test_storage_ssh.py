"""storage = "ssh": what is asked of the settings, and what goes on while the login node is away."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import staged
from loginnode import make_key
from pydantic import ValidationError

from nias_bridge import poller
from nias_bridge.bootstrap import open_gateway
from nias_bridge.domain import JobState
from nias_bridge.errors import StorageUnreachable
from nias_bridge.node.operations import OPERATIONS
from nias_bridge.poller import Rounds
from nias_bridge.reach import Mounted, Opened
from nias_bridge.services import desk
from nias_bridge.settings import Settings
from nias_bridge.slurm import files
from nias_bridge.slurm.fake import FakeScheduler
from nias_bridge.storage import Storage
from nias_bridge.store.schema import upgrade

AWAY = "The shared storage on login.lab gave no answer."


def settings(folder: Path, **more: Any) -> Settings:
    return Settings(
        **{
            "shared_root": "/nowhere/on/this/machine",
            "database_url": f"sqlite:///{folder}/nias.db",
            "secret_key": "for tests only, and long enough for it",
            "storage": "ssh",
            **more,
        }
    )


@pytest.fixture
def port() -> Iterator[int]:
    """One on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_storage_by_ssh_needs_a_login_node(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="storage “ssh” needs ssh_host"):
        settings(tmp_path)
    with pytest.raises(ValidationError, match="accel_redirect can't be had with storage “ssh”"):
        settings(tmp_path, ssh_host="login.lab", accel_redirect="/protected")


def test_a_gateway_whose_login_node_is_away_serves_what_its_database_knows(
    tmp_path: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    make_key(tmp_path / "key")
    (tmp_path / "known_hosts").touch()
    keys = {"ssh_key": tmp_path / "key", "ssh_known_hosts": tmp_path / "known_hosts"}
    asked = settings(tmp_path, ssh_host="127.0.0.1", ssh_port=port, **keys)
    upgrade(asked.database_url)
    bridge = open_gateway(asked)
    assert "can't be reached by SSH: Connection refused" in caplog.text
    assert "can't be reached by SSH: Connection refused" in desk.health(bridge).storage
    assert bridge.paths.on_cluster == PurePosixPath("/nowhere/on/this/machine")
    assert not Path("/nowhere").exists()


class ComingBack(Mounted):
    """Storage that is away until it is back."""

    back = False

    def call(self, operation: str, **arguments: Any) -> Any:
        if not self.back:
            raise StorageUnreachable(AWAY)
        return super().call(operation, **arguments)

    def open(self, path: str) -> Opened:
        if not self.back:
            raise StorageUnreachable(AWAY)
        return super().open(path)


def test_slurm_is_followed_while_the_storage_is_away_and_the_rest_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "AWAY_SECONDS", 0.0)
    here, slurm, way = (
        staged.make_bridge(tmp_path, poll_interval=0.001),
        FakeScheduler(),
        ComingBack(),
    )
    rounds = Rounds(replace(here, storage=Storage(way)), slurm)
    new, old = staged.add(here, "new"), staged.add(here, "old")
    way.back = True
    rounds.take_new_work()
    way.back = False
    slurm.start(here.store.run(old.id).job_id or 0)
    later = staged.add(here, "later")
    rounds.turn()
    assert here.store.run(old.id).state is JobState.RUNNING
    told = here.store.run(later.id)
    assert (told.state, told.note) == (JobState.RECEIVED, AWAY)
    assert not Path(here.paths.bin).exists()
    way.back = True
    rounds.turn()
    told = here.store.run(later.id)
    assert (told.state, told.note) == (JobState.PENDING, "")
    assert Path(here.paths.bin, "nias-node.py").exists()
    assert here.store.run(new.id).state is JobState.PENDING


def test_each_operation_is_either_repeated_or_left_unknown() -> None:
    known = OPERATIONS
    left = {"create", "join", "end", "move", "take", "retire", "publish_dataset"}
    assert known.keys() == files.AGAIN | left
    assert not files.AGAIN & left
    assert known.keys() > files.LONG.keys()
