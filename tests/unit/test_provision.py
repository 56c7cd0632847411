"""What the nodes need is put on shared storage, and disturbs no job that runs."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest
import staged

from nias_bridge import poller
from nias_bridge.bootstrap import open_bridge
from nias_bridge.domain import JobState
from nias_bridge.node import layout, ship
from nias_bridge.poller import Rounds
from nias_bridge.services import provision
from nias_bridge.services.bridge import Bridge
from nias_bridge.slurm.fake import FakeScheduler


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    made = staged.make_bridge(tmp_path)
    provision.install(made)
    return made


def there(bridge: Bridge) -> dict[str, int]:
    """The programs by their names, with their inodes."""
    files = staged.here(bridge).bin.iterdir()
    return {
        file.name: file.stat().st_ino for file in files if file.suffix not in (".json", ".sbatch")
    }


def test_the_same_program_is_not_written_again(bridge: Bridge) -> None:
    before = there(bridge)
    assert len(before) == 3
    provision.install(bridge)
    assert there(bridge) == before


def test_another_versions_program_is_replaced_and_its_modules_stay(bridge: Bridge) -> None:
    program = staged.here(bridge).bin / layout.NODE_PROGRAM
    old = program.with_name(layout.NODE_MODULES.format("0" * 16))
    old.write_bytes(b"modules")
    program.write_bytes(b"old")
    before = there(bridge)
    provision.install(bridge)
    assert program.read_bytes() == ship.program().script
    assert old.read_bytes() == b"modules"
    assert there(bridge).keys() == before.keys(), "nothing is left beside them"


def test_every_account_may_run_what_is_there(bridge: Bridge) -> None:
    modes = {file.name: file.stat().st_mode & 0o777 for file in staged.here(bridge).bin.iterdir()}
    assert modes.pop(layout.UV) == 0o755
    assert modes.pop(layout.SITE) == 0o640
    assert set(modes.values()) == {0o644}


def test_uv_of_another_version_is_replaced(bridge: Bridge) -> None:
    uv = staged.here(bridge).bin / layout.UV
    whole, mode = uv.read_bytes(), uv.stat().st_mode
    for other in (b"old", bytes(len(whole))):
        uv.unlink()
        uv.write_bytes(other)
        provision.install(bridge)
        assert uv.read_bytes() == whole and uv.stat().st_mode == mode


def test_a_bridge_that_is_opened_writes_nothing_there(bridge: Bridge) -> None:
    for file in staged.here(bridge).bin.iterdir():
        file.unlink()
    opened = open_bridge(bridge.settings)
    assert there(bridge) == {}
    opened.store.close()


def test_what_runs_is_followed_and_new_work_waits_while_it_can_not_be_put_there(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "AWAY_SECONDS", 0.1)
    slurm = FakeScheduler()
    run = staged.add(bridge, "old")
    Rounds(bridge, slurm).turn()
    slurm.start(bridge.store.run(run.id).job_id or 0)

    def full(bridge: Bridge) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    new = staged.add(bridge, "new")
    rounds = Rounds(bridge, slurm)
    with monkeypatch.context() as disk:
        disk.setattr(provision, "install", full)
        rounds.turn()
        assert bridge.store.run(run.id).state is JobState.RUNNING
        waits = bridge.store.run(new.id)
        assert waits.state is JobState.RECEIVED
        assert waits.note.startswith("What the nodes need can't be put there: [Errno 28]")
    deadline = time.monotonic() + 10
    while bridge.store.run(new.id).state is JobState.RECEIVED and time.monotonic() < deadline:
        rounds.turn()
    told = bridge.store.run(new.id)
    assert (told.state, told.note) == (JobState.PENDING, "")
