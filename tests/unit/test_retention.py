"""Claims about files of ended runs: what they take, when they go, and what stays."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import staged
from descriptors import opened_below

from nias_bridge.domain import Filter, Run
from nias_bridge.errors import NotAllowed, NotFound, NotPossible
from nias_bridge.http import create_app
from nias_bridge.node import keeping, reading
from nias_bridge.people import Role
from nias_bridge.poller import Rounds
from nias_bridge.reach import Mounted
from nias_bridge.services import administration, crate, desk, intake, retention
from nias_bridge.services import record as records
from nias_bridge.services.bridge import Bridge
from nias_bridge.slurm.fake import FakeScheduler
from nias_bridge.storage import Storage

GOES = {"project.zip", "project", "results.zip"}


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    return staged.make_bridge(tmp_path, keep_days=30, announce_days=7)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets retention believe that so many days have gone by."""

    def forward(days: int) -> None:
        class Later(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
                return datetime.now(UTC) + timedelta(days=days)

        monkeypatch.setattr(retention, "datetime", Later)

    return forward


def there(bridge: Bridge, run: Run) -> set[str]:
    return {file.name for file in staged.here(bridge).run(run).folder.iterdir()}


def again(bridge: Bridge, run: Run) -> Run:
    return bridge.store.run(run.id)


def test_a_run_is_announced_for_the_whole_notice_and_then_goes(
    bridge: Bridge, clock: Callable[[int], None]
) -> None:
    run = staged.completed(bridge)
    retention.sweep(bridge)
    assert again(bridge, run).leaves_at is None
    clock(24)
    retention.sweep(bridge)
    leaves_at = again(bridge, run).leaves_at
    assert leaves_at and 30 <= (leaves_at - run.changed_at).days <= 31
    clock(30)
    retention.sweep(bridge)
    retention.tidy(bridge)
    assert there(bridge, run) >= GOES
    clock(32)
    retention.sweep(bridge)
    assert (again(bridge, run).removed_by, again(bridge, run).leaves_at) == ("", None)
    retention.tidy(bridge)
    assert not GOES & there(bridge, run)
    _, deed = bridge.store.deeds.newest(run_id=run.id)[0]
    assert (deed.action, deed.detail) == ("run files removed", "by the site's limit")


def test_where_the_setting_is_new_old_runs_are_announced_all_the_same(
    bridge: Bridge, clock: Callable[[int], None]
) -> None:
    run = staged.completed(bridge)
    clock(300)
    retention.sweep(bridge)
    retention.sweep(bridge)
    leaves_at = again(bridge, run).leaves_at
    assert leaves_at and (leaves_at - run.changed_at).days >= 306
    assert again(bridge, run).removed_at is None


def test_pinned_runs_and_open_ones_stay(bridge: Bridge, clock: Callable[[int], None]) -> None:
    pinned, running = staged.completed(bridge), staged.running(bridge)
    clock(200)
    retention.sweep(bridge)
    assert again(bridge, pinned).leaves_at
    desk.pin(bridge, pinned.id, True)
    clock(400)
    retention.sweep(bridge)
    for run in (pinned, running):
        assert (again(bridge, run).leaves_at, again(bridge, run).removed_at) == (None, None)
    desk.pin(bridge, pinned.id, False)
    retention.sweep(bridge)
    assert again(bridge, pinned).leaves_at, "it is announced anew, with the whole notice"
    assert again(bridge, pinned).removed_at is None


def test_a_site_that_keeps_everything_takes_announcements_back(
    bridge: Bridge, clock: Callable[[int], None], tmp_path: Path
) -> None:
    run = staged.completed(bridge)
    clock(200)
    retention.sweep(bridge)
    for_ever = replace(bridge, settings=bridge.settings.model_copy(update={"keep_days": None}))
    retention.sweep(for_ever)
    assert again(bridge, run).leaves_at is None


def test_log_record_and_crate_stay_and_say_what_there_was(bridge: Bridge) -> None:
    run = staged.completed(bridge)
    before = records.record(bridge, run.id)
    retention.remove(bridge, run.id)
    retention.tidy(bridge)
    assert there(bridge, run) == {"slurm.out", "progress.json", "exit.json", "manifest.json"}
    after = records.record(bridge, run.id)
    assert after["outputs"]["files"] == before["outputs"]["files"]
    assert (before["outputs"]["removed_at"], after["outputs"]["removed_at"] is None) == (
        None,
        False,
    )
    assert after["state"] == before["state"]
    assert "peak at 50.0 Hz" in desk.tail(bridge, run)
    assert {part.name for part in crate.parts(bridge, again(bridge, run))} >= {
        "run.json",
        "log.txt",
    }


def test_a_run_whose_zip_is_gone_can_not_be_run_again_and_says_why(bridge: Bridge) -> None:
    run = staged.completed(bridge)
    retention.remove(bridge, run.id)
    for repeat in (desk.again, records.again_exactly):
        with pytest.raises(NotFound, match=r"were removed on .* its zip among them"):
            repeat(bridge, run.id)
    retention.tidy(bridge)
    with pytest.raises(NotFound, match="were removed"):
        desk.results(bridge, run.id)


def test_a_run_whose_zip_goes_while_it_is_run_again_is_not_run_without_it(bridge: Bridge) -> None:
    run = desk.with_archive(bridge, staged.completed(bridge).id)
    retention.remove(bridge, run.id)
    retention.tidy(bridge)
    with pytest.raises(NotFound, match="no longer on the shared storage"):
        intake.repeat(bridge, run)
    assert bridge.store.runs(Filter()).total == 1


def test_a_later_run_of_the_same_zip_keeps_it(bridge: Bridge) -> None:
    run = staged.completed(bridge)
    later = desk.again(bridge, run.id)
    retention.remove(bridge, run.id)
    retention.tidy(bridge)
    assert staged.here(bridge).run(later).archive.stat().st_size > 0


def test_of_a_sweep_the_tasks_files_go_too_and_their_words_stay(bridge: Bridge) -> None:
    run = staged.swept(bridge)
    files = staged.here(bridge).run(run)
    retention.clear(bridge, bridge.paths.run(run).folder)
    for index in (0, 1, 2):
        task = files.task(index)
        assert not task.project.exists()
        assert task.manifest.exists() and task.log.exists()


def test_a_folder_that_is_not_to_be_had_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "link").symlink_to(tmp_path)
    for inside in ("runs/none/1", "runs/link/1"):
        assert keeping.clear(str(tmp_path), inside, stays=[], logs="", tasks="tasks")
    assert opened_below(tmp_path) == []


