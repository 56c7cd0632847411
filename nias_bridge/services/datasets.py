"""Datasets: uploaded once, shared, and seen read-only by runs at $NIAS_DATA/<name>."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice

from nias_bridge.datasets import Dataset, Mount, Version
from nias_bridge.domain import Run
from nias_bridge.errors import BadRequest, NotAllowed, NotFound, NotPossible
from nias_bridge.node import archive, catalogue
from nias_bridge.people import Person
from nias_bridge.services import contents, held
from nias_bridge.services.bridge import Bridge
from nias_bridge.settings import Settings

FILES_LISTED = 500


@dataclass(frozen=True)
class Seen:
    """A version that a run sees or saw; gone: it was deleted since."""

    mount: Mount
    gone: bool


def limits(settings: Settings) -> archive.Limits:
    """What a dataset may hold."""
    return archive.Limits(
        unpacked_bytes=settings.dataset_max_bytes,
        files=settings.dataset_max_files,
        ratio=settings.unpacked_max_ratio,
    )


def find(bridge: Bridge, dataset_id: int) -> Dataset:
    """One that the caller may see. Raises NotFound, for another's just as for none."""
    found = bridge.store.datasets.get(dataset_id)
    person = bridge.person
    mine = found.owner == person.handle or person.handle in found.people
    if mine or bridge.who.administers or _groups_of(bridge, person.handle) & {*found.groups}:
        return found
    raise NotFound(f"There is no dataset {dataset_id}.")


def find_own(bridge: Bridge, dataset_id: int) -> Dataset:
    """One that the caller may change: her own, or for an administrator anybody's.

    Raises NotFound; NotAllowed for one that is only shared with her.
    """
    found = find(bridge, dataset_id)
    if not may_change(bridge, found):
        raise NotAllowed("You may use this dataset, but only its owner may change it.")
    return found


def may_change(bridge: Bridge, found: Dataset) -> bool:
    """Whether it is the caller's own, or she administers."""
    return found.owner == bridge.person.handle or bridge.who.administers


def visible(
    bridge: Bridge, *, name: str = "", before: int | None = None, most: int = 1000
) -> list[Dataset]:
    """What the caller may look at, the newest first: an administrator at all there are."""
    who = None if bridge.who.administers else bridge.person.id
    return bridge.store.datasets.visible(who, name=name, before=before, most=most)


def usable(bridge: Bridge) -> list[Dataset]:
    """What the caller's runs may see, by name, her own first."""
    found = bridge.store.datasets.visible(bridge.person.id)
    mine = bridge.person.handle
    ready = [each for each in found if each.versions]
    return sorted(ready, key=lambda each: (each.owner != mine, each.name.casefold(), each.owner))


def files(bridge: Bridge, found: Dataset, version: Version) -> list[contents.File]:
    """The first files of a version. Raises NotFound where it is gone."""
    try:
        return contents.files(bridge, version.sha256, FILES_LISTED)
    except OSError:
        raise NotFound(f"“{found.name}” is not on the shared storage any more.") from None


def version_of(found: Dataset, version_id: int) -> Version:
    """One of a dataset's versions that can be used. Raises NotFound."""
    for version in found.versions:
        if version.id == version_id:
            return version
    raise NotFound(f"“{found.name}” has no such version.")


def share(
    bridge: Bridge, dataset_id: int, people: Collection[str], groups: Collection[str]
) -> Dataset:
    """Let these people (by handle or e-mail address) and groups use it, and nobody else.

    Runs that were submitted go on. Raises NotFound, NotAllowed, BadRequest.
    """
    found = find_own(bridge, dataset_id)
    handles = {_handle(bridge, each) for each in people} - {found.owner}
    if strange := sorted(set(groups) - {*groups_to_share_with(bridge, found)}):
        raise BadRequest(f"You are in no group called {', '.join(strange)}.", "groups")
    shared = bridge.store.datasets.share(found.id, handles, set(groups))
    with_whom = ", ".join((*shared.people, *shared.groups)) or "nobody"
    bridge.note("dataset shared", detail=f"{found.owner}/{found.name}: {with_whom}")
    return shared


def groups_to_share_with(bridge: Bridge, found: Dataset) -> list[str]:
    """The groups that the caller may name: her own; for an administrator all."""
    if bridge.who.administers:
        return [group.name for group in bridge.store.people.groups()]
    return sorted(_groups_of(bridge, bridge.person.handle) | {*found.groups})


