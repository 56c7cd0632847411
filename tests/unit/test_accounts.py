"""How people come in: registration, passwords, links, sessions and tokens, as use cases."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import staged

from nias_bridge.errors import BadRequest, NotAllowed, NotFound, NotSignedIn, TooManyTries
from nias_bridge.people import (
    NOBODY,
    Caller,
    KeyKind,
    NewKey,
    Person,
    Role,
    Scope,
    Standing,
    Vouched,
    handle_of,
)
from nias_bridge.services import accounts, desk, keys, sharing, vouching
from nias_bridge.services.bridge import Bridge
from nias_bridge.store.people import SqlPeople

GOOD = "violet tram across seven"
LONG = "kq7 " + "a long way round the river and back again" * 3
EMAIL = "maria.silva@lab.org"


@pytest.fixture
def door(tmp_path: Path) -> Bridge:
    """The bridge as somebody meets it who has not signed in."""
    return replace(staged.make_bridge(tmp_path), who=Caller(address="192.0.2.7"))


def with_settings(bridge: Bridge, **settings: object) -> Bridge:
    return replace(bridge, settings=bridge.settings.model_copy(update=settings))


def a_person(bridge: Bridge, email: str = EMAIL) -> None:
    opened = with_settings(bridge, registration="open")
    accounts.register(opened, email, "Maria Silva", GOOD)


def test_who_registers_waits_for_an_administrator(door: Bridge) -> None:
    person = accounts.register(door, EMAIL, "Maria  Silva", GOOD)
    assert person is not None
    assert (person.standing, person.role) == (Standing.WAITING, Role.RESEARCHER)
    assert (person.name, person.handle) == ("Maria Silva", "maria-silva")
    with pytest.raises(NotAllowed, match="waits for an administrator"):
        accounts.sign_in(door, EMAIL, GOOD)
    door.store.people.change(person.id, standing=Standing.ACTIVE)
    assert accounts.sign_in(door, "Maria.Silva@LAB.org", GOOD).id == person.id


@pytest.mark.parametrize(
    ("registration", "email", "standing"),
    [
        ("open", EMAIL, Standing.ACTIVE),
        ("domain", EMAIL, Standing.WAITING),
        ("domain", "x@elsewhere.org", None),
        ("domain", "x@lab.org.evil.org", None),
        ("invitation", EMAIL, None),
        ("closed", EMAIL, None),
    ],
)
def test_a_site_says_who_may_register(
    door: Bridge, registration: str, email: str, standing: Standing | None
) -> None:
    site = with_settings(door, registration=registration, registration_domains=("LAB.org",))
    if standing is None:
        with pytest.raises(NotAllowed):
            accounts.register(site, email, "Maria", GOOD)
        assert site.store.people.find(email=email) is None
    else:
        person = accounts.register(site, email, "Maria", GOOD)
        assert person is not None
        assert person.standing is standing


def test_an_invitation_is_good_for_one_account(door: Bridge) -> None:
    site = with_settings(door, registration="closed")
    secret = keys.give_link(site, KeyKind.INVITATION, None)
    person = accounts.register(site, EMAIL, "Maria", GOOD, invitation=secret)
    assert person is not None
    assert person.standing is Standing.ACTIVE
    with pytest.raises(NotFound, match="used already"):
        accounts.register(site, "other@lab.org", "Other", GOOD, invitation=secret)


def test_an_address_that_has_an_account_is_not_told_and_its_account_stays(door: Bridge) -> None:
    a_person(door)
    assert accounts.register(door, EMAIL.upper(), "Mallory", "another tram goes nowhere") is None
    assert accounts.sign_in(door, EMAIL, GOOD).name == "Maria Silva"


def a_vouched(subject: str, email: str) -> Vouched:
    return Vouched(
        subject=subject, email=email, verified=True, name="Maria Silva", groups=frozenset()
    )


def twice_at_once(do: Callable[[], Any]) -> list[Any]:
    both = threading.Barrier(2)

    def act(_: int) -> Any:
        both.wait(30)
        return do()

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(act, range(2)))


def test_who_registers_twice_at_once_is_told_what_she_is_told_when_she_does_so_later(
    door: Bridge,
) -> None:
    anywhere = replace(door, who=Caller())  # not ten from one address of the network
    for number in range(10):
        email = f"{number}@lab.org"
        told = twice_at_once(lambda: accounts.register(anywhere, email, "Maria", GOOD))  # noqa: B023
        assert [person.email for person in told if person] == [email]


def test_who_comes_from_the_university_by_two_windows_at_once_comes_in_by_both(
    door: Bridge,
) -> None:
    site = with_settings(door, registration="open")
    for number in range(20):
        vouched = a_vouched(f"uni|{number}", f"{number}@uni.org")
        first, second = twice_at_once(lambda: vouching.sign_in(site, vouched))  # noqa: B023
        assert first.id == second.id


def test_the_other_window_may_have_come_in_between_two_looks_for_her(door: Bridge) -> None:
    site = with_settings(door, registration="open")
    vouched, came = a_vouched("uni|maria", EMAIL), []

    class Slow(SqlPeople):
        """The other one comes in just after this one has found nobody of her subject."""

        def find(self, **about: str) -> Person | None:
            found = super().find(**about)
            if "subject" in about and not came:
                came.append(None)
                came[:] = [vouching.sign_in(site, vouched)]
            return found

    door.store.people = Slow(door.store.people._engine)
    assert [vouching.sign_in(site, vouched)] == came


def test_who_is_disabled_while_she_comes_from_the_university_stays_out(door: Bridge) -> None:
    a_person(door)

    class Slow(SqlPeople):
        """An administrator is quicker than who has just been found."""

        def find(self, **about: str) -> Person | None:
            found = super().find(**about)
            if found:
                self.change(found.id, standing=Standing.DISABLED)
            return found

    door.store.people = Slow(door.store.people._engine)
    with pytest.raises(NotAllowed, match="closed"):
        vouching.sign_in(door, a_vouched("uni|maria", EMAIL))
    assert [person.standing for person in door.store.people.all()] == [
        Standing.ACTIVE,
        Standing.DISABLED,
    ]


@pytest.mark.parametrize(
    "weak", ["short", "password12", "qwertyuiop", "mariasilva", "1234567890", "aaaaaaaaaaaaaaaa"]
)
def test_a_password_that_is_quickly_guessed_is_refused(door: Bridge, weak: str) -> None:
    with pytest.raises(BadRequest, match="words that have nothing to do with each other"):
        accounts.register(door, EMAIL, "Maria Silva", weak)


@pytest.mark.parametrize(
    "good",
    [
        "ação única na réplica",
        LONG,
        "Tr0ub4dor&3-glue",
    ],
)
def test_no_kinds_of_characters_are_demanded(door: Bridge, good: str) -> None:
    accounts.check_password(good, EMAIL, "Maria Silva")


@pytest.mark.parametrize(
    "email",
    ["", "maria", "maria@", "@lab.org", "a b@lab.org", "maria@lab", "m@lab.org\nBcc: x@y.z"],
)
def test_what_is_no_address_is_refused(door: Bridge, email: str) -> None:
    with pytest.raises(BadRequest, match="not an e-mail address"):
        accounts.register(door, email, "Maria", GOOD)


def test_the_password_is_kept_as_argon2id_and_told_to_nobody(door: Bridge) -> None:
    a_person(door)
    person = door.store.people.find(email=EMAIL)
    assert person is not None
    assert (door.store.people.password(person.id) or "").startswith("$argon2id$")
    assert "argon2" not in repr(person)


def test_a_password_is_compared_whole_and_not_its_beginning(door: Bridge) -> None:
    longest = "violet tram across seven; ".ljust(accounts.PASSWORD_MAX, "x")
    accounts.register(door, EMAIL, "Maria", longest)
    person = door.store.people.find(email=EMAIL)
    assert person is not None
    door.store.people.change(person.id, standing=Standing.ACTIVE)
    for wrong in (longest + "x", longest[:-1], longest.upper()):
        with pytest.raises(NotSignedIn):
            accounts.sign_in(door, EMAIL, wrong)
    assert accounts.sign_in(door, EMAIL, longest)


def test_unknown_and_wrong_are_answered_alike_and_after_the_same_time(door: Bridge) -> None:
    a_person(door)
    took: dict[str, list[float]] = {"nobody@lab.org": [], EMAIL: []}
    told = set()
    for _ in range(9):
        for email, seconds in took.items():
            began = time.perf_counter()
            with pytest.raises(NotSignedIn) as caught:
                accounts.sign_in(door, email, "quite another password")
            seconds.append(time.perf_counter() - began)
            told.add(str(caught.value))
    # What each takes at least: a busy machine adds to any of them, and takes away from none.
    unknown, wrong = (min(seconds) for seconds in took.values())
    assert len(told) == 1
    assert 0.5 < unknown / wrong < 2


def test_ten_wrong_passwords_close_an_account_for_a_while_even_to_the_right_one(
    door: Bridge,
) -> None:
    a_person(door)
    for _ in range(10):
        with pytest.raises(NotSignedIn):
            accounts.sign_in(door, EMAIL, "wrong password")
    with pytest.raises(TooManyTries, match="Wait 15 min"):
        accounts.sign_in(door, EMAIL, GOOD)


def test_fifty_wrong_passwords_from_one_address_are_enough_whosever_accounts(door: Bridge) -> None:
    for n in range(50):
        with pytest.raises(NotSignedIn):
            accounts.sign_in(door, f"guess{n}@lab.org", "wrong password")
    a_person(replace(door, who=Caller(address="192.0.2.8")))
    with pytest.raises(TooManyTries):
        accounts.sign_in(door, EMAIL, GOOD)
    elsewhere = replace(door, who=Caller(address="192.0.2.8"))
    assert accounts.sign_in(elsewhere, EMAIL, GOOD)


def test_a_session_is_known_by_its_secret_until_it_ends(door: Bridge) -> None:
    a_person(door)
    person = accounts.sign_in(door, EMAIL, GOOD)
    secret = keys.open_session(door, person, agent="Firefox", remember=False)
    caller = keys.known(door, KeyKind.SESSION, secret, "192.0.2.7")
    assert caller is not None
    assert caller.person == person
    assert keys.known(door, KeyKind.TOKEN, secret, "") is None
    assert keys.known(door, KeyKind.SESSION, secret[:-1], "") is None
    keys.close_session(door, secret)
    assert keys.known(door, KeyKind.SESSION, secret, "") is None


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that keys are known by: so many `hours` from now."""
    begin = datetime.now(UTC)

    class Later(datetime):
        hours = 0.0

        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return begin + timedelta(hours=cls.hours)

    monkeypatch.setattr(keys, "datetime", Later)
    return Later


