"""What the store promises about runs, in each database."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text

from nias_bridge.domain import Contents, Filter, JobState, NewRun, Resources, Run, SlurmReport
from nias_bridge.errors import NotFound, ProjectExists, Stale
from nias_bridge.naming import slug
from nias_bridge.store import SqlStore
from nias_bridge.store.engine import writing

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
tokens = (f"t{number}" for number in itertools.count())


def nowhere(_: Run) -> None:
    """There are no files in these tests."""


def a_run(project: str = "EMG", owner: str = "lab", at: datetime = NOON) -> NewRun:
    return NewRun(
        owner=owner,
        project=project,
        slug=slug(project),
        token=next(tokens),
        resources=Resources(time="30", gpus=1, requeue=True),
        contents=Contents(
            sha256="ab", size=10, unpacked_size=20, files=2, requirements=("numpy==2.0",)
        ),
        created_at=at,
    )


@pytest.fixture
def add(store: SqlStore) -> Callable[..., Run]:
    return lambda *args, **kwargs: store.add_run(a_run(*args, **kwargs), again=True, place=nowhere)


def test_a_new_run_is_read_as_it_was_given(store: SqlStore) -> None:
    new = a_run("Análise 2")
    run = store.add_run(new, again=False, place=nowhere)
    assert (run.number, run.state, run.version) == (1, JobState.RECEIVED, 0)
    assert (run.owner, run.project, run.slug, run.token) == (
        new.owner,
        new.project,
        new.slug,
        new.token,
    )
    assert (run.resources, run.contents) == (new.resources, new.contents)
    assert run.created_at == run.changed_at == NOON
    assert store.run(run.id) == run


def test_a_known_name_is_refused_and_names_the_next_number(store: SqlStore) -> None:
    first = store.add_run(a_run("Análise"), again=False, place=nowhere)
    with pytest.raises(ProjectExists, match="“Análise”") as refused:
        store.add_run(a_run("ANÁLISE"), again=False, place=nowhere)
    assert refused.value.next_number == 2
    assert store.runs(Filter()).runs == (first,)
    assert store.next_number("lab", "análise") == 2


def test_another_run_of_a_project_takes_its_first_name_and_folder(store: SqlStore) -> None:
    first = store.add_run(a_run("Emg"), again=False, place=nowhere)
    second = store.add_run(a_run("EMG"), again=True, place=nowhere)
    assert (second.project, second.slug, second.number) == (first.project, first.slug, 2)


def test_two_owners_may_have_a_project_of_one_name(store: SqlStore) -> None:
    for owner in ("anna", "bento"):
        assert store.add_run(a_run(owner=owner), again=False, place=nowhere).number == 1


def test_asking_for_again_where_there_is_nothing_makes_run_1(store: SqlStore) -> None:
    assert store.next_number("lab", "EMG") == 1
    assert store.add_run(a_run(), again=True, place=nowhere).number == 1


def test_files_that_can_not_be_placed_undo_the_row(store: SqlStore) -> None:
    def full_disk(run: Run) -> None:
        assert run.number == 1
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.add_run(a_run(), again=False, place=full_disk)
    assert store.runs(Filter()).total == 0
    assert store.add_run(a_run(), again=False, place=nowhere).number == 1


@pytest.mark.parametrize("run_id", [0, -1, 99, 2**31, 10**30])
def test_a_run_that_is_not_there_is_told(store: SqlStore, run_id: int) -> None:
    with pytest.raises(NotFound, match=f"There is no run {run_id}"):
        store.run(run_id)


def test_times_come_back_in_utc_whatever_zone_they_were_given_in(
    store: SqlStore, add: Callable[..., Run]
) -> None:
    run = add(at=NOON.astimezone(timezone(timedelta(hours=-3))))
    assert run.created_at == NOON
    assert run.created_at.utcoffset() == timedelta(0)
    assert run.created_at.microsecond == NOON.microsecond


def test_a_time_without_a_zone_is_a_mistake(add: Callable[..., Run]) -> None:
    with pytest.raises(Exception, match="no time zone"):
        add(at=NOON.replace(tzinfo=None))


def test_a_move_is_written_with_its_event(store: SqlStore, add: Callable[..., Run]) -> None:
    run = add()
    later, last = NOON + timedelta(seconds=5), NOON + timedelta(seconds=9)
    staged = store.move(run, JobState.STAGED, at=later)
    moved = store.move(staged, JobState.SUBMITTING, at=last, submissions=1, note="Trying.")
    assert moved == store.run(run.id)
    assert moved == replace(
        run,
        state=JobState.SUBMITTING,
        changed_at=last,
        submissions=1,
        note="Trying.",
        version=2,
    )
    assert [(e.at, e.state, e.note) for e in store.events(run.id)] == [
        (NOON, JobState.RECEIVED, ""),
        (later, JobState.STAGED, ""),
        (last, JobState.SUBMITTING, "Trying."),
    ]


def test_a_move_that_the_states_do_not_allow_is_a_mistake(
    store: SqlStore, add: Callable[..., Run]
) -> None:
    run = add()
    with pytest.raises(ValueError, match="from RECEIVED to RUNNING"):
        store.move(run, JobState.RUNNING, at=NOON)
    assert store.run(run.id) == run
    assert len(store.events(run.id)) == 1


@pytest.mark.parametrize("field", ["state", "version", "token", "number", "nonsense"])
def test_what_identifies_a_run_is_not_changed(
    store: SqlStore, add: Callable[..., Run], field: str
) -> None:
    with pytest.raises(ValueError, match=field):
        store.update(add(), **{field: 1})


def test_an_update_keeps_state_and_the_time_of_its_change(
    store: SqlStore, add: Callable[..., Run]
) -> None:
    run = add()
    report = SlurmReport(
        job_id=7, name="nias-t-EMG", state=JobState.RUNNING, started_at=NOON, cpu_time=1.5
    )
    written = store.update(run, report=report, missing_since=NOON)
    assert written == replace(run, report=report, missing_since=NOON, version=1)
    assert store.update(written, report=None).report is None
    assert len(store.events(run.id)) == 1


def test_who_read_an_older_version_can_not_write(store: SqlStore, add: Callable[..., Run]) -> None:
    run = add()
    store.move(run, JobState.STAGED, at=NOON)
    with pytest.raises(Stale):
        store.move(run, JobState.CANCELLED, at=NOON)
    with pytest.raises(Stale):
        store.update(run, note="late")
    assert store.run(run.id).state is JobState.STAGED
    assert len(store.events(run.id)) == 2


def test_a_wish_to_cancel_is_kept_once_and_never_makes_the_poller_stale(
    store: SqlStore, add: Callable[..., Run]
) -> None:
    run = add()
    asked = store.ask_cancel(run.id, at=NOON)
    assert asked.cancel_asked_at == NOON
    assert store.ask_cancel(run.id, at=NOON + timedelta(hours=1)) == asked
    moved = store.move(run, JobState.STAGED, at=NOON)
    assert moved.cancel_asked_at == NOON


def test_an_ended_run_takes_no_wish(store: SqlStore, add: Callable[..., Run]) -> None:
    ended = store.move(add(), JobState.CANCELLED, at=NOON)
    assert store.ask_cancel(ended.id, at=NOON) == ended
    with pytest.raises(NotFound):
        store.ask_cancel(ended.id + 1, at=NOON)


def test_text_from_anywhere_can_be_stored(store: SqlStore, add: Callable[..., Run]) -> None:
    strange = "nul \0, half a pair \udcff, sinal 📈"
    report = SlurmReport(job_id=1, name="n", state=JobState.RUNNING, reason=strange)
    run = store.update(add(), note=strange, report=report)
    assert run.note == "nul ?, half a pair ?, sinal 📈"
    assert run.report == report


def test_nouns_written_by_another_version_are_read(
    store: SqlStore, add: Callable[..., Run]
) -> None:
    run = add()
    with writing(store._engine) as connection:
        connection.execute(text("""UPDATE runs SET resources = '{"cpus": 3, "shiny": true}'"""))
    assert store.run(run.id).resources == Resources(cpus=3)


def test_open_runs_are_those_that_have_not_ended_oldest_first(
    store: SqlStore, add: Callable[..., Run]
) -> None:
    late, early, ended = add(at=NOON + timedelta(hours=1)), add(), add()
    store.move(ended, JobState.CANCELLED, at=NOON)
    assert store.open_runs() == [early, late]
    staged = store.move(late, JobState.STAGED, at=NOON)
    assert store.open_runs(frozenset({JobState.STAGED, JobState.CANCELLED})) == [staged]
    assert store.open_runs(frozenset()) == []


def test_a_list_comes_in_pages_newest_first(store: SqlStore, add: Callable[..., Run]) -> None:
    added = [add(at=NOON + timedelta(minutes=minute)) for minute in (3, 1, 2, 2)]
    newest_first = (added[0], added[3], added[2], added[1])
    page = store.runs(Filter(per_page=3))
    assert (page.runs, page.total, page.pages) == (newest_first[:3], 4, 2)
    assert store.runs(Filter(per_page=3, page=2)).runs == newest_first[3:]
    assert store.runs(Filter(per_page=3, page=3)).runs == ()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("emg", {"EMG 1", "Análise EMG", "emg_1"}),
        ("ANÁLISE", {"Análise EMG"}),
        ("Ana\u0301lise", {"Análise EMG"}),
        ("ana", set()),
        ("g_1", {"emg_1"}),
        ("%", set()),
        ("g\\", set()),
        ("", {"EMG 1", "Análise EMG", "emg_1", "ЭКГ"}),
        ("экг", {"ЭКГ"}),
    ],
)
def test_text_is_looked_for_in_names_whatever_the_case(
    store: SqlStore, add: Callable[..., Run], wanted: str, found: set[str]
) -> None:
    for name in ("EMG 1", "Análise EMG", "emg_1", "ЭКГ"):
        add(name)
    page = store.runs(Filter(text=wanted))
    assert {run.project for run in page.runs} == found
    assert page.total == len(found)


def test_a_list_can_be_of_one_owner_and_of_some_states(
    store: SqlStore, add: Callable[..., Run]
) -> None:
    anna, bento = add(owner="anna"), add(owner="bento")
    ended = store.move(bento, JobState.CANCELLED, at=NOON)
    assert store.runs(Filter(owners=frozenset({"anna"}))).runs == (anna,)
    wanted = frozenset({JobState.CANCELLED, JobState.FAILED})
    assert store.runs(Filter(states=wanted)).runs == (ended,)
    assert store.runs(Filter(states=wanted, owners=frozenset({"anna"}))).total == 0


def test_a_pin_stays_on_a_run_and_makes_no_move_stale(store: SqlStore) -> None:
    run = store.add_run(a_run("EMG"), again=False, place=nowhere)
    other = store.add_run(a_run("ECG"), again=False, place=nowhere)
    assert store.pin(run.id, True).pinned
    assert not other.pinned
    moved = store.move(run, JobState.STAGED, at=NOON)
    assert moved.pinned
    assert [r.id for r in store.runs(Filter(pinned=True)).runs] == [run.id]
    assert not store.pin(run.id, False).pinned
    with pytest.raises(NotFound):
        store.pin(77, True)
