"""Secrets are given once and known again by their hashes: sessions, tokens, links."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from nias_bridge.errors import BadRequest, NotFound
from nias_bridge.people import Caller, Key, KeyKind, NewKey, Person, Scope, Standing
from nias_bridge.services.bridge import Bridge

SESSION = timedelta(hours=12)  # without use
REMEMBERED = timedelta(days=30)
TOKEN_DAYS_MAX = 366
LINKS: Mapping[KeyKind, timedelta] = {
    KeyKind.SIGN_IN: timedelta(days=1),
    KeyKind.PASSWORD: timedelta(days=1),
    KeyKind.INVITATION: timedelta(days=7),
}
TOUCHED = timedelta(minutes=1)  # a key's last use is known to the minute: each touch is a write
_SPENT = "This link has been used already, or is too old. Ask for a new one."
TOKEN_PREFIX = "nias_"  # noqa: S105  # so that scanners for leaked secrets know one


def give(bridge: Bridge, kind: KeyKind, good_for: timedelta, **about: object) -> tuple[Key, str]:
    """A new key and its secret, which nobody can tell again; `about` are fields of NewKey."""
    secret = secrets.token_urlsafe(32)
    if kind is KeyKind.TOKEN:
        secret = TOKEN_PREFIX + secret
    now = datetime.now(UTC)
    new = NewKey(kind=kind, hash=hashed(secret), created_at=now, expires_at=now + good_for)
    return bridge.store.keys.add(replace(new, **about)), secret  # type: ignore[arg-type]


def hashed(secret: str) -> str:
    """What is kept of a secret. It is random and long: a quick hash can't be guessed back."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def known(bridge: Bridge, kind: KeyKind, secret: str, address: str) -> Caller | None:
    """Who holds this session or token; None where it is not, or no longer, good."""
    now = datetime.now(UTC)
    held = bridge.store.keys.holder(hashed(secret), kind, now=now)
    if held is None:
        return None
    key, person, sees = held
    ends = key.created_at + longest(bridge) if kind is KeyKind.SESSION else key.expires_at
    if person.standing is not Standing.ACTIVE or now >= ends:
        return None
    last = key.used_at or key.created_at
    if now - last > TOUCHED:
        lasting = min(now + (key.expires_at - last), ends) if kind is KeyKind.SESSION else None
        bridge.store.keys.touch(key.id, at=now, expires_at=lasting)
    return Caller(
        person=person,
        scope=key.scope,
        via=f"{kind} {key.id}" + (f" “{key.name}”" if kind is KeyKind.TOKEN else ""),
        address=address,
        sees=sees,
    )


def longest(bridge: Bridge) -> timedelta:
    """For how long a session lasts, however much it is used."""
    return timedelta(days=bridge.settings.session_days_max)


def remembered(bridge: Bridge) -> timedelta:
    """For how long a browser is known that is to be remembered, without use."""
    return min(REMEMBERED, longest(bridge))


def open_session(bridge: Bridge, person: Person, *, agent: str, remember: bool) -> str:
    """A browser has signed in; returns the secret that its cookie is to carry."""
    _, secret = give(
        bridge,
        KeyKind.SESSION,
        remembered(bridge) if remember else SESSION,
        person_id=person.id,
        name=agent[:200],
        address=bridge.who.address,
    )
    return secret


def close_session(bridge: Bridge, secret: str) -> None:
    """The browser signs out: its cookie is worth nothing from now on."""
    bridge.store.keys.take(hashed(secret), KeyKind.SESSION, now=datetime.now(UTC))
    bridge.note("signed out")


def give_token(bridge: Bridge, name: str, scope: Scope, days: int) -> tuple[Key, str]:
    """A token of the caller's, for a program. Raises BadRequest, NotSignedIn."""
    return token_for(bridge, bridge.person, name, scope, days)


def token_for(
    bridge: Bridge, person: Person, name: str, scope: Scope, days: int
) -> tuple[Key, str]:
    """A token of this person's, and its secret. Raises BadRequest."""
    name = " ".join(name.split())[:100]
    if not name:
        raise BadRequest("Give the token a name, such as the program that is to have it.", "name")
    if not 1 <= days <= TOKEN_DAYS_MAX:
        raise BadRequest(f"A token is good for 1 to {TOKEN_DAYS_MAX} days.", "days")
    if scope is Scope.ADMIN and not person.administers:
        raise BadRequest("Only an administrator's token can have the scope admin.", "scope")
    key, secret = give(
        bridge, KeyKind.TOKEN, timedelta(days=days), person_id=person.id, name=name, scope=scope
    )
    bridge.note("token made", detail=f"{key.id} “{name}” of {person.handle}, scope {scope}")
    return key, secret


def mine(bridge: Bridge, kind: KeyKind) -> list[Key]:
    """The caller's sessions or tokens, newest first, without those that have expired."""
    now = datetime.now(UTC)
    keys = bridge.store.keys.of(kind, person_id=bridge.person.id)
    return [key for key in keys if key.expires_at > now]


def revoke(bridge: Bridge, key_id: int) -> None:
    """Take back a session or a token of the caller's. Raises NotFound."""
    key = bridge.store.keys.drop(person_id=bridge.person.id, key_id=key_id)
    bridge.note(f"{key.kind} revoked", detail=f"{key.id} “{key.name}”")


def give_link(bridge: Bridge, kind: KeyKind, person: Person | None) -> str:
    """The secret of a link that is good once: to sign in, to set a password, to register."""
    _, secret = give(bridge, kind, LINKS[kind], person_id=person.id if person else None)
    bridge.note(f"{kind} link made", detail=person.handle if person else "")
    return secret


def take_link(bridge: Bridge, kind: KeyKind, secret: str) -> Key:
    """Use a link up. Raises NotFound where it is used up already, or too old."""
    key = bridge.store.keys.take(hashed(secret), kind, now=datetime.now(UTC))
    if key is None:
        raise NotFound(_SPENT)
    return key


def check_link(bridge: Bridge, kind: KeyKind, secret: str) -> Key:
    """The key of a link that is still good, which stays so. Raises NotFound."""
    key = bridge.store.keys.find(hashed(secret), kind, now=datetime.now(UTC))
    if key is None:
        raise NotFound(_SPENT)
    return key
