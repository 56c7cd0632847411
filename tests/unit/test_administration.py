"""Claims about what an administrator can do, and what stays impossible."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import staged

from nias_bridge.errors import BadRequest, NotAllowed, NotFound, NotPossible
from nias_bridge.people import KeyKind, NewPerson, Person, Quotas, Role, Scope, Standing
from nias_bridge.services import accounts, administration, desk, keys, unixaccounts
from nias_bridge.services.bridge import Bridge


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    return staged.make_bridge(tmp_path)


@pytest.fixture
def chief(bridge: Bridge) -> Bridge:
    return staged.as_person(bridge, "chief", Role.ADMINISTRATOR)


@pytest.fixture
def newcomer(chief: Bridge) -> Person:
    new = NewPerson(handle="nina", email="nina@lab.org", name="Nina")
    return chief.store.people.add(new, at=chief.person.created_at)


def key_of(bridge: Bridge, person: Person, kind: KeyKind) -> str:
    _, secret = keys.give(bridge, kind, timedelta(days=1), person_id=person.id)
    return secret


def last_deed(bridge: Bridge) -> tuple[str, str, str]:
    _, deed = bridge.store.deeds.newest()[0]
    return deed.handle, deed.action, deed.detail


def test_who_waits_is_on_top_and_counted(chief: Bridge, newcomer: Person) -> None:
    assert administration.people(chief)[0] == newcomer
    assert administration.waiting(chief) == 1
    administration.approve(chief, newcomer.id)
    assert administration.waiting(chief) == 0


def test_an_approved_person_comes_in_and_is_approved_once(chief: Bridge, newcomer: Person) -> None:
    chief.store.people.set_password(newcomer.id, accounts._hasher.hash("four words of mine"))
    with pytest.raises(NotAllowed):
        accounts.sign_in(chief, newcomer.email, "four words of mine")
    administration.approve(chief, newcomer.id)
    assert last_deed(chief) == ("chief", "person approved", "nina")
    accounts.sign_in(chief, newcomer.email, "four words of mine")
    with pytest.raises(NotPossible):
        administration.approve(chief, newcomer.id)


def test_a_disabled_persons_keys_are_void_for_good(chief: Bridge, bridge: Bridge) -> None:
    person, run = bridge.person, staged.completed(bridge)
    secrets = {
        kind: key_of(chief, person, kind)
        for kind in (KeyKind.SESSION, KeyKind.TOKEN, KeyKind.SIGN_IN, KeyKind.PASSWORD)
    }
    administration.disable(chief, person.id)
    assert last_deed(chief) == ("chief", "person disabled", "lab")
    with pytest.raises(NotPossible):
        administration.approve(chief, person.id)
    administration.enable(chief, person.id)
    for kind, secret in secrets.items():
        assert keys.known(chief, kind, secret, "") is None, kind
        with pytest.raises(NotFound):
            keys.check_link(chief, kind, secret)
    assert desk.find(staged.as_person(bridge, "lab"), run.id).id == run.id, "the runs stay"
    with pytest.raises(NotPossible):
        administration.enable(chief, person.id)


def test_the_last_administrator_stays_one(chief: Bridge, bridge: Bridge) -> None:
    with pytest.raises(NotPossible, match="only administrator"):
        administration.set_role(chief, chief.person.id, Role.RESEARCHER)
    with pytest.raises(NotPossible, match="only administrator"):
        chief.store.people.change(chief.person.id, standing=Standing.DISABLED)
    with pytest.raises(NotPossible, match="your own account"):
        administration.disable(chief, chief.person.id)
    second = administration.set_role(chief, bridge.person.id, Role.ADMINISTRATOR)
    administration.disable(chief, second.id)
    with pytest.raises(NotPossible, match="only administrator"):
        administration.set_role(chief, chief.person.id, Role.RESEARCHER)
    administration.enable(chief, second.id)
    administration.set_role(chief, chief.person.id, Role.RESEARCHER)
    assert not chief.store.people.person(chief.person.id).administers


def test_a_change_of_role_ends_sessions_and_keeps_tokens(chief: Bridge, bridge: Bridge) -> None:
    session = key_of(chief, bridge.person, KeyKind.SESSION)
    token = key_of(chief, bridge.person, KeyKind.TOKEN)
    administration.set_role(chief, bridge.person.id, Role.RESEARCHER)
    assert keys.known(chief, KeyKind.SESSION, session, ""), "nothing was changed"
    administration.set_role(chief, bridge.person.id, Role.ADMINISTRATOR)
    assert last_deed(chief) == ("chief", "role changed", "lab is administrator")
    assert keys.known(chief, KeyKind.SESSION, session, "") is None
    assert keys.known(chief, KeyKind.TOKEN, token, "")


def test_limits_are_kept_noted_and_never_below_nothing(chief: Bridge, bridge: Bridge) -> None:
    own = Quotas(stored_bytes=5, cpu_hours=1.5)
    assert administration.set_quotas(chief, bridge.person.id, own).quotas == own
    assert last_deed(chief) == ("chief", "limits set", "lab: stored_bytes 5, cpu_hours 1.5")
    with pytest.raises(BadRequest) as refused:
        administration.set_quotas(chief, bridge.person.id, Quotas(open_runs=-1))
    assert refused.value.field == "open_runs"


def test_a_unix_account_is_linked_to_one_person_after_the_rule_has_passed_it(
    chief: Bridge, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadRequest, match="system"):
        administration.link_unix_account(chief, bridge.person.id, "root")
    monkeypatch.setattr(unixaccounts, "check", lambda accounts, name: None)
    linked = administration.link_unix_account(chief, bridge.person.id, " ana ")
    assert linked.unix_account == "ana"
    assert last_deed(chief) == ("chief", "Unix account linked", "lab: ana")
    with pytest.raises(BadRequest, match="somebody else"):
        administration.link_unix_account(chief, chief.person.id, "ana")
    assert administration.link_unix_account(chief, bridge.person.id, "").unix_account is None
    assert last_deed(chief) == ("chief", "Unix account unlinked", "lab")


def test_links_are_given_to_open_accounts_and_are_good_once(
    chief: Bridge, bridge: Bridge, newcomer: Person
) -> None:
    with pytest.raises(NotPossible):
        administration.give_link(chief, newcomer.id, KeyKind.SIGN_IN)
    secret = administration.give_link(chief, bridge.person.id, KeyKind.SIGN_IN)
    assert accounts.sign_in_by_link(chief, secret) == bridge.person
    with pytest.raises(NotFound):
        accounts.sign_in_by_link(chief, secret)
    secret = administration.give_link(chief, bridge.person.id, KeyKind.PASSWORD)
    accounts.set_password_by_link(chief, secret, "rhubarb lantern gravel")
    assert accounts.sign_in(chief, bridge.person.email, "rhubarb lantern gravel") == bridge.person


def test_who_is_invited_comes_in_at_once(chief: Bridge) -> None:
    secret = administration.invite(chief)
    person = accounts.register(
        chief, "ivo@lab.org", "Ivo", "rhubarb lantern gravel", invitation=secret
    )
    assert person and person.standing is Standing.ACTIVE


def test_members_of_a_group_see_each_others_runs_only_where_it_shares(
    chief: Bridge, bridge: Bridge
) -> None:
    berta = staged.as_person(bridge, "berta")
    run = staged.completed(bridge)
    group = administration.save_group(chief, " EEG  lab ", shares=False, members=["lab", "berta"])
    assert (group.name, group.members) == ("EEG lab", ("berta", "lab"))
    with pytest.raises(NotFound):
        desk.find(staged.as_person(berta, "berta"), run.id)
    administration.save_group(
        chief, "EEG lab", shares=True, members=["lab", "berta"], group_id=group.id
    )
    assert desk.find(staged.as_person(berta, "berta"), run.id).id == run.id
    with pytest.raises(NotAllowed):
        desk.cancel(staged.as_person(berta, "berta"), run.id)
    administration.drop_group(chief, group.id)
    with pytest.raises(NotFound):
        desk.find(staged.as_person(berta, "berta"), run.id)


@pytest.mark.parametrize(
    ("name", "members", "field"),
    [
        ("", (), "name"),
        ("x" * 101, (), "name"),
        ("a\u202eb", (), "name"),
        ("a", ("no",), "members"),
    ],
)
def test_a_group_that_can_not_be_is_refused(
    chief: Bridge, name: str, members: tuple[str, ...], field: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        administration.save_group(chief, name, shares=True, members=members)
    assert refused.value.field == field
    assert chief.store.people.groups() == []


def test_two_groups_do_not_have_one_name(chief: Bridge) -> None:
    administration.save_group(chief, "EEG", shares=True, members=[])
    with pytest.raises(BadRequest, match="of this name"):
        administration.save_group(chief, "eeg", shares=True, members=[])


def test_storage_tells_who_has_how_much_the_largest_first(chief: Bridge, bridge: Bridge) -> None:
    staged.completed(bridge)
    big = staged.as_person(bridge, "berta")
    for name in ("a", "b", "c"):
        staged.completed(big, name)
    told = administration.storage(chief)
    assert [holder.handle for holder in told.holders] == ["berta", "lab"]
    assert told.runs == sum(holder.used.stored_bytes for holder in told.holders)
    assert 0 < told.free < told.total


def test_the_audit_log_is_paged_without_gap_or_repeat_while_it_grows(
    chief: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(administration, "LOG_PAGE", 3)
    for number in range(8):
        chief.note("counted", detail=str(number))
    seen, before = [], None
    while True:
        page = administration.audit_log(chief, action="counted", before=before)
        seen += [deed.detail for _, deed in page.deeds]
        chief.note("counted", detail="newer")
        if page.older is None:
            break
        before = page.older
    assert seen == [str(number) for number in range(7, -1, -1)]


def test_the_audit_log_is_narrowed_by_person_run_and_action(chief: Bridge, bridge: Bridge) -> None:
    run = staged.completed(bridge)
    desk.pin(bridge, run.id, True)
    desk.pin(chief, run.id, False)

    def actions(**asked: object) -> list[str]:
        page = administration.audit_log(chief, **asked)  # type: ignore[arg-type]
        return [deed.action for _, deed in page.deeds]

    assert actions(run_id=run.id) == ["run unpinned", "run pinned", "run submitted"]
    assert actions(handle="chief") == ["run unpinned"]
    assert actions(action="run pinned") == ["run pinned"]
    assert "run pinned" in chief.store.deeds.actions()


def test_pruning_is_noted_and_keeps_what_it_may(chief: Bridge) -> None:
    staged.here(chief).environments.mkdir(parents=True)
    assert administration.prune_environments(chief, 0) == []
    assert last_deed(chief)[1] == "environments pruned"
    with pytest.raises(BadRequest):
        administration.prune_environments(chief, -1)


@pytest.mark.parametrize(
    "act",
    [
        administration.approve,
        administration.disable,
        administration.enable,
        lambda bridge, person_id: administration.set_role(bridge, person_id, Role.RESEARCHER),
        lambda bridge, person_id: administration.set_quotas(bridge, person_id, Quotas()),
        lambda bridge, person_id: administration.give_link(bridge, person_id, KeyKind.SIGN_IN),
        lambda bridge, person_id: administration.link_unix_account(bridge, person_id, ""),
        administration.drop_group,
    ],
)
def test_what_is_not_there_is_not_found(chief: Bridge, act: Callable[..., object]) -> None:
    with pytest.raises(NotFound):
        act(chief, 999)


def test_a_token_of_an_administrator_reaches_as_far_as_its_scope(chief: Bridge) -> None:
    for scope, reaches in ((Scope.READ, False), (Scope.SUBMIT, False), (Scope.ADMIN, True)):
        header = staged.token(chief, scope)["Authorization"].removeprefix("Bearer ")
        caller = keys.known(chief, KeyKind.TOKEN, header, "")
        assert caller and caller.administers is reaches
