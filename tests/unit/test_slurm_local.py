"""Programs run here: clean environment, deadline, and what is told when they can't run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from processes import has_ended

from nias_bridge.errors import Unreachable
from nias_bridge.slurm.local import LocalRunner


def test_a_program_gets_a_clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NIAS_BRIDGE_SECRET_KEY", "x")
    monkeypatch.delenv("SLURM_CONF", raising=False)
    conf = tmp_path / "slurm.conf"
    conf.touch()
    given = dict(line.split("=", 1) for line in LocalRunner()(["env"]).stdout.splitlines())
    assert set(given) == {"PATH", "LANG", "SLURM_TIME_FORMAT", "SLURM_BITSTR_LEN"}
    assert f"SLURM_CONF={conf}\n" in LocalRunner(conf=conf)(["env"]).stdout


def test_a_program_past_its_deadline_is_killed_with_all_it_started(tmp_path: Path) -> None:
    begin = time.monotonic()
    script = f"sleep 60 & echo $! > {tmp_path}/child; echo so far; wait"
    output = LocalRunner(timeout=1)(["sh", "-c", script])
    assert time.monotonic() - begin < 20
    assert output.status < 0
    assert output.stdout == "so far\n"
    assert "no end within 1 s" in output.stderr
    child = int((tmp_path / "child").read_text())
    while not has_ended(child):
        assert time.monotonic() - begin < 30
        time.sleep(0.01)


def test_a_program_that_is_not_there_is_named_with_where_to_set_it(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=rf"no sbatch in {tmp_path}; set slurm_bin"):
        LocalRunner(bin=tmp_path)(["sbatch"])
    with pytest.raises(Unreachable, match=r"set slurm_conf"):
        LocalRunner(conf=tmp_path / "slurm.conf")(["true"])


def test_what_is_no_utf8_is_shown_as_well_as_it_can_be() -> None:
    assert LocalRunner()(["printf", "\\351t\\303\\251"]).stdout == "\N{REPLACEMENT CHARACTER}té"
