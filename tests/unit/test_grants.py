"""Who may read which datasets where jobs are people's own accounts: ACLs as the kernel has them."""

from __future__ import annotations

import errno
import os
import pwd
import re
import stat
import subprocess
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import staged
from client import zipped
from promised import missing

from nias_bridge.domain import JobState, Run
from nias_bridge.errors import BadRequest, StorageUnreachable, Unreachable
from nias_bridge.node import acls, catalogue, layout
from nias_bridge.node import datasets as published
from nias_bridge.people import Role, Standing
from nias_bridge.poller import Rounds
from nias_bridge.reach import Mounted
from nias_bridge.services import (
    administration,
    advance,
    datasets,
    deliveries,
    grants,
    intake,
    provision,
)
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.grants import Doors
from nias_bridge.services.sight import Desk
from nias_bridge.slurm.fake import FakeScheduler
from nias_bridge.slurm.getent import Getent
from nias_bridge.slurm.local import LocalRunner
from nias_bridge.storage import Storage

FILES = {"a.csv": "1,2\n", "sub/b.bin": b"\0\1\2"}
# Accounts that every machine has, and which stand here for people's own.
ACCOUNTS = {"lab": "daemon", "bob": "bin", "eve": "games"}


@pytest.fixture
def unix(tmp_path: Path) -> Bridge:
    return a_bridge(tmp_path, identity="unix")


def a_bridge(folder: Path, **settings: Any) -> Bridge:
    """A bridge whose people are linked to accounts, as its caller “lab”."""
    if why := acls.why_none(str(folder)):
        missing(f"no ACLs at {folder}: {why}")
    bridge = staged.make_bridge(folder, **settings)
    for handle, account in ACCOUNTS.items():
        person = staged.as_person(bridge, handle).person
        bridge.store.people.change(person.id, unix_account=account)
    staged.here(bridge).catalogues.mkdir()
    return staged.as_person(bridge, "lab")


def content(bridge: Bridge, found: Any) -> Path:
    return Path(staged.here(bridge).dataset_contents / found.versions[0].sha256)