def test_removal_follows_no_link_and_takes_what_is_read_only(
    bridge: Bridge, tmp_path: Path
) -> None:
    run = staged.completed(bridge)
    precious = tmp_path / "precious"
    (precious / "inner").mkdir(parents=True)
    (precious / "inner" / "file").write_text("keep me")
    folder = staged.here(bridge).run(run).folder
    (folder / "previews").symlink_to(precious)
    (folder / "project" / "link").symlink_to(precious / "inner")
    (folder / "project" / "output" / "file").symlink_to(precious / "inner" / "file")
    sealed = folder / "project" / "sealed" / "deeper"
    sealed.mkdir(parents=True)
    (sealed / "file").write_text("x")
    os.mkfifo(sealed / "pipe")
    sealed.chmod(0o500)
    sealed.parent.chmod(0o500)
    retention.remove(bridge, run.id)
    retention.tidy(bridge)
    assert (precious / "inner" / "file").read_text() == "keep me"
    assert not {"project", "previews"} & there(bridge, run)


@pytest.mark.parametrize("at", ["runs", "lab", "project", "number"])
def test_a_link_on_the_way_to_the_folder_stops_the_removal(
    bridge: Bridge, tmp_path: Path, at: str
) -> None:
    run = staged.completed(bridge)
    folder = staged.here(bridge).run(run).folder
    links = {"number": folder, "project": folder.parent}
    links |= {"lab": folder.parents[1], "runs": folder.parents[2]}
    elsewhere = tmp_path / "elsewhere"
    links[at].rename(elsewhere)
    links[at].symlink_to(elsewhere)
    retention.remove(bridge, run.id)
    retention.tidy(bridge)
    assert len(list(elsewhere.rglob("project.zip"))) == 1


