"""What the nodes need is put on shared storage, and disturbs no job that runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import staged

from nias_bridge.node import layout, ship
from nias_bridge.services import provision
from nias_bridge.services.bridge import Bridge


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
    whole = uv.stat()
    uv.unlink()
    uv.write_bytes(b"old")
    provision.install(bridge)
    assert (uv.stat().st_size, uv.stat().st_mode) == (whole.st_size, whole.st_mode)