def let_in(path: Path) -> set[str]:
    """Whom the ACL of a door lets in, as getfacl tells it; the rest of it is as it must be."""
    told = subprocess.run(
        ["getfacl", "--access", "--omit-header", "--absolute-names", path],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    names = {line.split(":")[1] for line in told if line.startswith("user:")} - {""}
    expected = {"user::r-x", "group::---", "other::---", *(f"user:{n}:r-x" for n in names)}
    assert set(told) == expected | ({"mask::r-x"} if names else set())
    return names


def people(*handles: str) -> set[str]:
    return {ACCOUNTS[handle] for handle in handles}


def submitted(bridge: Bridge, word: str) -> Run:
    part = staged.arrived(
        bridge, zipped("study", {"code.py": "", "nias.toml": f'[job]\ndatasets = ["{word}"]\n'})
    )
    return intake.receive(bridge, part, "study.zip", again=True)


def taken_on(
    bridge: Bridge, run: Run, slurm: FakeScheduler, steps: int = 2, doors: Doors | None = None
) -> Run:
    """The run after so many of its steps."""
    desk = Desk(bridge, slurm, lambda: datetime.now(UTC), None, {}, doors or Doors())
    for _ in range(steps):
        run = advance.advance(desk, run)
    return run


# An ACL itself


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    folder = os.open(tmp_path, os.O_RDONLY)
    yield folder
    os.close(folder)


def test_an_acl_is_just_what_setfacl_makes_of_it(tmp_path: Path, opened: int) -> None:
    other = tmp_path / "other"
    other.mkdir()
    entries = ",".join(f"u:{name}:r-x" for name in ACCOUNTS.values())
    subprocess.run(["setfacl", "--set", f"u::r-x,g::-,o::-,m::r-x,{entries}", other], check=True)
    uids = [pwd.getpwnam(name).pw_uid for name in reversed(ACCOUNTS.values())]
    acls.let_read(opened, uids, 5)
    ours, theirs = (os.getxattr(path, "system.posix_acl_access") for path in (tmp_path, other))
    assert ours == theirs
    assert acls.named(opened) == dict.fromkeys(uids, 5)


@pytest.mark.parametrize("before", ["u:games:rwx", "g:games:rwx", "o::rwx", "d:u:games:rwx"])
def test_whatever_was_there_before_the_named_alone_come_in(
    tmp_path: Path, opened: int, before: str
) -> None:
    subprocess.run(["setfacl", "-m", before, tmp_path], check=True)
    acls.let_read(opened, [pwd.getpwnam("daemon").pw_uid], 5)
    told = subprocess.run(["getfacl", "-acp", tmp_path], capture_output=True, text=True, check=True)
    assert told.stdout.split() == [
        "user::r-x", "user:daemon:r-x", "group::---", "mask::r-x", "other::---",
    ]  # fmt: skip
    acls.let_read(opened, [], 5)
    assert let_in(tmp_path) == set()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o500


# Who is let in


def test_at_first_it_is_closed_and_then_open_to_its_owner(unix: Bridge) -> None:
    found = staged.dataset(unix, "eeg", FILES)
    assert let_in(content(unix, found)) == set()
    grants.put_right(unix, Doors())
    assert let_in(content(unix, found)) == people("lab")


def test_sharing_lets_in_and_what_is_taken_away_keeps_out(unix: Bridge) -> None:
    found = staged.dataset(unix, "eeg", FILES)
    datasets.share(unix, found.id, ["bob", "eve"], [])
    doors = Doors()
    grants.put_right(unix, doors)
    assert let_in(content(unix, found)) == people("lab", "bob", "eve")
    datasets.share(unix, found.id, ["eve"], [])
    grants.put_right(unix, doors)
    assert let_in(content(unix, found)) == people("lab", "eve")


def test_of_a_group_those_who_are_in_it(unix: Bridge) -> None:
    found = staged.dataset(unix, "eeg", FILES)
    chief = staged.as_person(unix, "chief", Role.ADMINISTRATOR)
    group = administration.save_group(chief, "EEG", shares=False, members=["lab", "bob"])
    datasets.share(unix, found.id, [], ["EEG"])
    doors = Doors()
    grants.put_right(unix, doors)
    assert let_in(content(unix, found)) == people("lab", "bob")
    unix.store.people.set_members(group.id, ["lab", "eve"])
    grants.put_right(unix, doors)
    assert let_in(content(unix, found)) == people("lab", "eve")
    administration.drop_group(chief, group.id)
    grants.put_right(unix, doors)
    assert let_in(content(unix, found)) == people("lab")


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ({"standing": Standing.DISABLED}, set()),
        ({"unix_account": None}, set()),
        ({"unix_account": "man"}, {"man"}),
        ({"unix_account": "no-such-account"}, set()),
    ],
)
def test_who_is_blocked_or_linked_to_another_account(
    unix: Bridge, change: dict[str, Any], after: set[str]
) -> None:
    found = staged.dataset(unix, "eeg", FILES)
    datasets.share(unix, found.id, ["bob"], [])
    doors = Doors()
    grants.put_right(unix, doors)
    bob = unix.store.people.find(handle="bob")
    assert bob
    unix.store.people.change(bob.id, **change)
    grants.put_right(unix, doors)
    assert let_in(content(unix, found)) == people("lab") | after


def test_one_content_of_two_people_lets_in_both_and_the_one_who_keeps_it(unix: Bridge) -> None:
    bob = staged.as_person(unix, "bob")
    mine, his = staged.dataset(unix, "eeg", FILES), staged.dataset(bob, "own", FILES)
    assert content(unix, mine) == content(unix, his)
    doors = Doors()
    grants.put_right(unix, doors)
    assert let_in(content(unix, his)) == people("lab", "bob")
    datasets.delete(unix, mine.id)
    grants.put_right(unix, doors)
    assert let_in(content(unix, his)) == people("bob")


def test_an_open_run_keeps_what_it_sees_and_no_longer_than_it_is_open(unix: Bridge) -> None:
    found = staged.dataset(unix, "eeg", FILES)
    datasets.share(unix, found.id, ["bob"], [])
    bob = staged.as_person(unix, "bob")
    run = submitted(bob, "eeg")
    datasets.share(unix, found.id, [], [])
    doors = Doors()
    grants.put_right(unix, doors)
    assert let_in(content(unix, found)) == people("lab", "bob")
    staged.move(bob, run, JobState.CANCELLED)
    grants.put_right(unix, doors)
    assert let_in(content(unix, found)) == people("lab")


def test_a_job_whose_owner_was_linked_anew_meanwhile_keeps_what_it_sees(unix: Bridge) -> None:
    found = staged.dataset(unix, "eeg", FILES)
    run = staged.move(unix, submitted(unix, "eeg"), *staged.STARTED, user="daemon")
    assert run.report and run.report.user == "daemon"
    unix.store.people.change(unix.person.id, unix_account="man")
    grants.put_right(unix, Doors())
    assert let_in(content(unix, found)) == {"daemon", "man"}


