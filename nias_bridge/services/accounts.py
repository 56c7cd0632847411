"""People come in: they register, sign in, and set their passwords."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from zxcvbn import zxcvbn

from nias_bridge.errands import ErrandKind
from nias_bridge.errors import BadRequest, NotAllowed, NotFound, NotSignedIn, TooManyTries
from nias_bridge.people import (
    EMAIL_MAX,
    KeyKind,
    MailWish,
    NewPerson,
    Person,
    Role,
    Standing,
    email_address,
    email_key,
    handle_of,
    person_name,
)
from nias_bridge.services import keys
from nias_bridge.services.bridge import Bridge

PASSWORD_MIN, PASSWORD_MAX = 10, 200
WEAK = 2  # zxcvbn's score, 0 to 4: below it a password is guessed within some millions of tries
WINDOW = timedelta(minutes=15)
# Of each action, how often within the window: for one account, from one address.
TRIES = {"sign-in refused": (10, 50), "registered": (3, 10), "password asked": (3, 20)}

WRONG = "The e-mail address or the password is wrong."
NOT_YET = "Your account waits for an administrator's confirmation."

# OWASP's choice for argon2id where a login is to cost a gateway little: 19 MiB, two passes.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def add_person(bridge: Bridge, email: str, name: str, *, role: Role, standing: Standing) -> Person:
    """An account by an administrator's hand.

    The first administrator takes over the projects that nobody has, as a database has them that
    was made when there were no accounts. Raises BadRequest.
    """
    email, name = checked(email, name or email.partition("@")[0])
    first = role is Role.ADMINISTRATOR and not any(
        person.administers for person in bridge.store.people.all()
    )
    orphans = bridge.store.people.orphans() if first else []
    handle = orphans[0] if orphans else handle_of(email)
    person = add(bridge, NewPerson(handle=handle, email=email, name=name, role=role), standing)
    bridge.note("person added", detail=f"{person.handle} <{person.email}>, {person.role}")
    return person


def person_of(bridge: Bridge, email: str) -> Person:
    """Who has this address. Raises NotFound."""
    person = bridge.store.people.find(email=email)
    if person is None:
        raise NotFound(f"Nobody has the address {email}; see `nias-bridge user list`.")
    return person


def name_of(bridge: Bridge, handle: str) -> str:
    """What the owner of runs is called: the handle itself where nobody has it."""
    person = bridge.store.people.find(handle=handle)
    return person.name if person else handle


def register(
    bridge: Bridge, email: str, name: str, password: str, *, invitation: str = ""
) -> Person | None:
    """An account by its owner's hand; None where the address has one already, which is not told.

    Raises BadRequest, NotAllowed where the site takes nobody so, TooManyTries, NotFound for an
    invitation that is used up.
    """
    email, name = checked(email, name)
    check_password(password, email, name)
    _hold_back(bridge, "registered", email)
    if invitation:
        keys.check_link(bridge, KeyKind.INVITATION, invitation)
    standing = standing_of(bridge, email, invited=bool(invitation))
    hashed = _hasher.hash(password)  # before the look: an address that is known takes as long
    bridge.note("registered", detail=email_key(email))
    if bridge.store.people.find(email=email):
        return None
    if invitation:
        keys.take_link(bridge, KeyKind.INVITATION, invitation)
    try:
        person = add(bridge, NewPerson(handle=handle_of(email), email=email, name=name), standing)
    except BadRequest:  # sent twice at once, and this is the later
        return None
    bridge.store.people.set_password(person.id, hashed)
    return person


def sign_in(bridge: Bridge, email: str, password: str) -> Person:
    """Who has this address and password.

    An address that nobody has is answered alike, and after the same time. Raises NotSignedIn,
    NotAllowed for an account that may not come in (told only to who has its password),
    TooManyTries.
    """
    _hold_back(bridge, "sign-in refused", email)
    person = bridge.store.people.find(email=email)
    kept = bridge.store.people.password(person.id) if person else None
    right = _matches(kept or _nobodys(), password)
    if person is None or kept is None or not right:
        bridge.note("sign-in refused", detail=email_key(email)[:200])
        raise NotSignedIn(WRONG)
    let_in(person)
    if _hasher.check_needs_rehash(kept):
        bridge.store.people.set_password(person.id, _hasher.hash(password))
    return person


def sign_in_by_link(bridge: Bridge, secret: str) -> Person:
    """Who was given this link. Raises NotFound, NotAllowed."""
    key = keys.take_link(bridge, KeyKind.SIGN_IN, secret)
    person = bridge.store.people.person(key.person_id or 0)
    let_in(person)
    return person


def has_password(bridge: Bridge) -> bool:
    """Whether the caller can sign in by a password."""
    return bridge.store.people.password(bridge.person.id) is not None


def prove(bridge: Bridge, password: str) -> None:
    """The caller shows by her password that it is still she. Raises BadRequest, TooManyTries."""
    person = bridge.person
    _hold_back(bridge, "sign-in refused", person.email)
    kept = bridge.store.people.password(person.id)
    if kept is None or not _matches(kept, password):
        bridge.note("sign-in refused", detail=email_key(person.email))
        raise BadRequest("The present password is wrong.", "old")
    bridge.note("proved anew")


def change_password(bridge: Bridge, old: str, new: str, *, session: int | None) -> None:
    """The caller sets a new password; her other sessions end. Raises BadRequest, TooManyTries."""
    if has_password(bridge):
        prove(bridge, old)
    _set_password(bridge, bridge.person, new, but=session)


def set_password_by_link(bridge: Bridge, secret: str, new: str) -> Person:
    """Who was given this link has a new password; all her sessions end.

    Raises NotFound; BadRequest for a weak password, and the link stays good.
    """
    key = keys.check_link(bridge, KeyKind.PASSWORD, secret)
    person = bridge.store.people.person(key.person_id or 0)
    check_password(new, person.email, person.name)
    keys.take_link(bridge, KeyKind.PASSWORD, secret)
    _set_password(bridge, person, new, but=None)
    return person


def ask_password(bridge: Bridge, email: str) -> None:
    """A link to set a new password is to go to this address, if somebody has it.

    Whether anybody does is looked up by who sends the mail: here both are one. Raises TooManyTries.
    """
    email = email[: EMAIL_MAX + 1]
    _hold_back(bridge, "password asked", email)
    bridge.note("password asked", detail=email_key(email)[:200])
    bridge.store.outbox.put(ErrandKind.PASSWORD_ASKED, at=datetime.now(UTC), detail=email)


def check_password(password: str, email: str, name: str) -> None:
    """Raises BadRequest for a password that is short, or quickly guessed by who knows the person.

    No kinds of characters are demanded.
    """
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise BadRequest(
            f"A password has {PASSWORD_MIN} to {PASSWORD_MAX} characters; three or four words "
            "that have nothing to do with each other make a good one.",
            "password",
        )
    near = [*email.replace("@", ".").split("."), *name.split(), "nias", "bridge", "slurm"]
    if zxcvbn(password[:72], user_inputs=near, max_length=72)["score"] < WEAK:
        raise BadRequest(
            "This password is quickly guessed: it is a common one, or made of your name. Three or "
            "four words that have nothing to do with each other make a good one.",
            "password",
        )


def standing_of(bridge: Bridge, email: str, *, invited: bool) -> Standing:
    """Whether who registers so comes in at once, or waits. Raises NotAllowed."""
    settings = bridge.settings
    if invited or settings.registration == "open":
        return Standing.ACTIVE
    if settings.registration == "domain":
        domain = email_key(email).rpartition("@")[2]
        if domain not in {each.casefold() for each in settings.registration_domains}:
            allowed = ", ".join(settings.registration_domains)
            raise NotAllowed(f"This site takes addresses of {allowed} alone.")
        return Standing.WAITING
    if settings.registration == "confirmed":
        return Standing.WAITING
    raise NotAllowed("This site takes no registrations: ask its administrator for an account.")


def add(bridge: Bridge, new: NewPerson, standing: Standing) -> Person:
    """Keep a new person. Raises BadRequest where the address is another's."""
    return bridge.store.people.add(replace(new, standing=standing), at=datetime.now(UTC))


