"""The installer, and a job that is stopped while it is started."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nias_bridge.node import installer
from nias_bridge.node.stopping import TOLD_TO_STOP, Stopped

SIGNAL = signal.SIGUSR2


@pytest.fixture
def stopped_by_a_signal() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise Stopped(TOLD_TO_STOP)

    before = signal.signal(SIGNAL, stop)
    yield
    signal.signal(SIGNAL, before)


@pytest.mark.usefixtures("stopped_by_a_signal")
def test_a_stop_that_comes_while_it_is_started_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    class Starting(subprocess.Popen[bytes]):
        def __init__(self, *words: Any, **how: Any) -> None:
            super().__init__(*words, **how)
            started.append(self.pid)
            # To this thread: another of the tests' threads may hear what the process is sent.
            signal.raise_signal(SIGNAL)

    monkeypatch.setattr(subprocess, "Popen", Starting)
    job: Any = SimpleNamespace(made=tmp_path / "made", source=False)
    with pytest.raises(Stopped):
        installer._run(["sleep", "60"], job, {})
    assert len(started) == 1
    assert not Path(f"/proc/{started[0]}").exists()


def test_it_hears_signals_as_others_do(tmp_path: Path) -> None:
    job: Any = SimpleNamespace(made=tmp_path / "made", source=False)
    deaf = "grep -q '^SigBlk:[[:space:]]*0*$' /proc/self/status"
    installer._run(["sh", "-c", deaf], job, {})
