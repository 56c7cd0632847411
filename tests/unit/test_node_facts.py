"""What the node alone knows of a run: here, its Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from nias_bridge.node import facts


@pytest.mark.parametrize(
    ("script", "version"),
    [
        ("#!/bin/sh\necho slurm-wlm 22.05.8\n", "22.05.8"),
        ("#!/bin/sh\necho slurm 24.11.5\n", "24.11.5"),
        ("#!/bin/sh\n", None),
        ("#!/bin/sh\necho slurm 24.11.5\nexit 1\n", None),
        (None, None),
    ],
)
def test_the_version_of_its_slurm_is_what_its_commands_say_or_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, version: str | None
) -> None:
    if script:
        (tmp_path / "scontrol").write_text(script)
        (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert facts.slurm_version() == version
