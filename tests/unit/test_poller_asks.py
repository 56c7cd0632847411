"""How often the poller asks Slurm, and what it tells of Slurm's answers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest
import staged
from sqlalchemy import insert, select

from nias_bridge.domain import Contents, NewRun, Resources, Run
from nias_bridge.poller import ACCOUNTING_SILENT, Rounds
from nias_bridge.services import desk
from nias_bridge.services.bridge import Bridge
from nias_bridge.slurm.answers import Output
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.slurm.fake import FakeScheduler
from nias_bridge.store.engine import make_engine
from nias_bridge.store.tables import runs

OPEN = 1000


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    return staged.make_bridge(tmp_path)


def waiting(bridge: Bridge, number: int) -> None:
    """A run that Slurm has, without a zip."""
    new = NewRun(
        owner="lab",
        project=f"study-{number}",
        slug=f"study-{number}",
        token=f"t{number}",
        resources=Resources(),
        contents=Contents(sha256="", size=1, unpacked_size=1, files=1, requirements=()),
        created_at=datetime.now(UTC),
    )
    run = bridge.store.add_run(new, again=False, place=lambda _: None)
    staged.move(bridge, run, *staged.SUBMITTED)


def waiting_too(url: str, run: Run, others: range) -> None:
    """Further rows like the one of this run."""
    engine = make_engine(url)
    with engine.begin() as connection:
        row = connection.execute(select(runs).where(runs.c.id == run.id)).mappings().one()
        own = ("id", "number", "job_id")
        further = [
            {**row, **{name: row[name] + each for name in own}, "token": f"t0-{each}"}
            for each in others
        ]
        connection.execute(insert(runs), further)
    engine.dispose()


def test_a_thousand_open_runs_cost_one_squeue_and_one_sacct_a_tick(bridge: Bridge) -> None:
    waiting(bridge, 0)
    (run,) = bridge.store.open_runs()
    waiting_too(bridge.settings.database_url, run, range(1, OPEN))
    started: Counter[str] = Counter()

    def run(argv: Sequence[str]) -> Output:
        started[PurePosixPath(argv[0]).name] += 1
        return Output(status=0, stdout="", stderr="")

    Rounds(bridge, CliScheduler(run)).follow_jobs()
    assert started == {"squeue": 1, "sacct": 1}
    asked = [run.job_id for run in bridge.store.open_runs()]
    assert len(asked) == OPEN, "none of them was forgotten"


def test_what_the_poller_does_is_told_with_the_cluster(bridge: Bridge) -> None:
    waiting(bridge, 1)
    slurm = FakeScheduler()
    rounds = Rounds(bridge, slurm)
    rounds.follow_jobs()
    rounds.view_cluster()
    told = bridge.store.cluster()
    assert (told.polling.looks, told.polling.unanswered, told.accounting) == (1, 0, "")
    assert told.polling.seconds > 0
    slurm.unreachable(queue=True, accounting=True)
    rounds.follow_jobs()
    rounds.view_cluster()
    told = bridge.store.cluster()
    assert (told.polling.looks, told.polling.unanswered) == (2, 3)
    assert told.accounting == ACCOUNTING_SILENT
    assert told.problem
    slurm.unreachable()
    rounds.follow_jobs()
    rounds.view_cluster()
    assert desk.health(bridge).slurm == desk.health(bridge).accounting == ""


def test_an_idle_poller_hears_of_the_accounting_all_the_same(bridge: Bridge) -> None:
    slurm = FakeScheduler()
    slurm.unreachable(accounting=True)
    rounds = Rounds(bridge, slurm)
    deadline = time.monotonic() + 10
    while not bridge.store.cluster().accounting and time.monotonic() < deadline:
        rounds.ask_accounting()
        rounds.view_cluster()
    assert desk.health(bridge).accounting == ACCOUNTING_SILENT
    assert slurm.calls["accounting"] == 1, "not asked again before its time"
    assert slurm.calls["queue"] >= 1


def test_a_busy_poller_asks_the_accounting_nothing_more(bridge: Bridge) -> None:
    waiting(bridge, 1)
    slurm = FakeScheduler()
    rounds = Rounds(bridge, slurm)
    rounds.follow_jobs()
    rounds.ask_accounting()
    assert slurm.calls["accounting"] == 1
