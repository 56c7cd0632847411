"""Datasets in the database: versions, with whom they are shared, and the runs that see them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from nias_bridge.datasets import Dataset, Mount, Version
from nias_bridge.domain import OPEN_STATES
from nias_bridge.errors import BadRequest, NotFound, NotPossible
from nias_bridge.people import Admission, Used
from nias_bridge.store import stored
from nias_bridge.store.engine import ID_MAX, reading, writing
from nias_bridge.store.tables import (
    dataset_groups,
    dataset_people,
    dataset_uses,
    dataset_versions,
    datasets,
    groups,
    memberships,
    people,
    runs,
)

AT_ONCE = 1000  # a database takes only so many values with one question
_THERE = dataset_versions.c.deleted_at.is_(None)
_PUBLISHED = and_(_THERE, dataset_versions.c.sha256 != "")
_WAITING = and_(_THERE, dataset_versions.c.sha256 == "", dataset_versions.c.problem == "")
_OTHER = dataset_versions.alias()
_UNUSED = and_(
    dataset_versions.c.deleted_at.is_not(None),
    dataset_versions.c.cleared.is_(False),
    dataset_versions.c.sha256 != "",
    ~exists().where(_OTHER.c.sha256 == dataset_versions.c.sha256, _OTHER.c.deleted_at.is_(None)),
)
_VERSION = select(*(c for c in dataset_versions.c if c.name != "cleared"))
_HAS_ANY = exists().where(dataset_versions.c.dataset_id == datasets.c.id, _THERE)


class SqlDatasets:
    """A ports.Datasets."""

    def __init__(self, engine: Engine, upsert: Callable[[Table], Any]) -> None:
        self._engine = engine
        self._upsert = upsert

    def add(
        self,
        owner: str,
        name: str,
        *,
        filename: str,
        upload: str,
        size: int,
        files: int,
        at: datetime,
        admission: Admission | None = None,
    ) -> Dataset:
        key = name.casefold()
        ours = (datasets.c.owner == owner) & (datasets.c.name_key == key)
        with writing(self._engine) as connection:
            has = stored.before_more(connection, owner, admission) if admission else Used()
            connection.execute(
                self._upsert(datasets)
                .values(owner=owner, name=name, name_key=key, created_at=at)
                .on_conflict_do_nothing(index_elements=["owner", "name_key"])
            )
            dataset_id = connection.execute(select(datasets.c.id).where(ours)).scalar_one()
            told = {"filename": filename, "size": size, "files": files, "created_at": at}
            # Sent again, as no answer came the first time, it makes no second version.
            added = connection.execute(
                self._upsert(dataset_versions)
                .values(dataset_id=dataset_id, upload=upload, sha256="", problem="", **told)
                .on_conflict_do_nothing(index_elements=["upload"])
                .execution_options(preserve_rowcount=True)
            )
            if admission and added.rowcount == 1:
                admission.judge(has)
            return _one(connection, dataset_id)

    def made_of(self, owner: str, upload: str) -> Dataset | None:
        made = exists().where(
            dataset_versions.c.dataset_id == datasets.c.id, dataset_versions.c.upload == upload
        )
        with reading(self._engine) as connection:
            found = _loaded(connection, [datasets.c.owner == owner, made, _HAS_ANY], 1)
        return found[0] if found else None

    def get(self, dataset_id: int) -> Dataset:
        with reading(self._engine) as connection:
            return _one(connection, dataset_id)

    def visible(
        self, person_id: int | None, *, name: str = "", before: int | None = None, most: int = 1000
    ) -> list[Dataset]:
        asked: list[ColumnElement[bool]] = [_HAS_ANY]
        if person_id is not None:
            asked.append(_may_see(person_id))
        if name:
            asked.append(datasets.c.name_key == name.casefold())
        if before is not None:
            asked.append(datasets.c.id < min(before, ID_MAX))
        with reading(self._engine) as connection:
            return _loaded(connection, asked, most)

    def usable(self, hashes: Collection[str] | None = None) -> list[Dataset]:
        asked: list[ColumnElement[bool]] = [_HAS_ANY]
        if hashes is not None:
            of_these = select(dataset_versions.c.dataset_id).where(
                dataset_versions.c.sha256.in_(hashes), _PUBLISHED
            )
            asked.append(datasets.c.id.in_(of_these))
        wanted = select(datasets).where(*asked).order_by(datasets.c.id).limit(AT_ONCE)
        found: list[Dataset] = []
        with reading(self._engine) as connection:
            while True:
                after = found[-1].id if found else 0
                more = _shared(connection, wanted.where(datasets.c.id > after))
                found += more
                if len(more) < AT_ONCE:
                    return found

    def waiting(self) -> list[Version]:
        wanted = _VERSION.where(_WAITING)
        with reading(self._engine) as connection:
            rows = connection.execute(wanted.order_by(dataset_versions.c.id)).mappings()
            return [Version(**row) for row in rows]

    def settle(self, version_id: int, *, sha256: str, size: int, files: int) -> None:
        told = {"sha256": sha256, "size": size, "files": files}
        with writing(self._engine) as connection:
            row = _lock(connection, version_id)
            if row is None or row.sha256:
                return
            newest = connection.execute(
                select(dataset_versions.c.sha256)
                .where(dataset_versions.c.dataset_id == row.dataset_id, _PUBLISHED)
                .order_by(dataset_versions.c.id.desc())
                .limit(1)
            ).scalar_one_or_none()
            this = dataset_versions.c.id == version_id
            if newest == sha256 and row.deleted_at is None:
                connection.execute(delete(dataset_versions).where(this))
            else:
                connection.execute(update(dataset_versions).where(this).values(**told))

    def fail(self, version_id: int, problem: str) -> None:
        with writing(self._engine) as connection:
            this = and_(dataset_versions.c.id == version_id, dataset_versions.c.sha256 == "")
            connection.execute(update(dataset_versions).where(this).values(problem=problem))

    def delete(self, dataset_id: int, version_id: int | None, *, at: datetime) -> None:
        with writing(self._engine) as connection:
            there = _locked(connection, dataset_id)
            wanted = sorted(
                each.id
                for each in (*there.versions, *there.arriving)
                if version_id in (None, each.id)
            )
            if not wanted:
                raise NotFound(f"“{there.name}” has no such version.")
            for each in wanted:
                _lock(connection, each)  # no run comes to it from here on
            _refuse_in_use(connection, there, wanted)
            these = dataset_versions.c.id.in_(wanted)
            connection.execute(update(dataset_versions).where(these).values(deleted_at=at))
            if len(wanted) == len(there.versions) + len(there.arriving):
                _share_with_nobody(connection, dataset_id)

    def share(self, dataset_id: int, handles: Collection[str], names: Collection[str]) -> Dataset:
        with writing(self._engine) as connection:
            _locked(connection, dataset_id)
            with_whom = (
                (dataset_people, "person_id", _ids(connection, people, "handle", handles)),
                (dataset_groups, "group_id", _ids(connection, groups, "name", names)),
            )
            _share_with_nobody(connection, dataset_id)
            for table, column, found in with_whom:
                rows = [{"dataset_id": dataset_id, column: each} for each in found]
                if rows:
                    connection.execute(insert(table), rows)
            return _one(connection, dataset_id)

    def gone(self, version_ids: Collection[int]) -> frozenset[int]:
        there = select(dataset_versions.c.id).where(
            dataset_versions.c.id.in_(version_ids), _PUBLISHED
        )
        with reading(self._engine) as connection:
            return frozenset(version_ids) - set(connection.scalars(there))

    def contents(self) -> frozenset[str]:
        with reading(self._engine) as connection:
            return frozenset(
                connection.scalars(select(dataset_versions.c.sha256).where(_PUBLISHED))
            )

    def unused(self) -> list[str]:
        wanted = select(dataset_versions.c.sha256).where(_UNUSED)
        with reading(self._engine) as connection:
            return list(connection.scalars(wanted.distinct()))

    def clear(self, sha256: str) -> bool:
        these = and_(dataset_versions.c.sha256 == sha256, _UNUSED)
        with writing(self._engine) as connection:
            done = connection.execute(update(dataset_versions).where(these).values(cleared=True))
            return done.rowcount > 0


def use(connection: Connection, run_id: int, seen: Sequence[Mount]) -> None:
    """A run sees these from now on. Raises NotPossible where one was deleted just now."""
    # In one order: of two runs that lock the same ones, each could have what the other waits for.
    for each in sorted(seen, key=attrgetter("version_id")):
        row = _lock(connection, each.version_id)
        if row is None or row.deleted_at is not None or not row.sha256:
            raise NotPossible(f"The dataset {each.word} was deleted. Nothing was submitted.")
        connection.execute(insert(dataset_uses).values(run_id=run_id, version_id=each.version_id))


def seeing() -> Select[tuple[int]]:
    """The ids of runs that see, or saw, any."""
    return select(dataset_uses.c.run_id)


def forget_group(connection: Connection, group_id: int) -> None:
    """Nothing is shared with a group that goes."""
    connection.execute(delete(dataset_groups).where(dataset_groups.c.group_id == group_id))


def _locked(connection: Connection, dataset_id: int) -> Dataset:
    """A dataset that nobody else deletes or shares until this transaction has ended. Raises
    NotFound."""
    wanted = select(datasets.c.id).where(datasets.c.id == min(dataset_id, ID_MAX))
    connection.execute(wanted.with_for_update(key_share=True))
    return _one(connection, dataset_id)


def _lock(connection: Connection, version_id: int) -> Any:
    """A version's row, which nobody else changes until this transaction has ended."""
    wanted = select(dataset_versions).where(dataset_versions.c.id == version_id)
    return connection.execute(wanted.with_for_update()).one_or_none()


