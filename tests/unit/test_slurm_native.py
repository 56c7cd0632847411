"""What of a script pyslurm can say, read as sbatch reads it; how the way to Slurm is chosen."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from nias_bridge.bootstrap import open_scheduler
from nias_bridge.domain import Resources
from nias_bridge.errors import SettingsError
from nias_bridge.script import slot_options
from nias_bridge.settings import Settings
from nias_bridge.slurm import native
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.slurm.native import description
from nias_bridge.slurm.ssh import SshRunner


def settings(**changes: object) -> Settings:
    needed = {
        "shared_root": "/shared",
        "database_url": "sqlite://",
        "secret_key": "for tests only, and long enough for it",
    }
    return Settings(**needed, **changes)


def script(*options: str) -> str:
    return "\n".join(["#!/bin/bash", "# a comment", *(f"#SBATCH {each}" for each in options), "x"])


def test_options_are_told_by_the_names_that_pyslurm_has_for_them() -> None:
    told = description(
        script("--time='01:00:00'", "--exclusive", "--partition=a,b", "--ntasks=1", "--no-requeue")
    )
    assert told == {
        "time_limit": "0-01:00:00",
        "resource_sharing": "no",
        "partitions": ["a", "b"],
        "ntasks": 1,
        "is_requeueable": False,
    }


def test_a_quoted_value_and_a_signal_are_read_as_they_are_meant() -> None:
    told = description(script("'--output=/a b/#1 = %j'", "--signal=B:USR1@30"))
    assert told == {"standard_output": "/a b/#1 = %j", "signal": "B:SIGUSR1@30"}


@pytest.mark.parametrize(
    ("written", "told"),
    [("1", "0-00:01:00"), ("90", "0-01:30:00"), ("0:30", "0-00:01:00"), ("1-12", "1-12:00:00")],
)
def test_a_time_limit_is_told_in_whole_minutes_whatever_its_format(written: str, told: str) -> None:
    assert description(script(f"--time={written}")) == {"time_limit": told}


@pytest.mark.parametrize("option", ["--mem=0", "--dependency=singleton", "-t 20", "--time 20"])
def test_what_pyslurm_can_not_say_exactly_is_left_to_sbatch(option: str) -> None:
    assert description(script("--ntasks=1", option)) is None


def test_options_behind_the_first_command_are_none() -> None:
    assert description(script("--ntasks=1") + "\n#SBATCH --dependency=singleton\n") == {"ntasks": 1}


def test_every_option_of_a_slot_is_known_but_for_all_the_memory() -> None:
    site = settings(slot_cpus=2, slot_memory="4G", partition="main", account="a", qos="q")
    options = slot_options(Resources(gpus=1, requeue=True), site)
    assert description(script(*options)) is not None
    assert description(script(*slot_options(Resources(), settings()))) is None


def test_without_pyslurm_the_commands_are_taken_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO):
        assert isinstance(open_scheduler(settings()), CliScheduler)
    assert "Slurm is asked by its commands: pyslurm is not installed." in caplog.messages


def test_pyslurm_that_is_asked_for_and_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="slurm_via is “pyslurm”, but pyslurm is not installed"):
        open_scheduler(settings(slurm_via="pyslurm"))


def test_a_login_node_goes_before_what_is_here(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        chosen = open_scheduler(settings(ssh_host="login.lab", ssh_key=Path("/k"), ssh_port=2222))
    assert isinstance(chosen, CliScheduler) and isinstance(chosen.run, SshRunner)
    assert str(chosen.run.connection.login) == "nias@login.lab:2222"
    assert "Slurm is asked by its commands on nias@login.lab:2222." in caplog.messages


def test_a_login_node_and_pyslurm_can_not_be_had_together() -> None:
    with pytest.raises(ValueError, match="slurm_via can't be pyslurm where ssh_host is set"):
        settings(ssh_host="login.lab", slurm_via="pyslurm")
