"""How often Slurm is asked: at the setting while somebody looks, ever less while nobody does."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import staged

from nias_bridge import poller
from nias_bridge.domain import JobState, Run
from nias_bridge.http import create_app
from nias_bridge.people import KeyKind, Role
from nias_bridge.poller import Rounds
from nias_bridge.services import keys, pace
from nias_bridge.services.bridge import Bridge
from nias_bridge.slurm.fake import FakeScheduler

LEAST, MOST = 1.0, 30.0


@dataclass
class Clock:
    """The poller's time, which passes when a test says so."""

    passed: float = 0.0

    def monotonic(self) -> float:
        return 1_000_000 + self.passed

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.passed)


@dataclass
class Lab:
    bridge: Bridge
    slurm: FakeScheduler
    rounds: Rounds
    clock: Clock

    def looks(self, seconds: float) -> list[float]:
        """When, in the next seconds, Slurm's accounting was asked of the runs."""
        began, looked = self.clock.passed, []
        while self.clock.passed < began + seconds:
            before = self.slurm.calls["accounting"]
            self.rounds.take_new_work()
            self.rounds.follow_when_due()
            if self.slurm.calls["accounting"] > before:
                looked.append(self.clock.passed - began)
            self.clock.passed += LEAST
        return looked

    def submitted(self) -> Run:
        run = staged.add(self.bridge, f"study-{len(self.slurm.jobs)}")
        self.rounds.take_new_work()
        return self.bridge.store.run(run.id)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return a_lab(tmp_path, monkeypatch, login_nodes=False)


def a_lab(folder: Path, patch: pytest.MonkeyPatch, *, login_nodes: bool) -> Lab:
    clock = Clock()
    patch.setattr(poller, "time", clock)
    patch.setattr(poller, "_now", clock.now)
    bridge = staged.make_bridge(folder, login_nodes=login_nodes)
    slurm = FakeScheduler()
    return Lab(bridge, slurm, Rounds(bridge, slurm), clock)


def opened(lab: Lab, bridge: Bridge | None = None, kind: KeyKind = KeyKind.SESSION) -> None:
    """The bridge's caller has just looked at a page, or a program of hers has."""
    bridge = bridge or lab.bridge
    key, _ = keys.give(bridge, kind, timedelta(days=1), person_id=bridge.person.id)
    bridge.store.keys.touch(key.id, at=lab.clock.now())


def test_where_no_run_is_open_slurm_is_not_asked(lab: Lab) -> None:
    opened(lab)
    assert lab.looks(100) == []
    assert not lab.slurm.calls["queue"]


def test_while_nobody_looks_it_is_asked_ever_more_rarely_and_never_less_than_the_setting(
    lab: Lab,
) -> None:
    lab.submitted()
    looked = lab.looks(150)
    pauses = [later - earlier for earlier, later in itertools.pairwise(looked)]
    assert pauses[-3:] == [MOST] * 3
    assert pauses == sorted(pauses)
    assert len(looked) < 12


def test_while_the_owner_looks_it_is_asked_at_the_setting(lab: Lab) -> None:
    lab.submitted()
    opened(lab)
    assert len(lab.looks(60)) == 60


def test_who_comes_to_look_waits_no_longer_than_the_setting(lab: Lab) -> None:
    lab.submitted()
    lab.looks(100)
    opened(lab, kind=KeyKind.TOKEN)
    assert lab.looks(3) == [0, 1, 2]


def test_any_request_counts_as_a_look(lab: Lab) -> None:
    client = staged.program(create_app(lab.bridge), lab.bridge)
    (key,) = lab.bridge.store.keys.of(KeyKind.TOKEN)
    lab.bridge.store.keys.touch(key.id, at=datetime.now(UTC) - timedelta(hours=1))
    lab.submitted()
    lab.looks(20)
    assert not pace.is_watched(lab.bridge, lab.clock.now())
    assert client.get("/api/v1/runs").status_code == 200
    assert pace.is_watched(lab.bridge, lab.clock.now())


