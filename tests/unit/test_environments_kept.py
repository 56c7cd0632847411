"""What an administrator sees of the environments, and what may be taken from them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import staged
from click.testing import CliRunner

from nias_bridge import cli
from nias_bridge.node import environment, layout, soundness
from nias_bridge.services import environments
from nias_bridge.services.bridge import Bridge

MB = 1000 * 1000


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    return staged.make_bridge(tmp_path)


Put = Callable[..., Path]


@pytest.fixture
def put(bridge: Bridge) -> Put:
    """An environment of ten megabytes by its record, used so many hours ago."""

    def make(key: str, hours: float, owner: str = "") -> Path:
        place = staged.here(bridge).environments
        if owner:
            place = place / layout.PRIVATE / owner
        folder = place / key
        (folder / "lib").mkdir(parents=True)
        record = {
            "requirements": ["numpy==2.2.0 --hash=sha256:00", "scipy"],
            "python": "3.11.2",
            "bytes": 10 * MB,
            "built_at": 1_700_000_000,
        }
        (folder / soundness.RECORD).write_text(json.dumps(record))
        for inner in (folder / "lib", folder):
            inner.chmod(0o555)
        use = folder.with_name(f"{key}{environment.USE}")
        use.touch()
        used = 1_750_000_000 - hours * 3600
        os.utime(use, (used, used))
        return folder

    return make


def keys(bridge: Bridge) -> list[str]:
    return [one.key for one in environments.kept(bridge)]


def test_the_least_recently_used_go_first_until_the_size_is_met(bridge: Bridge, put: Put) -> None:
    for key, hours in (("a", 1), ("b", 3), ("c", 2)):
        put(key, hours)
    put("d", 9, owner="ada")
    assert keys(bridge) == ["d", "b", "c", "a"]
    assert [one.key for one in environments.prune(bridge, 25 * MB)] == ["d", "b"]
    assert keys(bridge) == ["c", "a"]
    assert environments.prune(bridge, 25 * MB) == []


def test_one_that_a_process_uses_stays_until_that_has_ended(bridge: Bridge, put: Put) -> None:
    use = put("a", 1).with_name("a.use")
    holding = f"import fcntl; f = open({str(use)!r}); fcntl.flock(f, 1); print(); input()"
    user = subprocess.Popen(
        [sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert user.stdout
    user.stdout.readline()
    assert [one.in_use for one in environments.kept(bridge)] == [True]
    assert environments.prune(bridge, 0) == []
    user.kill()
    user.communicate()
    assert [one.key for one in environments.prune(bridge, 0)] == ["a"]
    assert not list(staged.here(bridge).environments.glob("*a*-*"))


def test_what_dead_builders_left_goes_after_a_day(bridge: Bridge) -> None:
    new, old = (staged.here(bridge).environments / f"{environment.BUILDING}{n}-1" for n in "ab")
    for folder in (new, old):
        folder.mkdir(parents=True)
    os.utime(old, (1, 1))
    environments.prune(bridge, 0)
    assert (new.exists(), old.exists()) == (True, False)


def test_the_command_lists_and_prunes(
    bridge: Bridge, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a", 1)
    put("b", 2, owner="ada")
    monkeypatch.setattr(cli, "read_settings", lambda: bridge.settings)
    monkeypatch.setattr(cli, "open_bridge", lambda _: bridge)
    run = CliRunner()
    told = run.invoke(cli.main, ["env", "list"]).output.splitlines()
    assert told[0].startswith("b")
    assert told[0].endswith("numpy==2.2.0 scipy  (of ada)")
    assert told[2] == "2 environments, 20 MB"
    assert run.invoke(cli.main, ["env", "prune"]).output == "0 removed, 0 MB\n"
    assert run.invoke(cli.main, ["env", "prune", "--to", "15M"]).output.endswith(
        "1 removed, 10 MB\n"
    )
    assert "write 500M or 8G" in run.invoke(cli.main, ["env", "prune", "--to", "x"]).output
    assert keys(bridge) == ["a"]


def test_where_accounts_have_their_own_each_ones_share_is_counted_for_itself(
    tmp_path: Path,
) -> None:
    bridge = staged.make_bridge(tmp_path, identity="unix")
    for owner, size in (("alice", 10**18), ("bob", 10 * MB)):
        folder = staged.here(bridge).own_environments(owner) / "key"
        folder.mkdir(parents=True)
        record = {"requirements": [], "python": "3.11.2", "bytes": size, "built_at": 1_700_000_000}
        (folder / soundness.RECORD).write_text(json.dumps(record))
    removed = environments.prune(bridge, 20 * MB)
    assert [one.owner for one in removed] == ["alice"]


@pytest.mark.parametrize("record", ['{"requirements": 5}', '{"python": 3}', "[]", '{"bytes": "x"}'])
def test_a_record_that_an_account_spoilt_is_passed_over(
    record: str, bridge: Bridge, put: Put
) -> None:
    put("good", 1)
    spoilt = put("spoilt", 2, owner="bob")
    spoilt.chmod(0o755)
    (spoilt / soundness.RECORD).write_text(record)
    assert keys(bridge) == ["good"]