def test_a_removal_that_was_cut_short_is_finished_by_the_next_turn(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = staged.completed(bridge)
    retention.remove(bridge, run.id)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(keeping, "_drop", dies)
        retention.tidy(bridge)
    assert not again(bridge, run).weighed
    retention.tidy(bridge)
    assert again(bridge, run).weighed
    assert not GOES & there(bridge, run)


def test_an_owner_deletes_her_files_an_administrator_anybodys_a_member_nobodys(
    bridge: Bridge,
) -> None:
    chief = staged.as_person(bridge, "chief", Role.ADMINISTRATOR)
    staged.as_person(bridge, "berta")
    administration.save_group(chief, "EEG", shares=True, members=["lab", "berta"])
    mine, other, running = (
        staged.completed(bridge, "mine"),
        staged.completed(bridge, "other"),
        staged.running(bridge),
    )
    with pytest.raises(NotAllowed):
        retention.remove(staged.as_person(bridge, "berta"), mine.id)
    with pytest.raises(NotFound):
        retention.remove(staged.as_person(bridge, "carla"), mine.id)
    with pytest.raises(NotPossible, match="has not ended"):
        retention.remove(bridge, running.id)
    desk.pin(bridge, mine.id, True)
    with pytest.raises(NotPossible, match="pinned"):
        retention.remove(bridge, mine.id)
    desk.pin(bridge, mine.id, False)
    assert retention.remove(bridge, mine.id).removed_by == "lab"
    assert retention.remove(chief, other.id).removed_by == "chief"
    assert retention.remove(bridge, other.id).removed_by == "chief", "who was first stays named"


def test_pages_say_until_when_files_are_kept_and_when_they_went(
    bridge: Bridge, clock: Callable[[int], None]
) -> None:
    run = staged.completed(bridge)
    web = staged.program(create_app(bridge), bridge)
    clock(24)
    retention.sweep(bridge)
    day = f"{again(bridge, run).leaves_at:%-d %B %Y}"
    for path in ("/results", f"/runs/{run.id}"):
        text = " ".join(web.get(path).get_data(as_text=True).split())
        assert "kept until <span" in text and day in text
    retention.remove(bridge, run.id)
    retention.tidy(bridge)
    text = " ".join(web.get(f"/runs/{run.id}").get_data(as_text=True).split())
    assert "The files of this run were removed on" in text and "by you" in text
    assert "spectrum.csv" in text and f'/runs/{run.id}/files/spectrum.csv"' not in text
    for gone in ('form="again"', 'form="remove"', "Download results"):
        assert gone not in text
    assert "files removed" in web.get("/results").get_data(as_text=True)
    assert web.get(f"/runs/{run.id}/files/spectrum.csv").status_code == 404


def test_the_poller_weighs_what_has_ended(bridge: Bridge) -> None:
    run = staged.completed(bridge)
    rounds = Rounds(bridge, FakeScheduler())
    rounds.tidy()
    rounds.wait_aside(10)
    assert again(bridge, run).weighed
    assert again(bridge, run).stored_bytes == reading.size_of(str(bridge.paths.run(run).folder))


def test_files_that_are_to_go_since_the_poller_began_to_weigh_them_go_at_its_next_turn(
    bridge: Bridge,
) -> None:
    run = staged.completed(bridge)

    class Slow(Mounted):
        """A storage that takes so long to weigh that somebody comes in between."""

        def call(self, operation: str, **arguments: Any) -> Any:
            answer = super().call(operation, **arguments)
            if operation == "size_of":
                retention.remove(bridge, run.id)
            return answer

    retention.tidy(replace(bridge, storage=Storage(Slow())))
    assert there(bridge, run) >= GOES
    retention.tidy(bridge)
    assert not GOES & there(bridge, run)


def test_a_program_deletes_files_too_and_is_told_since_when_they_are_gone(bridge: Bridge) -> None:
    run = staged.completed(bridge)
    web = staged.program(create_app(bridge), bridge)
    assert web.get(f"/api/v1/runs/{run.id}").get_json()["removed_at"] is None
    answer = web.post(f"/api/v1/runs/{run.id}/remove")
    assert answer.status_code == 202
    assert answer.get_json()["removed_at"]
    assert web.post(f"/api/v1/runs/{staged.running(bridge).id}/remove").status_code == 409
    stranger = staged.program(create_app(bridge), staged.as_person(bridge, "carla"))
    for path in (f"/api/v1/runs/{run.id}/remove", f"/runs/{run.id}/remove"):
        assert stranger.post(path).status_code in (400, 404)
    assert stranger.post(f"/api/v1/runs/{run.id}/remove").status_code == 404