def test_what_is_behind_the_door_may_be_read_by_all_who_came_in_and_written_by_none(
    unix: Bridge,
) -> None:
    found = staged.dataset(unix, "eeg", FILES)
    grants.put_right(unix, Doors())
    inside = list(content(unix, found).rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in inside} == {0o555, 0o444}


# When


class Watching(FakeScheduler):
    """Slurm in memory, which looks whom a door lets in as a job is submitted."""

    door: Path
    seen: set[str]

    def submit(self, *args: Any, **how: Any) -> int:
        self.seen = let_in(self.door)
        return super().submit(*args, **how)


def test_no_job_is_submitted_before_its_account_is_let_in(unix: Bridge) -> None:
    found, slurm = staged.dataset(unix, "eeg", FILES), Watching()
    slurm.door = content(unix, found)
    assert let_in(slurm.door) == set()
    assert taken_on(unix, submitted(unix, "eeg"), slurm).state is JobState.PENDING
    assert slurm.seen == people("lab")


def test_content_from_when_all_jobs_were_the_bridges_own_is_put_right_before_the_job(
    unix: Bridge,
) -> None:
    found, slurm = staged.dataset(unix, "eeg", FILES), Watching()
    door = slurm.door = content(unix, found)
    for path in (*door.rglob("*"), door):
        path.chmod(0o550 if path.is_dir() else 0o440)
    assert taken_on(unix, submitted(unix, "eeg"), slurm).state is JobState.PENDING
    assert slurm.seen == people("lab")
    assert {stat.S_IMODE(p.stat().st_mode) for p in door.rglob("*")} == {0o555, 0o444}


def test_putting_right_that_was_killed_is_gone_on_with(
    unix: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = content(unix, staged.dataset(unix, "eeg", FILES))
    for path in door.rglob("*"):
        path.chmod(0o550 if path.is_dir() else 0o440)

    chmod = os.chmod

    def killed(path: Any, mode: int, **how: Any) -> None:
        if Path(path).name == "sub":
            raise KeyboardInterrupt
        chmod(path, mode, **how)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "chmod", killed)
        grants.put_right(unix, Doors())
    assert let_in(door) == set()
    grants.put_right(unix, Doors())
    assert {stat.S_IMODE(p.stat().st_mode) for p in door.rglob("*")} == {0o555, 0o444}