def checked(email: str, name: str) -> tuple[str, str]:
    """The address and name as they are kept. Raises BadRequest."""
    try:
        email = email_address(email)
    except ValueError as error:
        raise BadRequest(f"“{email[:100]}” {error}.", "email") from None
    try:
        return email, person_name(name)
    except ValueError as error:
        raise BadRequest(f"The name {error}.", "name") from None


def choose_mail(bridge: Bridge, wish: MailWish) -> None:
    """Of which ends of her runs who asks is told by mail."""
    bridge.store.people.change(bridge.person.id, mail=wish)
    bridge.note("mail chosen", detail=f"{bridge.person.handle}: {wish}")


def groups_of(bridge: Bridge, person: Person) -> list[str]:
    """The names of the groups that a person is in."""
    return [group.name for group in bridge.store.people.groups() if person.handle in group.members]


def _set_password(bridge: Bridge, person: Person, new: str, *, but: int | None) -> None:
    check_password(new, person.email, person.name)
    bridge.store.people.set_password(person.id, _hasher.hash(new))
    bridge.store.keys.drop_all(person.id, KeyKind.SESSION, but=but)
    bridge.store.keys.drop_all(person.id, KeyKind.PASSWORD, KeyKind.SIGN_IN)
    bridge.note("password set", detail=person.handle)


def let_in(person: Person) -> None:
    """Raises NotAllowed for an account that may not come in."""
    if person.standing is Standing.WAITING:
        raise NotAllowed(NOT_YET)
    if person.standing is Standing.DISABLED:
        raise NotAllowed("This account was closed by an administrator.")


def _hold_back(bridge: Bridge, action: str, email: str) -> None:
    """Raises TooManyTries for an account, or an address of the network, with too many of these."""
    since = datetime.now(UTC) - WINDOW
    account, address = TRIES[action]
    count = bridge.store.deeds.count
    if count(action, since=since, detail=email_key(email)[:200]) >= account or (
        bridge.who.address and count(action, since=since, address=bridge.who.address) >= address
    ):
        raise TooManyTries(int(WINDOW.total_seconds()))


def _matches(kept: str, password: str) -> bool:
    if len(password) > PASSWORD_MAX:
        return False  # nobody has one, and none is hashed that is a megabyte long
    try:
        return _hasher.verify(kept, password)
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys() -> str:
    """What a password is compared with where there is no account, so that it takes as long."""
    return _hasher.hash("nobody's password")