def test_a_session_lasts_as_long_as_it_is_used(door: Bridge, later: Any) -> None:
    a_person(door)
    person = accounts.sign_in(door, EMAIL, GOOD)
    secret = keys.open_session(door, person, agent="", remember=False)
    for later.hours in (11, 22, 33):
        assert keys.known(door, KeyKind.SESSION, secret, "") is not None
    later.hours = 46
    assert keys.known(door, KeyKind.SESSION, secret, "") is None


def test_however_often_a_session_is_used_it_ends_after_the_days_that_the_site_allows(
    door: Bridge, later: Any
) -> None:
    a_person(door)
    door = replace(door, settings=door.settings.model_copy(update={"session_days_max": 2}))
    person = accounts.sign_in(door, EMAIL, GOOD)
    secret = keys.open_session(door, person, agent="", remember=False)
    remembered = keys.open_session(door, person, agent="", remember=True)
    begin = datetime.now(UTC)
    for later.hours in (11, 22, 33, 44, 47.9):
        assert keys.known(door, KeyKind.SESSION, secret, "") is not None
        ends = {key.expires_at for key in door.store.keys.of(KeyKind.SESSION)}
        assert max(ends) <= begin + timedelta(hours=48)
    later.hours = 48.01
    assert keys.known(door, KeyKind.SESSION, secret, "") is None
    assert keys.known(door, KeyKind.SESSION, remembered, "") is None