def test_what_is_being_unpacked_nobody_else_can_come_to(
    unix: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    write = published.archive.write

    def watched(path: Path, content: Any) -> None:
        (work,) = staged.here(unix).dataset_contents.glob(".arriving-*")
        seen.add(stat.S_IMODE(work.stat().st_mode))
        write(path, content)

    before = os.umask(0)
    try:
        monkeypatch.setattr(published.archive, "write", watched)
        staged.dataset(unix, "eeg", FILES)
    finally:
        os.umask(before)
    assert seen == {0o700}


def test_what_is_being_removed_lets_nobody_in_any_more(
    unix: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = staged.dataset(unix, "eeg", FILES)
    grants.put_right(unix, Doors())
    datasets.delete(unix, found.id)
    monkeypatch.setattr(published.shutil, "rmtree", lambda _folder: None)  # it is killed here
    deliveries.deliver(unix)
    (left,) = staged.here(unix).dataset_contents.iterdir()
    told = subprocess.run(["getfacl", "-p", left], capture_output=True, text=True, check=True)
    assert "mask::---" in told.stdout


class Counting(Mounted):
    """Storage that counts what is asked of it, and does something beside the first time."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.beside: Any = None

    def call(self, operation: str, **arguments: Any) -> Any:
        told = super().call(operation, **arguments)
        self.calls.append(operation)
        if operation == "open_datasets" and self.beside:
            beside, self.beside = self.beside, None
            beside()
        return told


def test_what_has_not_changed_costs_the_storage_nothing_and_a_change_one_call(
    unix: Bridge,
) -> None:
    way = Counting()
    unix = replace(unix, storage=Storage(way))
    for number in range(20):
        found = staged.dataset(unix, f"eeg{number}", {"a": str(number)})
    doors = Doors()
    grants.put_right(unix, doors)
    way.calls.clear()
    for _ in range(10):
        grants.put_right(unix, doors)
    assert way.calls == []
    datasets.share(unix, found.id, ["bob"], [])
    grants.put_right(unix, doors)
    assert way.calls == ["open_datasets", "tell_datasets"]


def test_what_changes_while_it_is_set_is_set_too(unix: Bridge) -> None:
    way = Counting()
    unix = replace(unix, storage=Storage(way))
    found = staged.dataset(unix, "eeg", FILES)
    datasets.share(unix, found.id, ["bob"], [])
    way.beside = lambda: datasets.share(unix, found.id, [], [])
    grants.put_right(unix, Doors())
    assert let_in(content(unix, found)) == people("lab")


def test_who_was_let_in_for_a_run_is_out_again_though_nobody_looked_while_she_was_in(
    unix: Bridge,
) -> None:
    found, bob = staged.dataset(unix, "eeg", FILES), staged.as_person(unix, "bob")
    doors = Doors()
    grants.put_right(unix, doors)
    datasets.share(unix, found.id, ["bob"], [])
    run = taken_on(bob, submitted(bob, "eeg"), FakeScheduler(), doors=doors)
    assert let_in(content(unix, found)) == people("lab", "bob")
    staged.move(bob, run, JobState.CANCELLED)
    datasets.share(unix, found.id, [], [])
    grants.put_right(unix, doors)
    assert let_in(content(unix, found)) == people("lab")


def test_what_others_changed_is_set_again_within_a_minute(
    unix: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = staged.dataset(unix, "eeg", FILES)
    doors = Doors()
    grants.put_right(unix, doors)
    subprocess.run(["setfacl", "-m", "u:games:rwx", content(unix, found)], check=True)
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + grants.ALL_SECONDS + 1)
    grants.put_right(unix, doors)
    assert let_in(content(unix, found)) == people("lab")


# What can't be


def refusing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "setxattr", refuse)


def test_a_storage_without_acls_is_told_once_however_often_it_is_looked_at(
    unix: Bridge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    doors, real = Doors(), time.monotonic
    refusing(monkeypatch, errno.EOPNOTSUPP)
    for minute in range(3):
        later = minute * (grants.ALL_SECONDS + 1)
        monkeypatch.setattr(time, "monotonic", lambda later=later: real() + later)
        grants.put_right(unix, doors)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "see no datasets" in caplog.text


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.EOPNOTSUPP, "keeps no POSIX ACLs, .* the administrator can mount it with ACLs"),
        (errno.ENOSPC, "no room for .* so many accounts: it can be shared with fewer"),
        (errno.E2BIG, "no room for .* so many accounts: it can be shared with fewer"),
        (errno.EIO, "can't be opened to daemon: Input/output error"),
    ],
)
def test_a_run_that_can_not_be_let_in_is_not_submitted_and_told_why(
    unix: Bridge, monkeypatch: pytest.MonkeyPatch, number: int, sentence: str
) -> None:
    staged.dataset(unix, "eeg", FILES)
    run, slurm = submitted(unix, "eeg"), FakeScheduler()
    refusing(monkeypatch, number)
    run = taken_on(unix, run, slurm)
    assert run.state is JobState.REJECTED
    assert re.search(sentence, run.note), run.note
    assert slurm.jobs == []


class Unknown(Getent):
    """Accounts of a login node that is away."""

    def uids(self, _names: Collection[str]) -> dict[str, int]:
        raise Unreachable("login.lab can't be reached by SSH.")


def test_where_the_accounts_can_not_be_told_the_run_waits_and_all_stays_as_it_is(
    unix: Bridge,
) -> None:
    found, slurm = staged.dataset(unix, "eeg", FILES), FakeScheduler()
    doors = Doors()
    grants.put_right(unix, doors)
    away = replace(unix, accounts=Unknown(LocalRunner()))
    run = taken_on(away, submitted(unix, "eeg"), slurm, steps=1)
    with pytest.raises(StorageUnreachable, match=r"login\.lab"):
        taken_on(away, run, slurm, steps=1)
    assert (unix.store.run(run.id).state, slurm.jobs) == (JobState.STAGED, [])
    datasets.share(unix, found.id, ["bob"], [])
    with pytest.raises(Unreachable):
        grants.put_right(away, doors)
    assert let_in(content(unix, found)) == people("lab")


# What jobs by plain sbatch find


def catalogue_of(bridge: Bridge, account: str) -> Path:
    return Path(staged.here(bridge).catalogues / layout.CATALOGUE.format(account))


def test_each_account_has_a_catalogue_that_it_alone_can_read(unix: Bridge) -> None:
    found = staged.dataset(unix, "eeg", FILES)
    datasets.share(unix, found.id, ["bob"], [])
    doors = Doors()
    grants.put_right(unix, doors)
    listed = [catalogue.Listed("lab", "eeg", (found.versions[0].sha256,))]
    for handle, expected in (("lab", listed), ("bob", listed), ("eve", [])):
        file = catalogue_of(unix, ACCOUNTS[handle])
        assert catalogue.read(file.read_text()) == (handle, expected)
        with file.open("rb") as opened:
            uid = pwd.getpwnam(ACCOUNTS[handle]).pw_uid
            assert acls.named(opened.fileno()) == {uid: 4}
            assert stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o007 == 0
    bob = unix.store.people.find(handle="bob")
    assert bob
    unix.store.people.change(bob.id, unix_account=None)
    grants.put_right(unix, doors)
    there = sorted(path.name for path in catalogue_of(unix, "x").parent.iterdir())
    assert there == sorted(f"{ACCOUNTS[handle]}.json" for handle in ("lab", "eve"))


def test_a_catalogue_that_says_the_same_is_not_written_again(unix: Bridge) -> None:
    grants.put_right(unix, Doors())
    before = catalogue_of(unix, "daemon").stat().st_ino
    grants.put_right(unix, Doors())
    assert catalogue_of(unix, "daemon").stat().st_ino == before


def test_words_mean_to_a_node_what_they_mean_to_the_gateway(unix: Bridge) -> None:
    """The catalogue has all that the rule asks for."""
    bob = staged.as_person(unix, "bob")
    staged.dataset(unix, "eeg", {"a": "old"})
    datasets.share(unix, staged.dataset(unix, "EEG", {"a": "new"}).id, ["bob"], [])
    datasets.share(bob, staged.dataset(bob, "emg", {"b": "1"}).id, ["lab"], [])
    staged.dataset(bob, "eeg", {"c": "1"})
    deliveries.put(bob, staged.arrived(bob, zipped("x", {"a": "1"})), "x.zip", "coming")
    grants.put_right(unix, Doors())
    for who in (unix, bob):
        me, listed = catalogue.read(catalogue_of(unix, ACCOUNTS[who.person.handle]).read_text())

        def named(name: str, listed: Any = listed) -> list[catalogue.Listed]:
            return [each for each in listed if each.name.casefold() == name.casefold()]

        for words in (["eeg"], ["lab/eeg"], ["bob/emg"], ["emg", "eeg"], ["eeg", "lab/eeg"],
                      ["coming"], ["none"], ["eeg@0000"], ["lab/EEG@ffff"]):  # fmt: skip
            try:
                here = [(m.owner, m.name, m.sha256) for m in datasets.resolve(who, words)]
            except BadRequest as refused:
                with pytest.raises(catalogue.NotMeant, match=re.escape(str(refused))):
                    catalogue.resolve(words, me, named)
            else:
                assert [tuple(each) for each in catalogue.resolve(words, me, named)] == here


# Sites where the bridge's own account runs what is uploaded


def modes(bridge: Bridge) -> dict[str, int]:
    place = Path(staged.here(bridge).dataset_contents.parent)
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (place, *place.iterdir())}


def test_there_too_jobs_by_plain_sbatch_are_let_in(tmp_path: Path) -> None:
    bridge = a_bridge(tmp_path)
    provision.install(bridge)
    found = staged.dataset(bridge, "eeg", FILES)
    folders = {"datasets": 0o711, "content": 0o711, "of": 0o711}
    assert modes(bridge) == {**folders, "content.lock": 0o600}
    grants.put_right(bridge, Doors())
    assert let_in(content(bridge, found)) == people("lab")


def test_without_acls_all_is_closed_and_uploads_see_datasets_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, errno.EOPNOTSUPP)
    bridge, slurm = staged.make_bridge(tmp_path), FakeScheduler()
    provision.install(bridge)
    closed = modes(bridge)
    assert closed.keys() == {"datasets", "content"} and closed["datasets"] & 0o007 == 0
    staged.dataset(bridge, "eeg", FILES)
    doors = Doors()
    grants.put_right(bridge, doors)
    set_ = doors.granted
    assert set_ and set_.without == os.strerror(errno.EOPNOTSUPP)
    grants.put_right(bridge, doors)
    assert doors.granted is set_
    assert taken_on(bridge, submitted(bridge, "eeg"), slurm).state is JobState.PENDING


def test_where_no_job_is_anybodys_own_nothing_is_opened(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path, login_nodes=False)
    provision.install(bridge)
    assert modes(bridge)["datasets"] & 0o007 == 0
    rounds = Rounds(bridge, FakeScheduler())
    assert rounds.grant not in rounds._due
