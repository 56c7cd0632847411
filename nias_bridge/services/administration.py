"""What an administrator does: people and groups, storage, environments, and the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from nias_bridge.errors import BadRequest, NotPossible
from nias_bridge.naming import name_key
from nias_bridge.people import (
    Deed,
    Group,
    KeyKind,
    Person,
    Quotas,
    Role,
    Standing,
    Used,
)
from nias_bridge.services import environments, keys, quotas, unixaccounts
from nias_bridge.services.bridge import Bridge

LOG_PAGE = 50
GROUP_NAME_MAX = 100
_BY_WAITING = {Standing.WAITING: 0, Standing.ACTIVE: 1, Standing.DISABLED: 2}
# What tells of a person, and what she could come in by without her password.
_ENTRANCES = (KeyKind.SESSION, KeyKind.SIGN_IN, KeyKind.PASSWORD)
_ALL_KEYS = (*_ENTRANCES, KeyKind.TOKEN, KeyKind.SHARE)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who takes room on shared storage: person is None for an owner without an account."""

    handle: str
    person: Person | None
    used: Used
    limit: int | None


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Shared storage in bytes: all of it, what is free, and what of the rest is ours."""

    total: int
    free: int
    runs: int
    datasets: int
    environments: int
    uploads: int
    holders: tuple[Holder, ...]


@dataclass(frozen=True, kw_only=True)
class LogPage:
    """A page of the audit log, newest first; older: before which number the next one begins."""

    deeds: tuple[tuple[int, Deed], ...]
    older: int | None


def people(bridge: Bridge) -> list[Person]:
    """Everybody: who waits first, then by name."""
    return sorted(bridge.store.people.all(), key=lambda person: _BY_WAITING[person.standing])


def waiting(bridge: Bridge) -> int:
    """How many wait for an administrator's word."""
    return sum(person.standing is Standing.WAITING for person in bridge.store.people.all())


def names(bridge: Bridge) -> dict[str, str]:
    """What the owners of runs are called, by their handles."""
    return {person.handle: person.name for person in bridge.store.people.all()}


def approve(bridge: Bridge, person_id: int) -> Person:
    """Who waits may come in from now on. Raises NotFound, NotPossible."""
    if bridge.store.people.person(person_id).standing is not Standing.WAITING:
        raise NotPossible("This account does not wait: it was decided on already.")
    person = bridge.store.people.change(person_id, standing=Standing.ACTIVE)
    bridge.note("person approved", detail=person.handle)
    return person


def disable(bridge: Bridge, person_id: int) -> Person:
    """Nobody comes in by this account: its browsers, tokens and links are turned away for good.

    Its runs stay. Raises NotFound; NotPossible for one's own and for the last administrator's.
    """
    if person_id == bridge.person.id:
        raise NotPossible("This is your own account: another administrator has to disable it.")
    person = bridge.store.people.change(person_id, standing=Standing.DISABLED)
    bridge.store.keys.drop_all(person.id, *_ALL_KEYS)
    bridge.note("person disabled", detail=person.handle)
    return person


def enable(bridge: Bridge, person_id: int) -> Person:
    """A disabled account is open again. Raises NotFound, NotPossible."""
    if bridge.store.people.person(person_id).standing is not Standing.DISABLED:
        raise NotPossible("This account is not disabled.")
    person = bridge.store.people.change(person_id, standing=Standing.ACTIVE)
    bridge.note("person enabled", detail=person.handle)
    return person


def set_role(bridge: Bridge, person_id: int, role: Role) -> Person:
    """She signs in anew to be what she is now. Raises NotFound, NotPossible for the last one."""
    before = bridge.store.people.person(person_id)
    if before.role is role:
        return before
    person = bridge.store.people.change(person_id, role=role)
    bridge.store.keys.drop_all(person.id, *_ENTRANCES)
    bridge.note("role changed", detail=f"{person.handle} is {role}")
    return person


def set_quotas(bridge: Bridge, person_id: int, own: Quotas) -> Person:
    """A person's own limits. Raises NotFound, BadRequest."""
    told = asdict(own)
    for field, limit in told.items():
        if limit is not None and limit < 0:
            raise BadRequest("A limit is not less than nothing.", field)
    person = bridge.store.people.change(person_id, quotas=own)
    said = ", ".join(f"{field} {limit:g}" for field, limit in told.items() if limit is not None)
    bridge.note("limits set", detail=f"{person.handle}: {said or 'the site’s'}")
    return person


