"""Claims about which Unix accounts may be linked to a person, on accounts that are really made."""

from __future__ import annotations

import os
import pwd
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import staged
from click.testing import CliRunner

from nias_bridge import cli
from nias_bridge.errors import BadRequest
from nias_bridge.identity import run_as
from nias_bridge.services import unixaccounts


@pytest.fixture
def account() -> Iterator[Callable[..., str]]:
    """Makes Unix accounts with these options of useradd, and removes them."""
    if os.geteuid() != 0:
        pytest.skip("only root can make accounts")
    made = []

    def make(*options: str) -> str:
        name = f"nias-t{uuid.uuid4().hex[:8]}"
        subprocess.run(["useradd", "--no-create-home", *options, name], check=True)
        made.append(name)
        return name

    yield make
    for name in made:
        subprocess.run(["userdel", name], check=True, stderr=subprocess.DEVNULL)


SHELL = ("--shell", "/bin/sh")


def refusal(name: str) -> str:
    with pytest.raises(BadRequest) as refused:
        unixaccounts.check(name)
    assert refused.value.field == "unix_account"
    return str(refused.value)


def test_a_persons_account_is_taken_with_a_password_or_with_keys_alone(
    account: Callable[..., str],
) -> None:
    unixaccounts.check(account(*SHELL, "--password", "$6$salt$hash"))
    unixaccounts.check(account(*SHELL, "--password", "*"))
    unixaccounts.check(account(*SHELL))


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
    subprocess.run(["usermod", "--lock", locked], check=True)
    assert "locked" in refusal(locked)
    assert "expired" in refusal(account(*SHELL, "--expiredate", "2020-01-01"))


def test_the_bridges_own_account_is_refused(
    account: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = account(*SHELL)
    uid = pwd.getpwnam(own).pw_uid
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert "bridge's own" in refusal(own)


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
