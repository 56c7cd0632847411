"""What a person may have of the site, what she has of it, and the refusal of more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from nias_bridge.domain import Contents, Run
from nias_bridge.errors import BadUpload, OverQuota
from nias_bridge.people import Admission, Person, Quotas, Used
from nias_bridge.services.bridge import Bridge
from nias_bridge.settings import Settings

HOUR = 3600
LARGEST = 5
Number = TypeVar("Number", int, float)
_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a person may have (None: no limit), has, and which of her runs would free most room."""

    limits: Quotas
    used: Used
    largest: tuple[Run, ...]

    @property
    def cpu_hours(self) -> float:
        return self.used.cpu_seconds / HOUR


def limits(settings: Settings, person: Person) -> Quotas:
    """A person's limits: her own, else the site's."""
    own = person.quotas
    return Quotas(
        stored_bytes=_first(own.stored_bytes, settings.quota_stored_bytes),
        open_runs=_first(own.open_runs, settings.quota_open_runs),
        cpu_hours=_first(own.cpu_hours, settings.quota_cpu_hours),
        upload_bytes=upload_max(settings, person),
    )


def upload_max(settings: Settings, person: Person | None) -> int:
    """The largest zip that is taken of this person, in bytes."""
    own = person.quotas.upload_bytes if person else None
    return settings.upload_max_bytes if own is None else own


def largest_piece(bridge: Bridge) -> int:
    """The largest file that is taken of the caller, a project's or a dataset's, in bytes."""
    return max(largest_upload(bridge), bridge.settings.dataset_max_bytes)


def largest_upload(bridge: Bridge) -> int:
    """The largest zip that is taken of the caller, in bytes."""
    return upload_max(bridge.settings, bridge.who.person)


def check_upload(bridge: Bridge, size: int, most: int | None = None) -> None:
    """Raises BadUpload where a file of so many bytes is not taken of the caller.

    most: bytes; None: of a project's zip.
    """
    if not size:
        raise BadUpload("The file is empty. Choose another one.")
    most = largest_upload(bridge) if most is None else most
    if size > most:
        raise BadUpload(f"The file has {size:,} bytes; at most {most:,} are taken of you.")


def share(bridge: Bridge, person: Person) -> Share:
    """What this person may have, and has."""
    return Share(
        limits=limits(bridge.settings, person),
        used=used(bridge, person),
        largest=tuple(bridge.store.largest(person.handle, LARGEST)),
    )


def used(bridge: Bridge, person: Person) -> Used:
    """What this person has."""
    told = bridge.store.used(since=this_month(), owner=person.handle)
    return told.get(person.handle, Used())


def this_month() -> datetime:
    """The first moment of the calendar month, UTC."""
    return datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def check(bridge: Bridge, contents: Contents) -> None:
    """Raises OverQuota where the caller may have no further run of such a zip, as it is now."""
    _check(bridge, for_run(bridge, contents))


def check_room(bridge: Bridge, needs: int, what: str) -> None:
    """Raises OverQuota where the caller may not store so many bytes more, as it is now."""
    _check(bridge, for_bytes(bridge, needs, what))


def for_run(bridge: Bridge, contents: Contents) -> Admission | None:
    """Of a further run of such a zip: the caller's, None where she has no limits."""
    most = limits(bridge.settings, bridge.person)
    if most.stored_bytes is most.open_runs is most.cpu_hours is None:
        return None
    return Admission(this_month(), partial(_judge, bridge, most, contents))


def for_bytes(bridge: Bridge, needs: int, what: str) -> Admission | None:
    """Of so many bytes more: the caller's, None where she has no limit."""
    if limits(bridge.settings, bridge.person).stored_bytes is None:
        return None
    return Admission(this_month(), lambda has: _check_room(bridge, has, needs, what))


def _check(bridge: Bridge, admission: Admission | None) -> None:
    if admission is not None:
        admission.judge(used(bridge, bridge.person))


def _judge(bridge: Bridge, most: Quotas, contents: Contents, has: Used) -> None:
    if most.open_runs is not None and has.open_runs >= most.open_runs:
        raise OverQuota(
            f"{has.open_runs} of your runs are waiting or running, and you may have "
            f"{most.open_runs} at once. Cancel one, or wait until one has ended."
        )
    if most.cpu_hours is not None and has.cpu_seconds / HOUR >= most.cpu_hours:
        raise OverQuota(
            f"This month your runs were given {has.cpu_seconds / HOUR:,.1f} CPU hours, and you may "
            f"have {most.cpu_hours:,g} a month. The next month begins on {_next_month():%d %B}; "
            "an administrator can raise the limit."
        )
    _check_room(bridge, has, contents.size + contents.unpacked_size, "this one")


def _check_room(bridge: Bridge, has: Used, needs: int, what: str) -> None:
    most = limits(bridge.settings, bridge.person).stored_bytes
    if most is not None and has.stored_bytes + needs > most:
        yours = "Your runs and datasets" if has.dataset_bytes else "Your runs"
        raise OverQuota(
            f"{yours} take {told(has.stored_bytes)} of the {told(most)} that you "
            f"may store, and {what} needs {told(needs)} more. "
            + (f"Datasets take {told(has.dataset_bytes)} of it. " if has.dataset_bytes else "")
            + _frees(bridge, bridge.person)
        )


def told(size: int) -> str:
    """Bytes in a sentence, in powers of 1000."""
    for unit, word in _UNITS:
        if size >= unit:
            return f"{size / unit:,.1f} {word}"
    return f"{size} bytes"


def _frees(bridge: Bridge, person: Person) -> str:
    for run in bridge.store.largest(person.handle, 1):
        return (
            "Remove the files of runs that you need no longer: those of "
            f"“{run.project}”, run {run.number}, would free {told(run.stored_bytes)}."
        )
    return "No ended run of yours has files that could be removed; an administrator can tell more."


def _next_month() -> datetime:
    return (this_month() + timedelta(days=32)).replace(day=1)


def _first(own: Number | None, sites: Number | None) -> Number | None:
    return sites if own is None else own
