"""Claims about which Unix accounts may be linked to a person, on accounts that are really made."""

from __future__ import annotations

import os
import pwd
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import staged
from accounts import do, once_unlocked
from click.testing import CliRunner

from nias_bridge import cli
from nias_bridge.errors import BadRequest, Unreachable
from nias_bridge.identity import run_as
from nias_bridge.ports import Accounts
from nias_bridge.services import unixaccounts
from nias_bridge.slurm.answers import Output
from nias_bridge.slurm.getent import Getent
from nias_bridge.slurm.local import LocalRunner


@pytest.fixture
def account() -> Iterator[Callable[..., str]]:
    """Makes Unix accounts with these options of useradd, and removes them."""
    if os.geteuid() != 0:
        pytest.skip("only root can make accounts")
    made = []

    def make(*options: str) -> str:
        name = f"nias-t{uuid.uuid4().hex[:8]}"
        once_unlocked(["useradd", "--no-create-home", *options, name])
        made.append(name)
        return name

    yield make
    for name in made:
        once_unlocked(["userdel", name])


SHELL = ("--shell", "/bin/sh")
HERE = Getent(LocalRunner())


def check(name: str, accounts: Accounts = HERE) -> None:
    unixaccounts.check(accounts, name)


def refusal(name: str, accounts: Accounts = HERE) -> str:
    with pytest.raises(BadRequest) as refused:
        check(name, accounts)
    assert refused.value.field == "unix_account"
    return str(refused.value)


def test_a_persons_account_is_taken_with_a_password_or_with_keys_alone(
    account: Callable[..., str],
) -> None:
    check(account(*SHELL, "--password", "$6$salt$hash"))
    check(account(*SHELL, "--password", "*"))
    check(account(*SHELL))


@pytest.mark.parametrize("name", ["root", "daemon", "www-data", "nobody"])
def test_no_account_of_the_system_is_taken(name: str) -> None:
    assert name in refusal(name)


@pytest.mark.parametrize("name", ["", "-u", "--help", "Root", "a b", "a:b", "../x", "0", "x" * 33])
def test_what_is_no_name_of_an_account_is_refused_before_anybody_is_asked(name: str) -> None:
    assert "a-z" in refusal(name)


def test_an_account_that_is_not_there_is_refused() -> None:
    assert "no Unix account" in refusal("nobody-has-this-name")


def test_another_name_of_an_account_of_the_system_is_refused(account: Callable[..., str]) -> None:
    assert "system" in refusal(account(*SHELL, "--non-unique", "--uid", "1", "--gid", "1"))


@pytest.mark.parametrize("group", ["sudo", "adm", "disk", "shadow", "root"])
@pytest.mark.parametrize("option", ["--groups", "--gid"])
def test_a_privileged_group_is_refused_as_first_or_further(
    account: Callable[..., str], group: str, option: str
) -> None:
    assert f"group {group}" in refusal(account(*SHELL, option, group))


@pytest.mark.parametrize("shell", ["/usr/sbin/nologin", "/bin/false"])
def test_an_account_that_nobody_signs_in_by_is_refused(
    account: Callable[..., str], shell: str
) -> None:
    assert shell in refusal(account("--shell", shell))


def test_a_locked_or_expired_account_is_refused(account: Callable[..., str]) -> None:
    locked = account(*SHELL, "--password", "$6$salt$hash")
    once_unlocked(["usermod", "--lock", locked])
    assert "locked" in refusal(locked)
    assert "expired" in refusal(account(*SHELL, "--expiredate", "2020-01-01"))


def test_the_bridges_own_account_is_refused(account: Callable[..., str]) -> None:
    own = account(*SHELL)

    def as_it(argv: Sequence[str]) -> Output:
        done = do(own, argv)
        return Output(done.returncode, done.stdout, done.stderr)

    assert "bridge's own" in refusal(own, Getent(as_it))
    check(account(*SHELL, "--password", "!locked"), Getent(as_it))  # which root alone can tell


def test_an_account_that_can_not_be_asked_about_is_neither_taken_nor_refused() -> None:
    with pytest.raises(Unreachable, match="told nothing of that account: the connection was lost"):
        check("alice", Getent(lambda _: Output(-9, "", "\nthe connection was lost")))


def test_a_number_is_asked_for_once_a_minute_and_never_that_of_another_name(
    account: Callable[..., str],
) -> None:
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> Output:
        asked.append(argv)
        return LocalRunner()(argv)

    name = account(*SHELL)
    uid, accounts = pwd.getpwnam(name).pw_uid, Getent(run)
    assert [accounts.uid(name), accounts.uid(name)] == [uid, uid]
    assert len([argv for argv in asked if argv[:2] == ["getent", "passwd"]]) == 1
    assert accounts.uid(str(uid)) is None  # getent takes a number for a name too


def test_one_is_linked_when_its_person_is_made_and_nobody_is_made_where_it_may_not_be(
    account: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = staged.make_bridge(tmp_path)
    monkeypatch.setattr(cli, "read_settings", lambda: bridge.settings)
    monkeypatch.setattr(cli, "open_bridge", lambda _: bridge)
    name, run = account(*SHELL), CliRunner()
    add = ("user", "add", "eva@lab.org", "--unix-account")
    assert "account of the system" in run.invoke(cli.main, [*add, "daemon"]).output
    assert bridge.store.people.find(email="eva@lab.org") is None
    assert run.invoke(cli.main, [*add, name]).exit_code == 0
    person = bridge.store.people.find(email="eva@lab.org")
    assert person and person.unix_account == name


def test_who_links_and_who_submits_know_the_same_privileged_groups() -> None:
    # Written twice, because the program that root runs imports nothing of the package.
    assert unixaccounts.PRIVILEGED == run_as.PRIVILEGED


def test_storage_without_acls_is_named_as_what_is_in_the_way() -> None:
    without = os.open("/proc/version", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="NFS has them in version 3 alone"):
            run_as.put_acl(without, "system.posix_acl_access", run_as.acl(7, os.getuid(), 7))
    finally:
        os.close(without)
