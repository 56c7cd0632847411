"""Jobs by plain sbatch that are nobody's: what an administrator sees of them and does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import staged

from nias_bridge.errors import BadRequest, NotFound, Unreachable
from nias_bridge.node import layout
from nias_bridge.people import Role, UnixAccount
from nias_bridge.services import administration, adopt, unclaimed
from nias_bridge.services.bridge import Bridge
from nias_bridge.slurm.fake import FakeScheduler

NOW = datetime(2024, 3, 4, 9, tzinfo=UTC)


class Known:
    """A cluster on which everybody has an account, the number of whoever runs the tests."""

    def __init__(self, uid: int) -> None:
        self._uid = uid

    def find(self, name: str) -> UnixAccount | None:
        return UnixAccount(name=name, uid=5000, shell="/bin/sh", groups=frozenset({name}))

    def uid(self, name: str) -> int | None:
        if name == "lost":
            raise Unreachable("nobody answers")
        return self._uid


@pytest.fixture
def chief(tmp_path: Path) -> Bridge:
    bridge = staged.as_person(staged.make_bridge(tmp_path), "chief", Role.ADMINISTRATOR)
    return replace(bridge, accounts=Known(tmp_path.stat().st_uid))


def lab(chief: Bridge) -> int:
    return staged.as_person(chief, "lab").person.id


def test_they_are_told_by_account_the_newest_first(chief: Bridge) -> None:
    old = staged.unclaimed(chief, "ana", "psd-study", job_id=7, at=NOW)
    new = staged.unclaimed(
        chief, "ana", "eeg", job_id=8, at=NOW + timedelta(hours=1), tasks=(0, 1, 2)
    )
    other = staged.unclaimed(chief, "bo", "emg", job_id=9, at=NOW)
    assert list(unclaimed.by_account(chief).items()) == [("ana", [new, old]), ("bo", [other])]


def test_the_size_is_seen_to_once_a_minute_where_the_zip_is_there_and_its_account_known(
    chief: Bridge,
) -> None:
    ids = {"ana": 7, "bo": 8, "lost": 9}
    for account, job_id in ids.items():
        staged.unclaimed(chief, account, "psd-study", job_id=job_id, at=NOW)
    for account in ("ana", "lost"):
        folder = staged.here(chief).sbatch / account / str(ids[account])
        folder.mkdir(parents=True)
        (folder / layout.ARCHIVE).write_bytes(b"x" * 1234)
    adopt.search(chief, FakeScheduler(), NOW)
    sizes = {job.native.user: job.size for job in unclaimed.jobs(chief)}
    assert sizes == {"ana": 1234, "bo": None, "lost": None}


def test_linked_they_are_that_persons_runs_at_the_pollers_next_look(chief: Bridge) -> None:
    staged.unclaimed(chief, "ana", "psd-study", job_id=7, at=NOW)
    linked = unclaimed.link(chief, "ana", lab(chief))
    assert (linked.handle, linked.unix_account) == ("lab", "ana")
    assert unclaimed.jobs(chief) == []
    adopt.look(chief, FakeScheduler(), [], (), datetime.now(UTC))
    (run,) = chief.store.adopted([7])
    assert (run.owner, run.project) == ("lab", "psd-study")
    ((_, deed),) = administration.audit_log(chief, action="Unix account linked").deeds
    assert (deed.handle, deed.detail) == ("chief", "lab: ana")


def test_only_what_waits_is_linked_and_only_to_who_has_none_and_may_come_in(
    chief: Bridge,
) -> None:
    staged.unclaimed(chief, "ana", "psd-study", job_id=7, at=NOW)
    with pytest.raises(NotFound, match="No job of this account"):
        unclaimed.link(chief, "bo", lab(chief))
    with pytest.raises(NotFound):
        unclaimed.link(chief, "ana", 99)
    administration.link_unix_account(chief, lab(chief), "bo")
    with pytest.raises(BadRequest, match="is linked to bo already: see to that first"):
        unclaimed.link(chief, "ana", lab(chief))
    gone = staged.as_person(chief, "gone").person
    administration.disable(chief, gone.id)
    with pytest.raises(BadRequest, match="may not come in"):
        unclaimed.link(chief, "ana", gone.id)
    assert [person.handle for person in unclaimed.candidates(chief)] == ["chief"]
    assert [job.report.job_id for job in unclaimed.jobs(chief)] == [7]


def test_an_account_that_may_not_be_linked_is_not(tmp_path: Path) -> None:
    bridge = staged.as_person(staged.make_bridge(tmp_path), "chief", Role.ADMINISTRATOR)
    staged.unclaimed(bridge, "root", "psd-study", job_id=7, at=NOW)
    with pytest.raises(BadRequest, match="account of the system"):
        unclaimed.link(bridge, "root", lab(bridge))
    assert len(unclaimed.jobs(bridge)) == 1
