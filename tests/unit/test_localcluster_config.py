"""The pure parts of the one-machine Slurm: how a machine is shared out, what the files say."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nias_bridge.errors import ClusterError
from nias_bridge.localcluster import config, machine, plan
from nias_bridge.localcluster.daemons import Daemon, is_ours, last_words

PLAN = config.Plan(
    state=Path("/srv/lab"),
    sockets=Path("/srv/lab/run"),
    tag="abcd",
    user="root",
    host="lab",
    version=(22, 5, 8),
    ctld_port=20001,
    dbd_port=20002,
    nodes=(
        config.Node("slot-abcd-1", 20003, (0, 1), 3000),
        config.Node("slot-abcd-2", 20004, (2, 3), 3000),
    ),
    cgroups=True,
)


def test_two_slots_of_four_cores_get_two_each() -> None:
    assert config.share([0, 1, 2, 3], 10_000, 2) == [((0, 1), 4500), ((2, 3), 4500)]


def test_more_slots_than_cores_share_the_cores_one_each() -> None:
    assert [cores for cores, _ in config.share([4, 5], 10_000, 3)] == [(4,), (5,), (4,)]


@given(st.integers(1, 64), st.integers(256, 1_000_000), st.integers(1, 40))
def test_the_slots_never_get_more_memory_than_there_is(cores: int, memory: int, slots: int) -> None:
    shares = config.share(list(range(cores)), memory, slots)
    assert len(shares) == slots
    assert sum(each for _, each in shares) < max(memory, slots + 1)
    assert all(each > 0 and own for own, each in shares)


def test_a_slurm_that_does_not_know_job_extra_is_not_told_of_it() -> None:
    assert "AccountingStoreFlags=job_comment\n" in config.slurm_conf(PLAN)
    newer = replace(PLAN, version=(24, 11, 5))
    assert "AccountingStoreFlags=job_comment,job_extra\n" in config.slurm_conf(newer)


def test_memory_is_kept_by_looking_where_cgroups_do_not_work() -> None:
    assert "OverMemoryKill" in config.slurm_conf(replace(PLAN, cgroups=False))
    assert "OverMemoryKill" not in config.slurm_conf(PLAN)


def test_the_database_configuration_is_for_its_owner_only() -> None:
    assert config.files(PLAN)["slurmdbd.conf"][1] == 0o600
    assert config.files(PLAN)["slurm.conf"][1] == 0o644


def test_the_record_gives_the_plan_back(tmp_path: Path) -> None:
    mine = replace(PLAN, state=tmp_path)
    plan.record(mine)
    assert plan.recorded(tmp_path) == mine


def test_a_record_that_is_garbage_is_named(tmp_path: Path) -> None:
    (tmp_path / plan.RECORD).write_text("{")
    with pytest.raises(ClusterError, match=r"cluster\.json can't be read"):
        plan.recorded(tmp_path)


def test_the_last_words_are_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert last_words(log, 2) == "line 9998\nline 9999"
    assert last_words(tmp_path / "none") == ""


def test_a_process_without_the_mark_is_not_ours(tmp_path: Path) -> None:
    argv = Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode()
    daemon = Daemon("me", Path(argv).name, (argv,), tmp_path, tmp_path, tmp_path, lambda: "")
    assert not is_ours(os.getpid(), daemon)


def test_packages_are_named_when_programs_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROGRAM_PATH", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    assert machine.missing_packages() == sorted(set(machine.PACKAGES.values()))


def test_a_port_that_is_let_go_of_in_a_while_is_waited_for_and_another_is_not() -> None:
    with socket.socket() as going, socket.socket() as staying:
        for listener in (going, staying):
            listener.bind(("127.0.0.1", 0))
            listener.listen()
        ports = [listener.getsockname()[1] for listener in (going, staying)]
        assert [machine.port_is_free(port) for port in ports] == [False, False]
        later = threading.Timer(0.2, going.close)
        later.start()
        assert machine.becomes_free(ports[0], 20)
        later.join()
        assert not machine.becomes_free(ports[1], 0.1)
