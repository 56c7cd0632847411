"""One run is shown to whoever has a link to it, until the link expires or is taken back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from nias_bridge.errors import BadRequest, NotFound
from nias_bridge.people import Key, KeyKind
from nias_bridge.services import desk, keys
from nias_bridge.services.bridge import Bridge

DAYS_MAX = 366


def share(bridge: Bridge, run_id: int, days: int) -> str:
    """A link's secret, good for so many days. Raises NotFound, NotAllowed, BadRequest."""
    run = desk.find_own(bridge, run_id)
    if not 1 <= days <= DAYS_MAX:
        raise BadRequest(f"A link is good for 1 to {DAYS_MAX} days.", "days")
    _, secret = keys.give(
        bridge, KeyKind.SHARE, timedelta(days=days), person_id=bridge.person.id, run_id=run.id
    )
    bridge.note("run shared", run_id=run.id, detail=f"for {days} days")
    return secret


def links(bridge: Bridge, run_id: int) -> list[Key]:
    """The links to a run that are still good, newest first. Raises NotFound, NotAllowed."""
    run, now = desk.find_own(bridge, run_id), datetime.now(UTC)
    return [k for k in bridge.store.keys.of(KeyKind.SHARE, run_id=run.id) if k.expires_at > now]


def take_back(bridge: Bridge, run_id: int, key_id: int) -> None:
    """The link shows nothing from now on. Raises NotFound, NotAllowed."""
    found = next((key for key in links(bridge, run_id) if key.id == key_id), None)
    if found is None or found.person_id is None:
        raise NotFound("There is no such link to this run.")
    bridge.store.keys.drop(person_id=found.person_id, key_id=key_id)
    bridge.note("link taken back", run_id=run_id)


def run_of(bridge: Bridge, secret: str) -> int:
    """The run that a link shows. Raises NotFound."""
    key = keys.check_link(bridge, KeyKind.SHARE, secret)
    run = bridge.store.run(key.run_id or 0)
    bridge.note("link opened", run_id=run.id)
    return run.id


def shown_by(bridge: Bridge, secrets: Iterable[object]) -> frozenset[int]:
    """The runs that those of these links show which are still good."""
    now = datetime.now(UTC)
    found = [
        bridge.store.keys.find(keys.hashed(secret), KeyKind.SHARE, now=now)
        for secret in secrets
        if isinstance(secret, str)
    ]
    return frozenset(key.run_id for key in found if key and key.run_id is not None)
