"""Whatever is killed, the end of a run is told: the poller's side, between any two steps of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import staged
from postbox import postbox

from nias_bridge.domain import JobState
from nias_bridge.people import MailWish
from nias_bridge.services import outbox

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "point",
    [f"{when} {step}" for step in ("move", "begin", "send") for when in ("before", "after")],
)
def test_the_end_of_a_run_is_told_wherever_the_poller_is_killed(point: str, tmp_path: Path) -> None:
    with postbox() as box:
        told = {"smtp_url": f"smtp://127.0.0.1:{box.port}", "mail_from": "nias@lab.org"}
        bridge = staged.make_bridge(tmp_path, **told)
        bridge.store.people.change(bridge.person.id, mail=MailWish.ALL)
        run = staged.running(bridge)
        script = Path(__file__).with_name("dying_teller.py")
        settings = bridge.settings.model_dump(mode="json")
        died = subprocess.run(
            [sys.executable, script, point, json.dumps(settings)],
            env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))},
            timeout=60,
            capture_output=True,
            check=False,
        )
        assert died.returncode == -9, died.stderr.decode()

        run = bridge.store.run(run.id)
        assert run.state.ended == (point != "before move")
        if not run.state.ended:  # the next poller takes the step that this one did not
            bridge.store.move(run, JobState.COMPLETED, at=datetime.now(UTC))
        later = datetime.now(UTC) + timedelta(hours=1)
        outbox.deliver(bridge, lambda: later)
        outbox.deliver(bridge, lambda: later)

        numbers = [message["Message-ID"] for _, message in box.came]
        # Killed between the server's yes and the commit, it is sent again: as the same message.
        assert len(numbers) == (2 if point == "after send" else 1)
        assert len(set(numbers)) == 1
        assert bridge.store.outbox.due(now=later, most=9) == []