def test_a_site_that_shortens_its_days_ends_the_sessions_that_are_older(door: Bridge) -> None:
    a_person(door)
    person = accounts.sign_in(door, EMAIL, GOOD)
    old = datetime.now(UTC) - timedelta(days=3)
    new = NewKey(
        kind=KeyKind.SESSION,
        hash=keys.hashed("s"),
        person_id=person.id,
        created_at=old,
        expires_at=old + timedelta(days=30),
    )
    door.store.keys.add(new)
    assert keys.known(door, KeyKind.SESSION, "s", "") is not None
    door = replace(door, settings=door.settings.model_copy(update={"session_days_max": 2}))
    assert keys.known(door, KeyKind.SESSION, "s", "") is None


def test_who_is_disabled_is_known_no_longer_by_any_key(door: Bridge) -> None:
    a_person(door)
    person = accounts.sign_in(door, EMAIL, GOOD)
    session = keys.open_session(door, person, agent="", remember=True)
    _, token = keys.token_for(door, person, "laptop", Scope.SUBMIT, 5)
    door.store.people.change(person.id, standing=Standing.DISABLED)
    assert keys.known(door, KeyKind.SESSION, session, "") is None
    assert keys.known(door, KeyKind.TOKEN, token, "") is None
    with pytest.raises(NotAllowed, match="closed by an administrator"):
        accounts.sign_in(door, EMAIL, GOOD)