def test_who_has_gone_is_forgotten_after_some_minutes(lab: Lab) -> None:
    lab.submitted()
    opened(lab)
    lab.looks(300)
    assert len(lab.looks(120)) <= 5


def in_a_group(bridge: Bridge) -> Bridge:
    eva = staged.as_person(bridge, "eva")
    group = bridge.store.people.save_group("emg", shares=True)
    bridge.store.people.set_members(group.id, ["lab", "eva"])
    return eva


SEEN_BY: dict[str, tuple[Callable[[Bridge], Bridge], bool]] = {
    "somebody else": (lambda bridge: staged.as_person(bridge, "eva"), False),
    "a member of a group that shares": (in_a_group, True),
    "an administrator": (
        lambda bridge: staged.as_person(bridge, "root", Role.ADMINISTRATOR),
        True,
    ),
}


@pytest.mark.parametrize("who", SEEN_BY)
def test_it_counts_who_may_see_the_run(who: str, lab: Lab) -> None:
    make, counts = SEEN_BY[who]
    lab.submitted()
    opened(lab, make(lab.bridge))
    assert (len(lab.looks(60)) == 60) is counts


def test_an_administrators_program_that_reads_figures_keeps_nothing_busy(lab: Lab) -> None:
    lab.submitted()
    root = staged.as_person(lab.bridge, "root", Role.ADMINISTRATOR)
    opened(lab, root, KeyKind.TOKEN)
    assert len(lab.looks(60)) < 10


def test_a_new_upload_and_a_state_that_changed_make_it_quick_again(lab: Lab) -> None:
    run = lab.submitted()
    lab.looks(150)
    lab.submitted()
    assert len(lab.looks(8)) >= 3
    lab.looks(150)
    lab.slurm.start(run.job_id or 0)
    looked = lab.looks(MOST + 8)
    assert lab.bridge.store.run(run.id).state is JobState.RUNNING
    assert len(looked) >= 4


def test_the_end_of_a_run_that_nobody_looks_at_is_told_within_the_longest_interval(
    lab: Lab,
) -> None:
    run = lab.submitted()
    lab.slurm.start(run.job_id or 0)
    lab.looks(200)
    lab.slurm.end(run.job_id or 0, JobState.COMPLETED)
    lab.looks(MOST + LEAST)
    assert lab.bridge.store.run(run.id).state.ended


def test_a_wish_to_cancel_is_followed_at_the_setting(lab: Lab) -> None:
    run = lab.submitted()
    lab.looks(150)
    lab.bridge.store.ask_cancel(run.id, at=lab.clock.now())
    lab.looks(MOST)
    assert lab.bridge.store.run(run.id).state in (JobState.CANCELLED, JobState.COMPLETING)


def test_jobs_by_plain_sbatch_are_looked_for_at_the_setting_while_one_who_may_have_any_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = a_lab(tmp_path, monkeypatch, login_nodes=True)
    opened(lab)

    def asked(seconds: float) -> int:
        before = lab.slurm.calls["queue"]
        lab.looks(seconds)
        return lab.slurm.calls["queue"] - before

    asked(100)
    assert asked(60) == 2
    lab.bridge.store.people.change(lab.bridge.person.id, unix_account="anna")
    opened(lab)
    assert asked(60) == 60


def test_what_jobs_use_is_not_asked_for_nobody(lab: Lab) -> None:
    run = lab.submitted()
    lab.slurm.start(run.job_id or 0)
    lab.looks(3)
    lab.rounds.measure()
    lab.rounds.wait_aside(10)
    asked = lab.slurm.calls["usage"]
    assert asked == 1
    lab.looks(150)
    lab.rounds.measure()
    lab.rounds.wait_aside(10)
    assert lab.slurm.calls["usage"] == asked


def test_the_interval_is_told_with_the_figures(lab: Lab) -> None:
    lab.submitted()
    lab.looks(150)
    lab.rounds.view_cluster()
    root = staged.as_person(lab.bridge, "root", Role.ADMINISTRATOR)
    client = staged.program(create_app(root), root)
    assert f"nias_poll_interval_seconds {MOST}" in client.get("/metrics").get_data(as_text=True)
