"""Jobs by plain sbatch of Unix accounts that are linked to nobody, as an administrator sees to
them."""

from __future__ import annotations

from nias_bridge.domain import Unclaimed
from nias_bridge.errors import BadRequest, NotFound
from nias_bridge.people import Person, Standing
from nias_bridge.services import administration
from nias_bridge.services.bridge import Bridge


def jobs(bridge: Bridge) -> list[Unclaimed]:
    """All of them, the newest first. Those of an account that was linked a moment ago are none:
    the poller is about to make them runs."""
    linked = {person.unix_account for person in bridge.store.people.all()}
    return [job for job in reversed(bridge.store.unclaimed.all()) if job.native.user not in linked]


def by_account(bridge: Bridge) -> dict[str, list[Unclaimed]]:
    """The same by the accounts that they are of, in the order of these names."""
    found: dict[str, list[Unclaimed]] = {}
    for job in jobs(bridge):
        found.setdefault(job.native.user, []).append(job)
    return dict(sorted(found.items()))


def candidates(bridge: Bridge) -> list[Person]:
    """Who can be linked: everybody who may come in and has no account linked."""
    people = administration.people(bridge)
    return [p for p in people if p.standing is Standing.ACTIVE and not p.unix_account]


def link(bridge: Bridge, account: str, person_id: int) -> Person:
    """Link an account whose jobs wait to a person, whose runs they are within two ticks of the
    poller. Raises NotFound, BadRequest, Unreachable."""
    if account not in {job.native.user for job in jobs(bridge)}:
        raise NotFound("No job of this account waits here.")
    person = bridge.store.people.person(person_id)
    if person.unix_account:
        raise BadRequest(
            f"{person.name} is linked to {person.unix_account} already: see to that first.",
            "person",
        )
    if person.standing is not Standing.ACTIVE:
        raise BadRequest(f"{person.name} may not come in: see to that first.", "person")
    return administration.link_unix_account(bridge, person_id, account)