def _may_see(person_id: int) -> ColumnElement[bool]:
    handle = select(people.c.handle).where(people.c.id == person_id).scalar_subquery()
    hers = select(dataset_people.c.dataset_id).where(dataset_people.c.person_id == person_id)
    theirs = (
        select(dataset_groups.c.dataset_id)
        .join(memberships, memberships.c.group_id == dataset_groups.c.group_id)
        .where(memberships.c.person_id == person_id)
    )
    return or_(datasets.c.owner == handle, datasets.c.id.in_(hers), datasets.c.id.in_(theirs))


def _refuse_in_use(connection: Connection, there: Dataset, version_ids: list[int]) -> None:
    open_runs = list(
        connection.scalars(
            select(runs.c.id)
            .join(dataset_uses, dataset_uses.c.run_id == runs.c.id)
            .where(dataset_uses.c.version_id.in_(version_ids), runs.c.state.in_(OPEN_STATES))
            .distinct()
            .order_by(runs.c.id)
        )
    )
    if open_runs:
        which = ", ".join(map(str, open_runs[:10])) + (" …" if len(open_runs) > 10 else "")
        raise NotPossible(
            f"“{there.name}” is in use by runs that have not ended: {which}. Wait until they have, "
            "or cancel them."
        )


def _share_with_nobody(connection: Connection, dataset_id: int) -> None:
    for table in (dataset_people, dataset_groups):
        connection.execute(delete(table).where(table.c.dataset_id == dataset_id))