def link_unix_account(bridge: Bridge, person_id: int, name: str) -> Person:
    """Which account of the cluster is a person's; "" is none. Raises NotFound, BadRequest,
    Unreachable."""
    name = name.strip()
    if name:
        unixaccounts.check(bridge.accounts, name)
    person = bridge.store.people.change(person_id, unix_account=name or None)
    done = "Unix account linked" if name else "Unix account unlinked"
    bridge.note(done, detail=f"{person.handle}: {name}" if name else person.handle)
    return person


def give_link(bridge: Bridge, person_id: int, kind: KeyKind) -> str:
    """A link for a person to sign in by, or to set her password by, once. Raises NotFound,
    NotPossible for an account that may not come in."""
    person = bridge.store.people.person(person_id)
    if person.standing is not Standing.ACTIVE:
        raise NotPossible("This account is not open: a link to it would lead nowhere.")
    return keys.give_link(bridge, kind, person)


def invite(bridge: Bridge) -> str:
    """A link by which somebody registers, once, and comes in at once."""
    return keys.give_link(bridge, KeyKind.INVITATION, None)


def save_group(
    bridge: Bridge,
    name: str,
    *,
    shares: bool,
    members: Sequence[str],
    group_id: int | None = None,
) -> Group:
    """A new group, or a changed one, of these handles. Raises NotFound, BadRequest."""
    name = " ".join(name.split())
    if not 1 <= len(name) <= GROUP_NAME_MAX or not name.isprintable() or not name_key(name):
        raise BadRequest(f"A group's name has 1 to {GROUP_NAME_MAX} characters.", "name")
    known = {person.handle for person in bridge.store.people.all()}
    if unknown := sorted(set(members) - known):
        raise BadRequest(f"Nobody is called {', '.join(unknown)}.", "members")
    group = bridge.store.people.save_group(name, shares=shares, group_id=group_id)
    group = bridge.store.people.set_members(group.id, members)
    what = "shares results" if shares else "shares nothing"
    bridge.note(
        "group made" if group_id is None else "group changed",
        detail=f"{group.name}, {what}: {', '.join(group.members) or 'nobody'}",
    )
    return group


def drop_group(bridge: Bridge, group_id: int) -> None:
    """Forget a group; its members and their runs stay. Raises NotFound."""
    name = next((g.name for g in bridge.store.people.groups() if g.id == group_id), "")
    bridge.store.people.drop_group(group_id)
    bridge.note("group deleted", detail=name)


def storage(bridge: Bridge) -> Storage:
    """What there is of shared storage, and who has it, whoever has most first."""
    disk = bridge.storage.space(bridge.paths.root)
    used = bridge.store.used(since=quotas.this_month())
    known = {person.handle: person for person in bridge.store.people.all()}
    holders = [
        Holder(
            handle=handle,
            person=known.get(handle),
            used=has,
            limit=quotas.limits(bridge.settings, known[handle]).stored_bytes
            if handle in known
            else bridge.settings.quota_stored_bytes,
        )
        for handle, has in used.items()
    ]
    holders.sort(key=lambda holder: holder.used.stored_bytes, reverse=True)
    return Storage(
        total=disk.total,
        free=disk.free,
        runs=sum(has.stored_bytes - has.dataset_bytes for has in used.values()),
        datasets=sum(has.dataset_bytes for has in used.values()),
        environments=sum(one.size for one in environments.kept(bridge)),
        uploads=_uploads(bridge),
        holders=tuple(holders),
    )


def _uploads(bridge: Bridge) -> int:
    return sum(info.size for info in bridge.storage.entries(bridge.paths.uploads).values())


def prune_environments(bridge: Bridge, size: int) -> list[environments.KeptEnvironment]:
    """Remove the least recently used down to `size` bytes. Raises BadRequest."""
    if size < 0:
        raise BadRequest("A size is not less than nothing.", "size")
    removed = environments.prune(bridge, size)
    freed = quotas.told(sum(one.size for one in removed))
    bridge.note("environments pruned", detail=f"{len(removed)} removed, {freed}")
    return removed


def audit_log(
    bridge: Bridge,
    *,
    handle: str = "",
    run_id: int | None = None,
    action: str = "",
    before: int | None = None,
) -> LogPage:
    """A page of what was done, of one person, to one run or of one kind where that is asked."""
    found = bridge.store.deeds.newest(
        handle=handle, run_id=run_id, action=action, before=before, most=LOG_PAGE + 1
    )
    shown = found[:LOG_PAGE]
    return LogPage(deeds=tuple(shown), older=shown[-1][0] if len(found) > LOG_PAGE else None)