def test_a_new_password_ends_every_other_session_and_open_link(door: Bridge) -> None:
    a_person(door)
    person = accounts.sign_in(door, EMAIL, GOOD)
    here = keys.open_session(door, person, agent="", remember=False)
    there = keys.open_session(door, person, agent="", remember=True)
    link = keys.give_link(door, KeyKind.PASSWORD, person)
    me = keys.known(door, KeyKind.SESSION, here, "")
    assert me is not None
    mine = replace(door, who=me)
    with pytest.raises(BadRequest, match="present password is wrong"):
        accounts.change_password(mine, "not it at all", "seven trams in a row", session=None)
    session = int(me.via.partition(" ")[2])
    accounts.change_password(mine, GOOD, "seven trams in a row", session=session)
    assert keys.known(door, KeyKind.SESSION, here, "") is not None
    assert keys.known(door, KeyKind.SESSION, there, "") is None
    with pytest.raises(NotFound):
        accounts.set_password_by_link(door, link, GOOD)
    assert accounts.sign_in(door, EMAIL, "seven trams in a row")


def test_a_link_is_good_once_and_a_weak_password_does_not_use_it_up(door: Bridge) -> None:
    person = accounts.add_person(door, EMAIL, "", role=Role.RESEARCHER, standing=Standing.ACTIVE)
    assert person.name == "maria.silva"
    link = keys.give_link(door, KeyKind.PASSWORD, person)
    with pytest.raises(BadRequest):
        accounts.set_password_by_link(door, link, "weak")
    accounts.set_password_by_link(door, link, GOOD)
    with pytest.raises(NotFound):
        accounts.set_password_by_link(door, link, GOOD)
    sign_in = keys.give_link(door, KeyKind.SIGN_IN, person)
    assert accounts.sign_in_by_link(door, sign_in) == person
    with pytest.raises(NotFound):
        accounts.sign_in_by_link(door, sign_in)


def test_an_account_without_a_password_lets_nobody_in_by_one(door: Bridge) -> None:
    accounts.add_person(door, EMAIL, "", role=Role.RESEARCHER, standing=Standing.ACTIVE)
    for guess in ("", "None", "nobody's password"):
        with pytest.raises(NotSignedIn):
            accounts.sign_in(door, EMAIL, guess)


def test_the_first_administrator_takes_over_the_runs_from_before_there_were_accounts(
    tmp_path: Path,
) -> None:
    bridge = staged.make_bridge(tmp_path)
    run = staged.add(bridge, "old")
    with bridge.store._engine.begin() as connection:  # as the database was then
        connection.exec_driver_sql("UPDATE projects SET owner = 'nias'")
    ada = accounts.add_person(
        bridge, "ada@lab.org", "Ada", role=Role.ADMINISTRATOR, standing=Standing.ACTIVE
    )
    assert ada.handle == "nias"
    assert desk.find(replace(bridge, who=Caller(person=ada)), run.id).owner == "nias"
    second = accounts.add_person(
        bridge, "eva@lab.org", "Eva", role=Role.ADMINISTRATOR, standing=Standing.ACTIVE
    )
    assert second.handle == "eva"


@pytest.mark.parametrize(
    ("email", "handle"),
    [
        ("Maria.Silva+hpc@lab.org", "maria-silva-hpc"),
        ("josé@lab.org", "jose"),
        ("李雷@lab.org", "researcher"),
        ("../../etc@lab.org", "etc"),
        (f"{'x' * 64}@lab.org", "x" * 28),
    ],
)
def test_a_handle_is_safe_in_a_path(email: str, handle: str) -> None:
    assert handle_of(email) == handle


