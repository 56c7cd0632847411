"""Claims about datasets: stored once by what they hold, seen by whom they are shared with."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import stat
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import staged
from client import zipped

from nias_bridge.datasets import Dataset
from nias_bridge.domain import JobState, Run
from nias_bridge.errors import (
    BadProjectFile,
    BadRequest,
    BadUpload,
    LeaseLost,
    NotAllowed,
    NotFound,
    NotPossible,
    OverQuota,
)
from nias_bridge.node import datasets as contents
from nias_bridge.node.operations import OPERATIONS
from nias_bridge.people import Role
from nias_bridge.reach import Mounted
from nias_bridge.services import (
    administration,
    advance,
    datasets,
    deliveries,
    desk,
    held,
    intake,
    pieces,
    quotas,
)
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.sight import Desk
from nias_bridge.slurm.fake import FakeScheduler

FILES = {"a.csv": "1,2\n", "sub/b.bin": b"\0\1\2", "ä.txt": "x"}


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    return staged.make_bridge(tmp_path)


@pytest.fixture
def bob(bridge: Bridge) -> Bridge:
    return staged.as_person(bridge, "bob")


def sent(bridge: Bridge, body: bytes) -> Path:
    return Path(staged.arrived(bridge, body))


def submitted(bridge: Bridge, *named: str, project: str = "study", **how: Any) -> Run:
    words = ", ".join(f'"{each}"' for each in named)
    files = {"code.py": "", "nias.toml": f"[job]\ndatasets = [{words}]\n"}
    return intake.receive(bridge, sent(bridge, zipped(project, files)), f"{project}.zip", **how)


def there(bridge: Bridge) -> list[str]:
    """What there is of contents, and of work on them."""
    return sorted(path.name for path in staged.here(bridge).dataset_contents.iterdir())


def uploads(bridge: Bridge) -> list[Path]:
    return list(staged.here(bridge).uploads.iterdir())


def share(bridge: Bridge, found: Dataset, *people: str, groups: tuple[str, ...] = ()) -> None:
    datasets.share(bridge, found.id, people, groups)


# What it is


def test_a_version_is_what_sha256sum_says_of_its_files(bridge: Bridge, tmp_path: Path) -> None:
    version = staged.dataset(bridge, "eeg", FILES).versions[0]
    for path, content in FILES.items():
        (tmp_path / "eeg" / path).parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / "eeg" / path).write_bytes(data)
    command = (
        "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    )
    told = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path / "eeg", capture_output=True, text=True, check=True
    )
    assert version.sha256 == told.stdout.split()[0]
    assert (version.files, version.size) == (3, 8)


def test_the_same_files_are_the_same_version_whatever_zipped_them(bridge: Bridge) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as made:
        for path in sorted(FILES, reverse=True):
            entry = zipfile.ZipInfo(path, (1999, 1, 1, 0, 0, 0))
            entry.external_attr = 0o777 << 16
            made.writestr(entry, FILES[path])
        made.writestr("__MACOSX/._a.csv", "of the Mac's own")
    first = staged.dataset(bridge, "eeg", FILES)
    deliveries.put(bridge, sent(bridge, packed.getvalue()), "any.zip", "other")
    deliveries.deliver(bridge)
    (other,) = datasets.visible(bridge, name="other")
    assert other.versions[0].sha256 == first.versions[0].sha256
    assert there(bridge) == [first.versions[0].sha256]


def test_a_single_file_is_kept_as_it_is(bridge: Bridge) -> None:
    body = zipped("a", {"b": "c"})
    made = deliveries.put(bridge, sent(bridge, body), "night.npz", "")
    deliveries.deliver(bridge)
    found = bridge.store.datasets.get(made.id)
    assert found.name == "night.npz"
    (file,) = datasets.files(bridge, found, found.versions[0])
    assert (file.path, file.size) == ("night.npz", len(body))
    assert file.sha256 == hashlib.sha256(body).hexdigest()


def test_what_is_published_can_not_be_written_to_and_its_door_is_closed(bridge: Bridge) -> None:
    staged.dataset(bridge, "eeg", FILES)
    place = staged.here(bridge).dataset_contents
    found = [*place.glob("*"), *place.glob("*/**/*")]
    assert len(found) == 7
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in found}
    assert {modes.pop(door) for door in place.glob("*")} == {0o500}
    assert set(modes.values()) == {0o555, 0o444}


def test_other_content_is_a_new_version_and_the_newest_is_meant(bridge: Bridge) -> None:
    old = staged.dataset(bridge, "eeg", FILES).versions[0]
    new = staged.dataset(bridge, "eeg", {**FILES, "c": "3"})
    assert [each.id for each in new.versions][1:] == [old.id]
    (mount,) = datasets.resolve(bridge, ["eeg"])
    assert mount.sha256 == new.versions[0].sha256 != old.sha256
    (mount,) = datasets.resolve(bridge, [f"eeg@{old.sha256[:6]}"])
    assert mount.sha256 == old.sha256


def test_the_newest_version_sent_again_is_no_new_one(bridge: Bridge) -> None:
    before = staged.dataset(bridge, "eeg", FILES)
    again = staged.dataset(bridge, "EEG", FILES)
    assert again == before


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "-a", "ä", "a b", "x" * 65, "a\n"])
def test_a_name_is_safe_in_a_path(bridge: Bridge, name: str) -> None:
    with pytest.raises(BadRequest, match="no name for a dataset"):
        deliveries.put(bridge, sent(bridge, zipped("d", FILES)), f"{name}.zip", name or "..")
    assert uploads(bridge) == []


# What comes from strangers


def link(name: str, target: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(entry, target)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (link("d/a", "/etc/passwd"), "is a link"),
        (zipped("..", {"a": "1"}), "leads out"),
        (zipped("d", {"a": "1", "A": "2"}), "differ only in case"),
        (zipped("d", {"zeros": b"\0" * 20_000_000}), "times its size"),
        (zipped("d", {str(n): "" for n in range(40)}), "holds 40 files"),
        (zipped("d", {"large": os.urandom(2_000_000)}), "at most"),
        (zipped("d", {}), "holds no files"),
        (b"no zip at all", "zip"),
    ],
)
def test_a_hostile_zip_is_refused_at_once_and_nothing_is_kept(
    tmp_path: Path, body: bytes, why: str
) -> None:
    bridge = staged.make_bridge(tmp_path, dataset_max_files=30, dataset_max_bytes=1_000_000)
    if "times" in why:
        bridge = replace(bridge, settings=bridge.settings.model_copy(
            update={"dataset_max_bytes": 100_000_000}))  # fmt: skip
    with pytest.raises(BadUpload, match=why):
        deliveries.put(bridge, sent(bridge, body), "d.zip", "d")
    assert uploads(bridge) == []
    assert datasets.visible(bridge) == []


def test_a_damaged_zip_is_told_and_publishes_nothing(bridge: Bridge) -> None:
    body = bytearray(zipped("d", {"a": os.urandom(5000)}))
    body[2000] ^= 1
    made = deliveries.put(bridge, sent(bridge, bytes(body)), "d.zip", "d")
    deliveries.deliver(bridge)
    found = bridge.store.datasets.get(made.id)
    assert found.versions == ()
    assert "damaged" in found.arriving[0].problem
    assert there(bridge) == []
    assert uploads(bridge) == []
    with pytest.raises(BadRequest, match=r"could not be unpacked: .*damaged"):
        datasets.resolve(bridge, ["d"])
    datasets.delete(bridge, found.id)
    assert datasets.visible(bridge) == []


# Whatever is stopped on the way


def stop(*_args: object, **_more: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("place", "where"), [(contents.archive, "write"), (Path, "rename")])
def test_unpacking_that_was_killed_is_done_anew_and_leaves_nothing(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch, place: object, where: str
) -> None:
    deliveries.put(bridge, sent(bridge, zipped("d", FILES)), "d.zip", "d")
    with monkeypatch.context() as patched:
        patched.setattr(place, where, stop)
        patched.setattr(contents, "_remove", lambda _folder: None)  # a killed one tidies nothing
        with pytest.raises(KeyboardInterrupt):
            deliveries.deliver(bridge)
    (left,) = there(bridge)
    assert left.startswith(".arriving-")
    assert datasets.visible(bridge)[0].versions == ()
    deliveries.deliver(bridge)
    (found,) = datasets.visible(bridge)
    assert there(bridge) == [found.versions[0].sha256]


def test_one_killed_between_content_and_row_finds_the_content_there(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliveries.put(bridge, sent(bridge, zipped("d", FILES)), "d.zip", "d")
    with monkeypatch.context() as patched:
        patched.setattr(type(bridge.store.datasets), "settle", stop)
        with pytest.raises(KeyboardInterrupt):
            deliveries.deliver(bridge)
    before = there(bridge)
    deliveries.deliver(bridge)
    (found,) = datasets.visible(bridge)
    assert there(bridge) == before == [found.versions[0].sha256]
    assert uploads(bridge) == []


def test_two_pollers_do_not_unpack_one_upload_at_once(bridge: Bridge) -> None:
    part = sent(bridge, zipped("d", FILES))
    deliveries.put(bridge, part, "d.zip", "d")
    with part.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        deliveries.deliver(bridge)
        assert there(bridge) == []
    deliveries.deliver(bridge)
    assert len(there(bridge)) == 1


def test_what_no_row_tells_of_is_swept_and_what_one_does_is_not(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = staged.dataset(bridge, "eeg", FILES).versions[0].sha256
    place = staged.here(bridge).dataset_contents
    for name in ("0" * 64, ".arriving-gone"):
        (place / name / "files").mkdir(parents=True)
        (place / name).chmod(0o550)
    deliveries.sweep(bridge)
    assert len(there(bridge)) == 3, "it may be another process's work"
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 7200)
    deliveries.sweep(bridge)
    assert there(bridge) == [kept]


def test_an_upload_that_waits_to_be_unpacked_is_not_swept_as_forgotten(bridge: Bridge) -> None:
    part = sent(bridge, zipped("d", FILES))
    deliveries.put(bridge, part, "d.zip", "d")
    old = time.time() - 2 * held.HELD_SECONDS
    os.utime(part, (old, old))
    held.sweep(bridge)
    deliveries.deliver(bridge)
    assert datasets.visible(bridge)[0].versions


def test_one_that_can_not_be_read_now_holds_up_no_other(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        deliveries.put(bridge, sent(bridge, zipped(name, {"a": name})), f"{name}.zip", name)
    publish = Mounted.call

    def troubled(reach: Mounted, operation: str, **arguments: Any) -> Any:
        if arguments.get("filename") == "one.zip":
            raise OSError(5, "Input/output error")
        return publish(reach, operation, **arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Mounted, "call", troubled)
        deliveries.deliver(bridge)
    assert [each.name for each in datasets.visible(bridge) if each.versions] == ["two"]
    deliveries.deliver(bridge)
    assert all(each.versions for each in datasets.visible(bridge))


def test_a_full_disk_is_told(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    deliveries.put(bridge, sent(bridge, zipped("d", FILES)), "d.zip", "d")

    def full(*_args: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(contents.archive, "write", full)
        deliveries.deliver(bridge)
    assert "no room" in datasets.visible(bridge)[0].arriving[0].problem
    assert there(bridge) == []


# Who may


def test_nobody_sees_what_is_not_shared(bridge: Bridge, bob: Bridge) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    assert datasets.visible(bob) == datasets.usable(bob) == []
    for use in (datasets.find, datasets.find_own, datasets.delete):
        with pytest.raises(NotFound):
            use(bob, found.id)
    with pytest.raises(NotFound):
        datasets.share(bob, found.id, ["bob"], [])
    for word in ("eeg", "lab/eeg", f"lab/eeg@{found.versions[0].short}"):
        with pytest.raises(BadProjectFile, match="is no dataset of yours"):
            submitted(bob, word)


def test_who_it_is_shared_with_uses_it_and_changes_nothing(bridge: Bridge, bob: Bridge) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    share(bridge, found, "bob@lab.org")
    assert [each.name for each in datasets.usable(bob)] == ["eeg"]
    run = submitted(bob, "eeg")
    assert [mount.word for mount in run.datasets] == [f"lab/eeg@{found.versions[0].short}"]
    for change in (
        lambda: datasets.delete(bob, found.id),
        lambda: datasets.share(bob, found.id, [], []),
    ):
        with pytest.raises(NotAllowed):
            change()


def test_sharing_with_a_group_is_with_who_is_in_it_now(bridge: Bridge, bob: Bridge) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    admin = staged.as_person(bridge, "root", Role.ADMINISTRATOR)
    group = administration.save_group(admin, "EEG lab", shares=False, members=["lab"])
    share(bridge, found, groups=("EEG lab",))
    assert datasets.usable(bob) == []
    bridge.store.people.set_members(group.id, ["lab", "bob"])
    assert datasets.usable(bob) != []
    assert datasets.find(bob, found.id).groups == ("EEG lab",)
    administration.drop_group(admin, group.id)
    assert datasets.usable(bob) == []


def test_one_shares_with_groups_of_ones_own(bridge: Bridge, bob: Bridge) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    admin = staged.as_person(bridge, "root", Role.ADMINISTRATOR)
    administration.save_group(admin, "others", shares=False, members=["bob"])
    with pytest.raises(BadRequest, match="in no group called others"):
        share(bridge, found, groups=("others",))
    with pytest.raises(BadRequest, match="Nobody here is known as eve"):
        share(bridge, found, "eve")
    datasets.share(admin, found.id, [], ["others"])
    assert datasets.usable(bob) != []


def test_sharing_that_is_taken_away_ends_new_use_and_no_run_that_was_accepted(
    bridge: Bridge, bob: Bridge
) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    share(bridge, found, "bob")
    run = submitted(bob, "eeg")
    share(bridge, found)
    with pytest.raises(BadProjectFile, match="is no dataset of yours"):
        submitted(bob, "eeg", project="other")
    with pytest.raises(NotPossible, match="no longer shared with you"):
        desk.again(bob, run.id)
    assert bob.store.run(run.id).datasets == run.datasets


def test_of_two_by_one_name_ones_own_is_meant_and_of_others_none(
    bridge: Bridge, bob: Bridge
) -> None:
    eve = staged.as_person(bridge, "eve")
    for whose, more in ((bridge, "1"), (bob, "2")):
        share(whose, staged.dataset(whose, "eeg", {"a": more}), "eve")
    with pytest.raises(BadProjectFile, match="may be bob/eeg or lab/eeg: say which"):
        submitted(eve, "eeg")
    assert submitted(eve, "bob/eeg").datasets[0].owner == "bob"
    own = staged.dataset(eve, "eeg", {"a": "3"})
    assert submitted(eve, "eeg", project="p").datasets[0].sha256 == own.versions[0].sha256
    with pytest.raises(BadProjectFile, match=r"would both be \$NIAS_DATA/eeg"):
        submitted(eve, "eeg", "bob/eeg", project="q")


def test_an_administrator_looks_after_all_and_uses_what_is_hers(
    bridge: Bridge, bob: Bridge
) -> None:
    found = staged.dataset(bob, "eeg", FILES)
    admin = staged.as_person(bridge, "root", Role.ADMINISTRATOR)
    assert [each.id for each in datasets.visible(admin)] == [found.id]
    with pytest.raises(BadProjectFile):
        submitted(admin, "bob/eeg")
    datasets.delete(admin, found.id)
    assert datasets.visible(bob) == []


# What runs see


def test_a_run_keeps_the_version_that_was_the_newest_when_it_was_accepted(bridge: Bridge) -> None:
    old = staged.dataset(bridge, "eeg", FILES)
    run = submitted(bridge, "eeg")
    staged.dataset(bridge, "eeg", {"a": "other"})
    again = desk.again(bridge, run.id)
    for each in (run, again):
        assert [mount.sha256 for mount in each.datasets] == [old.versions[0].sha256]
    staged_run = advance.advance(
        Desk(bridge, FakeScheduler(), lambda: datetime.now(UTC), None, {}), again
    )
    assert staged_run.state is JobState.STAGED
    written = staged.here(bridge).run(again).seen.read_text()
    assert written == f'{{"eeg": "{old.versions[0].sha256}"}}'


def test_what_the_form_says_goes_before_what_the_project_says(bridge: Bridge) -> None:
    for name in ("eeg", "emg"):
        staged.dataset(bridge, name, {name: name})
    assert [m.name for m in submitted(bridge, "eeg", seen=["emg"]).datasets] == ["emg"]
    assert submitted(bridge, "eeg", seen=[], again=True).datasets == ()
    with pytest.raises(BadRequest, match="is no dataset"):
        submitted(bridge, "eeg", seen=["ecg"], again=True)


def test_what_is_not_unpacked_yet_can_not_be_seen(bridge: Bridge) -> None:
    deliveries.put(bridge, sent(bridge, zipped("eeg", FILES)), "eeg.zip", "eeg")
    with pytest.raises(BadProjectFile, match="is still being unpacked"):
        submitted(bridge, "eeg")
    deliveries.deliver(bridge)
    with pytest.raises(BadProjectFile, match="has no version 0123"):
        submitted(bridge, "eeg@0123")


# What goes


def test_what_an_open_run_sees_is_not_deleted(bridge: Bridge) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    run = submitted(bridge, "eeg")
    for version_id in (None, found.versions[0].id):
        with pytest.raises(NotPossible, match=f"runs that have not ended: {run.id}"):
            datasets.delete(bridge, found.id, version_id)
    staged.move(bridge, run, JobState.CANCELLED)
    datasets.delete(bridge, found.id)
    (seen,) = datasets.seen(bridge, bridge.store.run(run.id))
    assert seen.gone and seen.mount.name == "eeg"
    with pytest.raises(NotPossible, match="was deleted"):
        desk.again(bridge, run.id)


def test_a_version_that_goes_just_before_the_run_refuses_the_run(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    resolve = datasets.resolve

    def slowly(asked: Bridge, words: Any) -> Any:
        mounts = resolve(asked, words)
        datasets.delete(bridge, found.id)
        return mounts

    monkeypatch.setattr(datasets, "resolve", slowly)
    with pytest.raises(NotPossible, match=r"was deleted\. Nothing was submitted"):
        submitted(bridge, "eeg")
    assert bridge.store.run_states().total() == 0


def test_content_goes_with_the_last_that_has_it(bridge: Bridge, bob: Bridge) -> None:
    mine, his = staged.dataset(bridge, "eeg", FILES), staged.dataset(bob, "own", FILES)
    (sha256,) = there(bridge)
    datasets.delete(bridge, mine.id)
    deliveries.deliver(bridge)
    assert there(bridge) == [sha256]
    datasets.delete(bob, his.id)
    deliveries.deliver(bridge)
    assert there(bridge) == []
    assert staged.dataset(bob, "own", FILES).versions[0].sha256 == sha256, "and can come again"
    assert there(bridge) == [sha256]


def test_removing_that_was_killed_leaves_no_half_of_a_content(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    datasets.delete(bridge, found.id)
    remove: Callable[[Path], None] = contents._remove

    def stop_at(folder: Path) -> None:
        if folder.exists():
            raise KeyboardInterrupt
        remove(folder)

    with monkeypatch.context() as patched:
        patched.setattr(contents, "_remove", stop_at)
        with pytest.raises(KeyboardInterrupt):
            deliveries.deliver(bridge)
    assert found.versions[0].sha256 not in there(bridge)
    assert len(there(bridge)) == 1
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 7200)
    deliveries.sweep(bridge)
    assert there(bridge) == []


@pytest.mark.parametrize("stands_still", ["before it is cleared", "before it is dropped"])
def test_what_comes_again_while_the_poller_stands_still_stays(
    stands_still: str, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    datasets.delete(bridge, found.id)
    rows, drop = type(bridge.store.datasets), contents.OPERATIONS["drop_dataset"]
    clear = rows.clear

    def come_again() -> None:
        monkeypatch.undo()
        staged.dataset(bridge, "again", FILES)

    def clear_late(self: Any, sha256: str) -> bool:
        come_again()
        return clear(self, sha256)

    def drop_late(**asked: Any) -> None:
        come_again()
        drop(**asked)

    if stands_still == "before it is cleared":
        monkeypatch.setattr(rows, "clear", clear_late)
    else:
        monkeypatch.setitem(OPERATIONS, "drop_dataset", drop_late)
    deliveries.deliver(bridge)
    (again,) = datasets.visible(bridge)
    assert there(bridge) == [again.versions[0].sha256] == [found.versions[0].sha256]
    datasets.delete(bridge, again.id)
    deliveries.deliver(bridge)
    assert there(bridge) == []


def test_a_poller_that_lost_its_lease_removes_no_content_which_may_have_come_again(
    bridge: Bridge,
) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    datasets.delete(bridge, found.id)
    assert bridge.store.hold_lease("another", now=datetime.now(UTC), seconds=60)
    with pytest.raises(LeaseLost):
        deliveries.deliver(replace(bridge, store=bridge.store.held_by("this")))
    assert there(bridge) == [found.versions[0].sha256]


def test_one_version_goes_and_the_others_stay(bridge: Bridge) -> None:
    old = staged.dataset(bridge, "eeg", FILES).versions[0]
    staged.dataset(bridge, "eeg", {"a": "1"})
    (found,) = datasets.visible(bridge)
    datasets.delete(bridge, found.id, found.versions[0].id)
    assert datasets.find(bridge, found.id).versions == (old,)
    with pytest.raises(NotFound):
        datasets.delete(bridge, found.id, found.versions[0].id)


def test_a_dataset_made_anew_is_shared_with_nobody(bridge: Bridge, bob: Bridge) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    share(bridge, found, "bob")
    datasets.delete(bridge, found.id)
    staged.dataset(bridge, "eeg", {"a": "secret"})
    assert datasets.usable(bob) == []


# What it takes


def test_a_content_counts_once_for_each_owner(bridge: Bridge, bob: Bridge) -> None:
    body: Mapping[str, bytes] = {"a": b"x" * 1000}
    for whose, name in ((bridge, "one"), (bridge, "two"), (bob, "three")):
        staged.dataset(whose, name, body)
    for whose in (bridge, bob):
        has = quotas.used(whose, whose.person)
        assert (has.stored_bytes, has.dataset_bytes) == (1000, 1000)


def test_a_dataset_beyond_the_limit_is_refused_with_the_figures(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path, quota_stored_bytes=1500)
    staged.dataset(bridge, "one", {"a": b"x" * 1000})
    with pytest.raises(OverQuota, match=r"runs and datasets take 1\.0 kB of the 1\.5 kB"):
        staged.dataset(bridge, "two", {"a": b"y" * 1000})


def test_the_administrators_page_tells_runs_and_datasets_apart(bridge: Bridge) -> None:
    staged.dataset(bridge, "one", {"a": b"x" * 1000})
    told = administration.storage(staged.as_person(bridge, "root", Role.ADMINISTRATOR))
    assert (told.runs, told.datasets) == (0, 1000)


def test_what_was_done_is_in_the_audit_log(bridge: Bridge) -> None:
    found = staged.dataset(bridge, "eeg", FILES)
    share(bridge, found, "lab")
    datasets.delete(bridge, found.id)
    done = [deed.action for _, deed in bridge.store.deeds.newest(most=3)]
    assert done == ["dataset deleted", "dataset shared", "dataset put"]


def test_what_came_in_pieces_is_one_version_though_it_is_named_twice_at_once(
    bridge: Bridge,
) -> None:
    both = threading.Barrier(2)

    def put(upload: str) -> int:
        both.wait(30)
        made = deliveries.put_pieces(bridge, upload, "eeg")
        deliveries.deliver(bridge)  # by which the upload goes
        return made.id

    for number in range(10):
        body = zipped("eeg", {"a.csv": str(number)})
        begun = pieces.begin(bridge, len(body), "eeg.zip", kind=pieces.DATASET)
        pieces.append(bridge, begun.id, 0, [body])
        with ThreadPoolExecutor(2) as pool:
            assert len(set(pool.map(put, [begun.id] * 2))) == 1
        (found,) = datasets.visible(bridge)
        assert (len(found.versions), found.arriving) == (number + 1, ())