def _ids(connection: Connection, table: Table, column: str, named: Collection[str]) -> list[int]:
    """The ids of those that are named so, none of which goes before this transaction has ended."""
    wanted = select(table.c.id, table.c[column]).where(table.c[column].in_(named))
    locked = wanted.order_by(table.c.id).with_for_update(read=True, key_share=True)
    found = {name: number for number, name in connection.execute(locked)}
    if unknown := sorted(set(named) - set(found)):
        what = "Nobody" if table is people else "No group"
        raise BadRequest(f"{what} is called {', '.join(unknown)}.", table.name)
    return sorted(found.values())


def _one(connection: Connection, dataset_id: int) -> Dataset:
    if 0 < dataset_id <= ID_MAX:
        for found in _loaded(connection, [datasets.c.id == dataset_id, _HAS_ANY], 1):
            return found
    raise NotFound(f"There is no dataset {dataset_id}.")


def _loaded(
    connection: Connection, asked: Sequence[ColumnElement[bool]], most: int
) -> list[Dataset]:
    wanted = select(datasets).where(*asked).order_by(datasets.c.id.desc()).limit(most)
    found = _shared(connection, wanted)
    used, in_use = _uses(connection, [each.id for each in found])
    return [replace(each, runs=used[each.id], open_runs=tuple(in_use[each.id])) for each in found]


def _shared(connection: Connection, wanted: Select[Any]) -> list[Dataset]:
    """These with their versions and with whom they are shared, without their runs."""
    rows = list(connection.execute(wanted).mappings())
    ids = [row["id"] for row in rows]
    versions: dict[int, list[Version]] = defaultdict(list)
    of_these = _VERSION.where(dataset_versions.c.dataset_id.in_(ids), _THERE)
    for version in connection.execute(of_these.order_by(dataset_versions.c.id.desc())).mappings():
        versions[version["dataset_id"]].append(Version(**version))
    shared = {
        "people": _named(connection, dataset_people, people, "handle", ids),
        "groups": _named(connection, dataset_groups, groups, "name", ids),
    }
    return [
        Dataset(
            id=row["id"],
            owner=row["owner"],
            name=row["name"],
            created_at=row["created_at"],
            versions=tuple(each for each in versions[row["id"]] if each.sha256),
            arriving=tuple(each for each in versions[row["id"]] if not each.sha256),
            people=tuple(shared["people"][row["id"]]),
            groups=tuple(shared["groups"][row["id"]]),
        )
        for row in rows
    ]


def _named(
    connection: Connection, table: Table, target: Table, column: str, ids: list[int]
) -> dict[int, list[str]]:
    joined = select(table.c.dataset_id, target.c[column]).join_from(table, target)
    found: dict[int, list[str]] = defaultdict(list)
    wanted = joined.where(table.c.dataset_id.in_(ids)).order_by(target.c[column])
    for dataset_id, name in connection.execute(wanted):
        found[dataset_id].append(name)
    return found


def _uses(connection: Connection, ids: list[int]) -> tuple[dict[int, int], dict[int, list[int]]]:
    of_these = dataset_versions.c.dataset_id.in_(ids)
    joined = dataset_uses.join(dataset_versions, dataset_versions.c.id == dataset_uses.c.version_id)
    counted = (
        select(dataset_versions.c.dataset_id, func.count(func.distinct(dataset_uses.c.run_id)))
        .select_from(joined)
        .where(of_these)
        .group_by(dataset_versions.c.dataset_id)
    )
    used: dict[int, int] = defaultdict(int)
    for dataset_id, count in connection.execute(counted):
        used[dataset_id] = count
    under_way = (
        select(dataset_versions.c.dataset_id, runs.c.id)
        .select_from(joined.join(runs, runs.c.id == dataset_uses.c.run_id))
        .where(of_these, _THERE, runs.c.state.in_(OPEN_STATES))
        .distinct()
        .order_by(runs.c.id)
    )
    in_use: dict[int, list[int]] = defaultdict(list)
    for dataset_id, run_id in connection.execute(under_way):
        in_use[dataset_id].append(run_id)
    return used, in_use
