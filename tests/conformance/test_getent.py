"""What a machine tells of its Unix accounts, asked on it and over a real sshd."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from dataclasses import replace

import pytest
from accounts import account, once_unlocked
from loginnode import LoginNode

from nias_bridge.errors import Unreachable
from nias_bridge.slurm.answers import Output
from nias_bridge.slurm.getent import Getent
from nias_bridge.slurm.local import LocalRunner
from nias_bridge.slurm.ssh import Connection, SshRunner


@pytest.fixture
def there(login_node: LoginNode) -> Iterator[Getent]:
    connection = Connection(login_node.login, timeout=20)
    yield Getent(SshRunner(connection, timeout=20))
    connection.close()


def test_both_tell_the_same_but_for_whose_question_it_is(
    there: Getent, login_node: LoginNode
) -> None:
    here = Getent(LocalRunner())
    for name in ("root", "daemon", "nobody", login_node.user):
        asked_here, asked_there = here.find(name), there.find(name)
        assert asked_here and asked_there
        assert asked_here.uid == pwd.getpwnam(name).pw_uid == there.uid(name)
        assert asked_there.own == (name == login_node.user)
        assert asked_here.own == (asked_here.uid == os.geteuid())
        bare = [replace(each, own=False, shadow=()) for each in (asked_here, asked_there)]
        assert bare[0] == bare[1]
    assert there.find("nobody-has-this-name") is None is here.find("nobody-has-this-name")


def test_the_numbers_of_many_are_told_at_once_and_none_of_who_is_not_there(there: Getent) -> None:
    for accounts in (there, Getent(LocalRunner())):
        known = {each.pw_name: each.pw_uid for each in pwd.getpwall()}
        asked = [*known, "nobody-has-this-name", *(f"none{n}" for n in range(300))]
        assert accounts.uids(asked) == known
        assert accounts.uids(["nobody-has-this-name"]) == {}
        with pytest.raises(Unreachable):
            Getent(lambda _argv: Output(3, "", "no database")).uids(["root"])


def test_the_groups_are_all_that_it_is_in_by_their_names(there: Getent, nias: str) -> None:
    with account("grouped", "--groups", "disk,audio") as name:
        found = there.find(name)
        assert found and found.groups == {name, "disk", "audio"}
        assert found.shadow == ()  # root alone is told
        told = Getent(LocalRunner()).find(name)
        assert told and told.shadow[:2] == (name, "*")
        once_unlocked(["usermod", "--gid", "0", name])
        told = there.find(name)
        assert told and "root" in told.groups


def test_a_login_node_that_can_not_be_reached_tells_nothing(login_node: LoginNode) -> None:
    gone = replace(login_node.login, key=login_node.folder / "stranger")
    with pytest.raises(Unreachable, match="does not let"):
        Getent(SshRunner(Connection(gone, timeout=20), timeout=20)).find("root")