def delete(bridge: Bridge, dataset_id: int, version_id: int | None = None) -> None:
    """Delete one version, or all. Raises NotFound, NotAllowed, NotPossible where a run that has
    not ended sees it."""
    found = find_own(bridge, dataset_id)
    bridge.store.datasets.delete(found.id, version_id, at=datetime.now(UTC))
    of_all = (*found.versions, *found.arriving)
    which = [each for each in of_all if version_id in (None, each.id)]
    bridge.storage.remove(*(held.part_of(bridge, each.upload) for each in which))
    told = ", ".join(each.short or each.filename for each in which)
    bridge.note("dataset deleted", detail=f"{found.owner}/{found.name}: {told}")


def resolve(bridge: Bridge, words: Sequence[str]) -> tuple[Mount, ...]:
    """The versions that these words mean to the caller now. Raises BadRequest with a sentence."""
    there: dict[tuple[str, str], Dataset] = {}

    def named(name: str) -> list[catalogue.Listed]:
        found = bridge.store.datasets.visible(bridge.person.id, name=name)
        there.update({(each.owner, each.name): each for each in found})
        return [listed(each) for each in found]

    try:
        meant = catalogue.resolve(words, bridge.person.handle, named)
    except catalogue.NotMeant as error:
        raise BadRequest(str(error), "datasets") from None
    return tuple(_mount(there[each.owner, each.name], each.sha256) for each in meant)


def listed(found: Dataset) -> catalogue.Listed:
    """A dataset as it may be meant."""
    problems = [each.problem for each in found.arriving]
    return catalogue.Listed(
        found.owner,
        found.name,
        tuple(each.sha256 for each in found.versions),
        problems[0] if problems and all(problems) else "",
    )


def mount_of(found: Dataset, version: Version) -> Mount:
    """This version as a run would see it."""
    return Mount(owner=found.owner, name=found.name, sha256=version.sha256, version_id=version.id)


def again(bridge: Bridge, mounts: Sequence[Mount]) -> tuple[Mount, ...]:
    """The same contents for another run of the caller's. Raises NotPossible where one was deleted
    or is no longer shared with her."""
    found = []
    for mount in mounts:
        there = bridge.store.datasets.visible(bridge.person.id, name=mount.name)
        same = [
            version
            for each in there
            if each.owner == mount.owner
            for version in each.versions
            if version.sha256 == mount.sha256
        ]
        if not same:
            raise NotPossible(
                f"The dataset {mount.word} that this run saw was deleted, or is no longer shared "
                "with you."
            )
        found.append(replace(mount, version_id=same[0].id))
    return tuple(found)


def chosen(bridge: Bridge, person: Person, told: Mapping[str, object]) -> tuple[Mount, ...]:
    """What a job of this person's wrote of the contents that it sees, by their names: those that
    she may use."""
    found: dict[str, Mount] = {}
    for name, sha256 in islice(told.items(), catalogue.MOST):
        if not re.fullmatch(catalogue.WORD, name, re.ASCII):
            continue
        there = bridge.store.datasets.visible(person.id, name=name)
        for each in sorted(there, key=lambda each: each.owner != person.handle):
            if any(version.sha256 == sha256 for version in each.versions):
                found.setdefault(name.casefold(), _mount(each, str(sha256)))
    return tuple(found.values())


def seen(bridge: Bridge, run: Run) -> tuple[Seen, ...]:
    """What a run sees or saw."""
    if not run.datasets:
        return ()
    gone = bridge.store.datasets.gone([mount.version_id for mount in run.datasets])
    return tuple(Seen(mount, mount.version_id in gone) for mount in run.datasets)


def _mount(found: Dataset, sha256: str) -> Mount:
    return mount_of(found, next(each for each in found.versions if each.sha256 == sha256))


def _handle(bridge: Bridge, text: str) -> str:
    text = text.strip()
    people = bridge.store.people
    person = people.find(email=text) if "@" in text else people.find(handle=text)
    if person is None:
        raise BadRequest(f"Nobody here is known as {text[:80]}.", "people")
    return person.handle


def _groups_of(bridge: Bridge, handle: str) -> frozenset[str]:
    groups = bridge.store.people.groups()
    return frozenset(group.name for group in groups if handle in group.members)