def test_two_people_never_share_a_handle(door: Bridge) -> None:
    handles = [
        accounts.add_person(
            door, f"ana@{domain}.org", "", role=Role.RESEARCHER, standing=Standing.ACTIVE
        ).handle
        for domain in ("a", "b", "c")
    ]
    assert handles == ["ana", "ana-2", "ana-3"]


def test_a_token_is_named_scoped_expires_and_can_be_taken_back(door: Bridge) -> None:
    me = staged.as_person(door, "ana")
    key, secret = keys.give_token(me, "laptop", Scope.READ, 5)
    assert secret.startswith("nias_")
    caller = keys.known(door, KeyKind.TOKEN, secret, "")
    assert caller is not None
    assert (caller.scope, caller.via) == (Scope.READ, f"token {key.id} “laptop”")
    assert [k.name for k in keys.mine(me, KeyKind.TOKEN)] == ["laptop"]
    other = staged.as_person(door, "bento")
    with pytest.raises(NotFound):
        keys.revoke(other, key.id)
    keys.revoke(me, key.id)
    assert keys.known(door, KeyKind.TOKEN, secret, "") is None


@pytest.mark.parametrize(
    ("name", "scope", "days"),
    [("", Scope.READ, 5), ("x", Scope.READ, 0), ("x", Scope.READ, 1000), ("x", Scope.ADMIN, 5)],
)
def test_a_token_that_makes_no_sense_is_refused(
    door: Bridge, name: str, scope: Scope, days: int
) -> None:
    with pytest.raises(BadRequest):
        keys.give_token(staged.as_person(door, "ana"), name, scope, days)


def test_members_of_a_sharing_group_see_each_other_and_change_nothing(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path)
    run = staged.add(bridge, "study")
    people = bridge.store.people
    staged.as_person(bridge, "bento")
    group = people.save_group("EMG", shares=True)
    people.set_members(group.id, ["lab", "bento"])
    bento = staged.as_person(bridge, "bento")
    assert desk.find(bento, run.id) == run
    for change in (desk.cancel, desk.again, lambda b, r: desk.pin(b, r, True)):
        with pytest.raises(NotAllowed):
            change(bento, run.id)
    people.save_group("EMG", shares=False, group_id=group.id)
    with pytest.raises(NotFound):
        desk.find(staged.as_person(bridge, "bento"), run.id)


def test_a_shared_run_is_shown_until_its_link_is_taken_back(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path)
    run, other = staged.add(bridge, "study"), staged.add(bridge, "secret")
    secret = sharing.share(bridge, run.id, 7)
    visitor = replace(bridge, who=NOBODY)
    assert sharing.run_of(visitor, secret) == run.id
    shown = replace(bridge, who=Caller(links=sharing.shown_by(visitor, [secret, "junk", 7])))
    assert desk.find(shown, run.id) == run
    with pytest.raises(NotFound):
        desk.find(shown, other.id)
    with pytest.raises(NotAllowed):
        desk.cancel(shown, run.id)
    (link,) = sharing.links(bridge, run.id)
    sharing.take_back(bridge, run.id, link.id)
    assert sharing.shown_by(visitor, [secret]) == frozenset()


def test_an_administrator_sees_all_and_runs_nothing_in_anothers_name(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path)
    run = staged.add(bridge, "study")
    ada = staged.as_person(bridge, "ada", Role.ADMINISTRATOR)
    assert desk.cancel(ada, run.id).cancel_asked_at is not None
    with pytest.raises(NotAllowed, match="Only the owner"):
        desk.again(ada, run.id)
    reading = replace(ada, who=replace(ada.who, scope=Scope.SUBMIT))
    with pytest.raises(NotFound):
        desk.find(reading, run.id)


def test_what_was_done_is_in_the_audit_log_with_the_key_and_the_address(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path)
    who = replace(bridge.who, via="token 3 “laptop”", address="192.0.2.7")
    run = staged.add(replace(bridge, who=who), "study")
    ((_, deed), *_) = bridge.store.deeds.newest(run_id=run.id)
    assert (deed.action, deed.handle, deed.detail) == ("run submitted", "lab", "study 1")
    assert (deed.via, deed.address) == ("token 3 “laptop”", "192.0.2.7")
