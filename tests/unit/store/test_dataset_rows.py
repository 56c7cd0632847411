"""What the store promises about datasets, in each database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

import pytest
from test_runs import a_run, nowhere

from nias_bridge.datasets import Dataset, Mount
from nias_bridge.domain import JobState, Run
from nias_bridge.errors import BadRequest, NotFound, NotPossible, Stale
from nias_bridge.people import NewPerson, Standing
from nias_bridge.store import SqlStore
from nias_bridge.store import datasets as rows

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHA = "ab" * 32
_uploads = count()


def person(store: SqlStore, handle: str) -> int:
    new = NewPerson(handle=handle, email=f"{handle}@lab.org", name=handle, standing=Standing.ACTIVE)
    return store.people.add(new, at=NOON).id


def arrived(store: SqlStore, name: str = "eeg", owner: str = "ana", upload: str = "") -> Dataset:
    upload = upload or f"u{next(_uploads)}"
    return store.datasets.add(
        owner, name, filename="eeg.zip", upload=upload, size=100, files=2, at=NOON
    )


def published(store: SqlStore, name: str = "eeg", owner: str = "ana", sha256: str = SHA) -> Dataset:
    made = arrived(store, name, owner)
    store.datasets.settle(made.arriving[0].id, sha256=sha256, size=90, files=2)
    return store.datasets.get(made.id)


def seeing(store: SqlStore, found: Dataset) -> Run:
    version = found.versions[0]
    mount = Mount(owner=found.owner, name=found.name, sha256=version.sha256, version_id=version.id)
    return store.add_run(replace(a_run(), datasets=(mount,)), again=True, place=nowhere)


def test_a_run_comes_back_with_what_it_sees(store: SqlStore) -> None:
    found = published(store)
    run = seeing(store, found)
    assert store.run(run.id).datasets == run.datasets
    assert run.datasets[0].version_id == found.versions[0].id
    assert store.datasets.get(found.id).open_runs == (run.id,)
    plain = store.add_run(a_run("other"), again=False, place=nowhere)
    assert store.run(plain.id).datasets == ()


def test_a_run_by_plain_sbatch_is_told_later_what_it_sees(store: SqlStore) -> None:
    found = published(store)
    (mount,) = seeing(store, found).datasets
    run = store.add_run(a_run("other"), again=False, place=nowhere)
    assert [each.id for each in store.open_runs_with_datasets()] == [run.id - 1]
    with pytest.raises(Stale):
        store.see(replace(run, version=7), [mount])
    run = store.see(run, [mount])
    assert (run.datasets, store.run(run.id)) == ((mount,), run)
    assert store.datasets.get(found.id).open_runs == (run.id - 1, run.id)
    assert len(store.open_runs_with_datasets()) == 2
    late = store.add_run(a_run("third"), again=False, place=nowhere)
    for each in store.open_runs_with_datasets():
        store.move(each, JobState.CANCELLED, at=NOON)
    store.datasets.delete(found.id, None, at=NOON)
    with pytest.raises(NotPossible):
        store.see(late, [mount])
    assert store.open_runs_with_datasets() == []


@pytest.mark.parametrize("at_once", [1, 2, 1000])
def test_all_that_may_be_used_is_told_with_whom_it_is_shared(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(rows, "AT_ONCE", at_once)
    person(store, "ana")
    person(store, "berta")
    found, other = published(store), published(store, "emg", "berta", "cd" * 32)
    arrived(store, "coming")
    shared = store.datasets.share(found.id, ["berta"], [])
    usable = store.datasets.usable()
    assert usable[:2] == [shared, other]
    assert [each.name for each in usable] == ["eeg", "emg", "coming"]
    assert store.datasets.usable([SHA, "00" * 32]) == [shared]
    assert store.datasets.usable([]) == []
    store.datasets.delete(found.id, None, at=NOON)
    assert store.datasets.usable([SHA]) == []


def test_an_upload_makes_one_version_of_many_who_send_it_at_once(store: SqlStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: arrived(store, upload="same"), range(16)))
    (found,) = store.datasets.visible(None)
    assert len(found.arriving) == 1
    assert store.datasets.made_of("ana", "same") == found
    assert store.datasets.made_of("berta", "same") is None


def test_of_a_run_and_a_deletion_at_once_one_is_refused(store: SqlStore) -> None:
    for attempt in range(6):
        found = published(store, name=f"d{attempt}")

        def submit(found: Dataset = found) -> bool:
            try:
                seeing(store, found)
            except NotPossible:
                return False
            return True

        def delete(found: Dataset = found) -> bool:
            try:
                store.datasets.delete(found.id, None, at=NOON)
            except NotPossible:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.submit(submit), pool.submit(delete)
        assert first.result() != second.result()


def test_who_may_see_it_is_its_owner_and_with_whom_it_is_shared(store: SqlStore) -> None:
    ana, berta, clara = (person(store, name) for name in ("ana", "berta", "clara"))
    found = published(store)
    group = store.people.save_group("EEG", shares=False)
    store.people.set_members(group.id, ["clara"])
    seen = [[d.id for d in store.datasets.visible(each)] for each in (ana, berta, clara)]
    assert seen == [[found.id], [], []]
    shared = store.datasets.share(found.id, ["berta"], ["EEG"])
    assert (shared.people, shared.groups) == (("berta",), ("EEG",))
    assert all(store.datasets.visible(each) for each in (ana, berta, clara))
    for people, groups in ((["nobody"], []), ([], ["none"])):
        with pytest.raises(BadRequest):
            store.datasets.share(found.id, people, groups)
    assert store.datasets.get(found.id) == shared, "nothing of it was done"
    store.people.drop_group(group.id)
    assert store.datasets.visible(clara) == []


def test_one_that_is_published_stays_so_whatever_is_told_of_it_later(store: SqlStore) -> None:
    found = published(store)
    (version,) = found.versions
    store.datasets.settle(version.id, sha256=SHA, size=90, files=2)
    store.datasets.fail(version.id, "The upload is gone.")
    assert store.datasets.get(found.id) == found


def test_names_are_one_whatever_their_case_and_each_owners_own(store: SqlStore) -> None:
    first = arrived(store, "EEG")
    assert arrived(store, "eeg").id == first.id
    assert arrived(store, "eeg", owner="berta").id != first.id
    assert len(store.datasets.visible(None, name="Eeg")) == 2


def test_a_list_goes_on_before_a_number(store: SqlStore) -> None:
    made = [arrived(store, name).id for name in ("a", "b", "c")]
    page = store.datasets.visible(None, most=2)
    assert [each.id for each in page] == made[:0:-1]
    rest = store.datasets.visible(None, before=page[-1].id)
    assert [each.id for each in rest] == made[:1]


def test_what_was_deleted_stays_named_for_the_runs_that_saw_it(store: SqlStore) -> None:
    found = published(store)
    run = seeing(store, found)
    with pytest.raises(NotPossible, match=f"not ended: {run.id}"):
        store.datasets.delete(found.id, found.versions[0].id, at=NOON)
    store.move(run, JobState.CANCELLED, at=NOON)
    assert store.datasets.unused() == []
    store.datasets.delete(found.id, None, at=NOON)
    assert store.datasets.gone([found.versions[0].id]) == {found.versions[0].id}
    with pytest.raises(NotFound):
        store.datasets.get(found.id)
    assert store.datasets.unused() == [SHA]
    assert store.datasets.clear(SHA)
    assert store.datasets.unused() == []
    assert not store.datasets.clear(SHA)
    assert store.run(run.id).datasets == run.datasets


def test_content_that_another_version_has_is_not_unused(store: SqlStore) -> None:
    first, other = published(store), published(store, "other", "berta")
    store.datasets.delete(first.id, None, at=NOON)
    assert store.datasets.unused() == []
    assert not store.datasets.clear(SHA)
    assert store.datasets.contents() == {SHA}
    store.datasets.delete(other.id, None, at=NOON)
    assert store.datasets.unused() == [SHA]


def test_a_content_counts_once_for_each_owner(store: SqlStore) -> None:
    for name, owner in (("a", "ana"), ("b", "ana"), ("c", "berta")):
        published(store, name, owner)
    arrived(store, "d", "ana")
    failed = arrived(store, "e", "ana")
    store.datasets.fail(failed.arriving[0].id, "it is damaged")
    told = store.used(since=NOON)
    assert {name: has.dataset_bytes for name, has in told.items()} == {"ana": 190, "berta": 90}
    assert told["ana"].stored_bytes == 190


def test_one_that_is_deleted_while_it_is_unpacked_leaves_its_content_to_be_removed(
    store: SqlStore,
) -> None:
    found = arrived(store)
    store.datasets.delete(found.id, None, at=NOON)
    assert store.datasets.waiting() == []
    store.datasets.settle(found.arriving[0].id, sha256=SHA, size=90, files=2)
    assert store.datasets.unused() == [SHA]
    assert store.datasets.contents() == frozenset()
