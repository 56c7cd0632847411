"""People come in by the university's own sign-in: who she is here, and what her groups make her."""

from __future__ import annotations

import logging

from nias_bridge.errors import BadRequest, NotAllowed, NotPossible
from nias_bridge.people import KeyKind, NewPerson, Person, Role, Standing, Vouched, handle_of
from nias_bridge.services import accounts
from nias_bridge.services.bridge import Bridge

log = logging.getLogger(__name__)

NOT_YOURS_YET = (
    "There is an account here with the address {email}, and it is not linked to your sign-in. "
    "Sign in with its password, or by a link that the administrator gives you, and link it on "
    "your account’s page."
)
ANOTHERS = (
    "The account here with the address {email} is linked to another sign-in. Ask the "
    "administrator which one is yours."
)
# What opened the account before its address was proven to be hers: whoever made it may have it.
OLD_KEYS = (KeyKind.SESSION, KeyKind.TOKEN, KeyKind.PASSWORD, KeyKind.SIGN_IN)


def sign_in(bridge: Bridge, vouched: Vouched) -> Person:
    """Who this is: known by her subject, else by an address that is proven to be hers, else new.

    Raises NotAllowed for who may not come in (yet), BadRequest where her address is none.
    """
    _check_groups(bridge, vouched)
    person = bridge.store.people.find(subject=vouched.subject)
    if person is None:
        known = bridge.store.people.find(email=vouched.email) if vouched.email else None
        person = _take_over(bridge, known, vouched) if known else _add(bridge, vouched)
    accounts.let_in(person)
    return _with_role(bridge, person, vouched)


def link(bridge: Bridge, vouched: Vouched) -> Person:
    """The caller, who is signed in, can sign in so from now on.

    Raises NotAllowed, and BadRequest where this sign-in is somebody else's.
    """
    _check_groups(bridge, vouched)
    if bridge.person.subject not in (None, vouched.subject):
        raise NotAllowed("Your account is linked to another sign-in. Ask the administrator.")
    person = bridge.store.people.change(bridge.person.id, subject=vouched.subject)
    bridge.note("sign-in linked", detail=f"{person.handle}: {vouched.subject}")
    return _with_role(bridge, person, vouched)


def _check_groups(bridge: Bridge, vouched: Vouched) -> None:
    settings = bridge.settings
    welcome = {*settings.oidc_groups, *settings.oidc_admin_groups}
    if settings.oidc_groups and not welcome & vouched.groups:
        raise NotAllowed(
            f"You are signed in with {settings.oidc_name}, but are in none of the groups that "
            f"may come in here ({', '.join(settings.oidc_groups)}). Ask the administrator."
        )


def _take_over(bridge: Bridge, person: Person, vouched: Vouched) -> Person:
    """The account that has her address is hers, where the university says that the address is.

    It may have been made by somebody who only wrote her address: his password, tokens and
    webhook go.
    """
    if person.subject == vouched.subject:  # by another window, just now
        return person
    if person.subject is not None:
        raise NotAllowed(ANOTHERS.format(email=vouched.email))
    if not vouched.verified:
        raise NotAllowed(NOT_YOURS_YET.format(email=vouched.email))
    person = bridge.store.people.change(person.id, subject=vouched.subject)
    if person.standing is Standing.WAITING and bridge.settings.oidc_groups:
        # Her groups say what an administrator would have said.
        person = bridge.store.people.change(person.id, standing=Standing.ACTIVE)
    bridge.store.people.set_password(person.id, None)
    bridge.store.outbox.drop_hook(person.id)
    bridge.store.keys.drop_all(person.id, *OLD_KEYS)
    bridge.note("sign-in linked", detail=f"{person.handle}: {vouched.subject}; password dropped")
    return person


def _add(bridge: Bridge, vouched: Vouched) -> Person:
    if not vouched.email:
        raise NotAllowed(
            "The sign-in told no e-mail address of yours, and an account needs one. Ask the "
            "administrator."
        )
    email, name = accounts.checked(vouched.email, vouched.name or vouched.email.partition("@")[0])
    if bridge.settings.oidc_groups:
        standing = Standing.ACTIVE
    else:
        standing = accounts.standing_of(bridge, email, invited=False)
    if not vouched.verified:
        standing = Standing.WAITING  # an address that may be another's: somebody looks at it
    new = NewPerson(handle=handle_of(email), email=email, name=name, subject=vouched.subject)
    try:
        person = accounts.add(bridge, new, standing)
    except BadRequest:
        made = bridge.store.people.find(subject=vouched.subject)
        if made is None:
            raise
        return made  # she came by two windows at once, and this is the later
    bridge.note("person vouched for", detail=f"{person.handle} <{email}>, {vouched.subject}")
    return person


def _with_role(bridge: Bridge, person: Person, vouched: Vouched) -> Person:
    """Where the site names groups of administrators, they decide at every sign-in."""
    admins = bridge.settings.oidc_admin_groups
    if not admins:
        return person
    role = Role.ADMINISTRATOR if vouched.groups & {*admins} else Role.RESEARCHER
    if role is person.role:
        return person
    try:
        changed = bridge.store.people.change(person.id, role=role)
    except NotPossible as refused:  # the site's last administrator stays one
        log.warning("%s is in no group of administrators: %s", person.handle, refused)
        return person
    bridge.note("role by groups", detail=f"{person.handle}: {role}")
    return changed
