"""Several writers at the same moment: processes, each with a store of its own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.synchronize import Barrier
from operator import attrgetter
from typing import Any, TypeVar

import pytest

from nias_bridge.datasets import Dataset, Mount
from nias_bridge.domain import Contents, Filter, JobState, NewRun, Resources, Run, SubmissionKey
from nias_bridge.errands import Errand, ErrandKind, Hook
from nias_bridge.errors import OverQuota, ProjectExists, Stale
from nias_bridge.people import Admission, KeyKind, NewKey, NewPerson, Person, Role, Standing, Used
from nias_bridge.store import SqlStore, open_store
from nias_bridge.store.schema import upgrade

Answer = TypeVar("Answer")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
WRITERS = 4
RUNS_EACH = 5
TURNS = 40
HANDLES = ("ana", "bento", "carla", "dora")  # of each writer one

_gate: Barrier


def _open_gate(gate: Barrier) -> None:
    global _gate  # noqa: PLW0603  # what a pool's initializer is for
    _gate = gate


def _at_the_gate(act: Callable[[int], Answer], writer: int) -> Answer:
    _gate.wait(timeout=120)
    return act(writer)


@pytest.fixture(scope="module")
def everybody() -> Iterator[Callable[[Callable[[int], Answer]], list[Answer]]]:
    """Calls a function in WRITERS processes at the same moment; returns their answers."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nias_bridge.store", "psycopg"])
    gate = context.Barrier(WRITERS)
    with ProcessPoolExecutor(
        WRITERS, mp_context=context, initializer=_open_gate, initargs=(gate,)
    ) as pool:
        yield lambda act: list(pool.map(partial(_at_the_gate, act), range(WRITERS)))


def _new(token: str, project: str = "EMG") -> NewRun:
    return NewRun(
        owner="lab",
        project=project,
        slug=project,
        token=token,
        resources=Resources(),
        contents=Contents(sha256="", size=1, unpacked_size=1, files=1),
        created_at=NOW,
    )


def _nowhere(_: Run) -> None:
    pass


def _add_again(url: str, writer: int) -> list[int]:
    store = open_store(url)
    return [
        store.add_run(_new(f"{writer}-{turn}"), again=True, place=_nowhere).number
        for turn in range(RUNS_EACH)
    ]


def _add_first(url: str, writer: int) -> str:
    store = open_store(url)
    try:
        store.add_run(_new(str(writer)), again=False, place=lambda _: time.sleep(0.05))
    except ProjectExists as error:
        return f"run {error.next_number} next"
    return "added"


def _add_new_projects(url: str, writer: int) -> list[int]:
    store = open_store(url)
    numbers = []
    for turn in range(TURNS):
        _gate.wait(timeout=120)
        new = _new(f"{writer}-new-{turn}", f"New{turn}")
        numbers.append(store.add_run(new, again=True, place=_nowhere).number)
    return numbers


def _stage(url: str, run: Run, _writer: int) -> str:
    try:
        open_store(url).move(run, JobState.STAGED, at=NOW)
    except Stale:
        return "stale"
    return "moved"


def _in_turns(url: str, act: Callable[[SqlStore, int, int], Any], writer: int) -> list[Any]:
    """What `act` answers in each of TURNS turns, or the name of the error that it raises."""
    store = open_store(url)
    told: list[Any] = []
    for turn in range(TURNS):
        _gate.wait(timeout=120)
        try:
            told.append(act(store, turn, writer))
        except Exception as error:  # the others wait at the gate for this writer's next turn
            told.append(type(error).__name__)
    store.close()
    return told


def _two_members(store: SqlStore, turn: int, writer: int) -> tuple[str, ...]:
    return store.people.set_members(1 + turn, [HANDLES[writer], HANDLES[writer - 1]]).members


def _something_with_a_group(store: SqlStore, turn: int, writer: int) -> None:
    name = f"group {turn}"
    match writer:
        case 0:
            store.people.drop_group(1 + turn)
        case 1:
            store.people.set_members(1 + turn, HANDLES)
        case 2:
            store.people.save_group(name, shares=True, group_id=1 + turn)
        case _:
            store.datasets.share(1, HANDLES, [name])


def _share_with_two(store: SqlStore, _turn: int, writer: int) -> tuple[str, ...]:
    return store.datasets.share(1, [HANDLES[writer], HANDLES[writer - 1]], []).people


def _delete_or_share(store: SqlStore, turn: int, writer: int) -> None:
    if writer == 0:
        store.datasets.delete(1 + turn, None, at=NOW)
    else:
        store.datasets.share(1 + turn, HANDLES, [])


def _see_both(store: SqlStore, turn: int, writer: int) -> int:
    mounts = [Mount(owner="ana", name=f"data{each}", sha256="", version_id=each) for each in (1, 2)]
    seen = tuple(mounts if writer % 2 else mounts[::-1])
    new = _new(f"{writer}-sees-{turn}", f"Project{writer}")
    return store.add_run(replace(new, datasets=seen), again=True, place=_nowhere).number


def _put_dataset(store: SqlStore, turn: int, writer: int) -> int:
    return _arrived(store, f"data{turn}", f"{turn}-{writer}").id


def _register(store: SqlStore, turn: int, writer: int) -> str:
    return _add_person(store, f"bento{turn}", f"bento{turn}@lab{writer}.org").handle


def _confirm(store: SqlStore, turn: int, _writer: int) -> None:
    store.people.change(1 + turn, standing=Standing.ACTIVE)


def _change_role(store: SqlStore, turn: int, writer: int) -> None:
    role = Role.RESEARCHER if turn % 2 else Role.ADMINISTRATOR
    store.people.change(1 + (turn + writer) % WRITERS, role=role)


def _hook(store: SqlStore, _turn: int, writer: int) -> None:
    hook = Hook(person_id=1, url=f"https://{writer}.org", secret="s", created_at=NOW, trouble="")
    store.outbox.save_hook(hook)


def _remove(store: SqlStore, turn: int, writer: int) -> bool:
    return store.remove(1 + turn, at=NOW, by=str(writer)).removed_at is not None


def _take(store: SqlStore, turn: int, _writer: int) -> bool:
    return store.keys.take(str(turn), KeyKind.SIGN_IN, now=NOW) is not None


def _submit(store: SqlStore, turn: int, writer: int) -> int:
    key = SubmissionKey(person_id=1, word=str(turn), fingerprint="")
    new = _new(f"{writer}-key-{turn}", f"Project{writer}")
    return store.add_run(new, again=True, place=_nowhere, key=key).number


def _one_run_each(has: Used) -> None:
    if has.runs:
        raise OverQuota("One run is enough.")


def _ten_bytes_each(has: Used) -> None:
    if has.stored_bytes + 10 > 10:
        raise OverQuota("Ten bytes are enough.")


def _admitted_run(store: SqlStore, turn: int, writer: int) -> int:
    new = replace(_new(f"{writer}-admitted-{turn}", f"Project{writer}"), owner=f"p{turn}")
    admission = Admission(NOW, _one_run_each)
    return store.add_run(new, again=True, place=_nowhere, admission=admission).number


def _admitted_data(store: SqlStore, turn: int, writer: int) -> int:
    return store.datasets.add(
        f"p{turn}", f"data{writer}", filename="a.zip", upload=f"{turn}-{writer}", size=10, files=1,
        at=NOW, admission=Admission(NOW, _ten_bytes_each),
    ).id  # fmt: skip


def _begin(store: SqlStore, turn: int, _writer: int) -> bool:
    errand = Errand(id=1 + turn, kind=ErrandKind.REGISTERED, at=NOW, tries=0)
    return store.outbox.begin(errand, again_at=NOW)


def _add_person(store: SqlStore, handle: str, email: str) -> Person:
    return store.people.add(NewPerson(handle=handle, email=email, name=handle), at=NOW)


def _arrived(store: SqlStore, name: str, upload: str) -> Dataset:
    return store.datasets.add(
        "ana", name, filename="eeg.zip", upload=upload, size=1, files=1, at=NOW
    )


def _lease(url: str, writer: int) -> bool:
    return open_store(url).hold_lease(str(writer), now=NOW, seconds=10)


def _upgrade(url: str, _writer: int) -> None:
    upgrade(url)


Everybody = Callable[[Callable[[int], Answer]], list[Answer]]
Act = Callable[[SqlStore, int, int], Any]
Meeting = Callable[[Act], list[list[Any]]]


def test_writers_at_once_get_their_turns(url: str, everybody: Everybody[Any]) -> None:
    """Numbers without gap or double; one move, one lease and one new project win."""
    assert sorted(everybody(partial(_add_first, url))) == ["added"] + ["run 2 next"] * (WRITERS - 1)

    numbers = [n for each in everybody(partial(_add_again, url)) for n in each]
    assert sorted(numbers) == list(range(2, 2 + WRITERS * RUNS_EACH))

    store = open_store(url)
    run = store.runs(Filter(per_page=1)).runs[0]
    assert sorted(everybody(partial(_stage, url, run))) == ["moved"] + ["stale"] * (WRITERS - 1)
    assert len(store.events(run.id)) == 2

    assert sorted(everybody(partial(_lease, url))) == [False] * (WRITERS - 1) + [True]
    store.close()


def test_a_new_project_of_several_at_the_same_instant_is_one(
    url: str, everybody: Everybody[list[int]]
) -> None:
    numbers = everybody(partial(_add_new_projects, url))
    assert [sorted(each) for each in zip(*numbers, strict=True)] == [
        list(range(1, WRITERS + 1))
    ] * TURNS


@pytest.fixture
def meeting(
    url: str, store: SqlStore, everybody: Everybody[list[Any]]
) -> Callable[[Act], list[list[Any]]]:
    """Lets the writers do something at the same instant, turn by turn; returns each turn's
    answers, in the order of the writers. There are four people, who have ids 1 to 4."""
    for handle in HANDLES:
        _add_person(store, handle, f"{handle}@lab.org")

    def meet(act: Act) -> list[list[Any]]:
        told = everybody(partial(_in_turns, url, act))
        return [list(turn) for turn in zip(*told, strict=True)]

    return meet


def test_a_group_has_the_members_that_one_of_several_gave_it(
    store: SqlStore, meeting: Meeting
) -> None:
    for turn in range(TURNS):
        store.people.save_group(f"group {turn}", shares=True)
    told = meeting(_two_members)
    for answers, group in zip(
        told, sorted(store.people.groups(), key=attrgetter("id")), strict=True
    ):
        assert group.members in answers
        assert all(len(members) == 2 for members in answers), answers


def test_a_group_that_is_dropped_meanwhile_is_not_there_and_nothing_else(
    store: SqlStore, meeting: Meeting
) -> None:
    for turn in range(TURNS):
        store.people.save_group(f"group {turn}", shares=True)
    _arrived(store, "eeg", "u")
    dropped, *others = zip(*meeting(_something_with_a_group), strict=True)
    assert set(dropped) == {None}
    assert {answer for each in others for answer in each} <= {None, "NotFound", "BadRequest"}
    assert store.people.groups() == []
    assert store.datasets.get(1).groups == ()


def test_a_dataset_is_shared_with_whom_one_of_several_said(
    store: SqlStore, meeting: Meeting
) -> None:
    _arrived(store, "eeg", "u")
    told = meeting(_share_with_two)
    assert all(len(people) == 2 for answers in told for people in answers), told
    assert store.datasets.get(1).people in told[-1]


def test_a_dataset_that_is_deleted_meanwhile_is_shared_with_nobody(
    store: SqlStore, meeting: Meeting
) -> None:
    for turn in range(TURNS):
        _arrived(store, f"data{turn}", f"u{turn}")
    deleted, *others = zip(*meeting(_delete_or_share), strict=True)
    assert set(deleted) == {None}
    assert {answer for each in others for answer in each} <= {None, "NotFound"}
    for turn in range(TURNS):
        assert _arrived(store, f"data{turn}", f"v{turn}").people == (), "what comes after it"


def test_runs_see_the_same_datasets_in_whatever_order_they_name_them(
    store: SqlStore, meeting: Meeting
) -> None:
    for each in (1, 2):
        _arrived(store, f"data{each}", f"u{each}")
        store.datasets.settle(each, sha256=str(each) * 64, size=1, files=1)
    assert meeting(_see_both) == [[1 + turn] * WRITERS for turn in range(TURNS)]


def test_a_new_dataset_of_several_at_the_same_instant_is_one(
    store: SqlStore, meeting: Meeting
) -> None:
    for answers in meeting(_put_dataset):
        assert len(set(answers)) == 1
        assert len(store.datasets.get(answers[0]).arriving) == WRITERS


def test_people_who_would_have_the_same_handle_get_one_each(meeting: Meeting) -> None:
    for turn, answers in enumerate(meeting(_register)):
        wanted = f"bento{turn}"
        assert sorted(answers) == [wanted, *(f"{wanted}-{number}" for number in (2, 3, 4))]


def test_who_is_confirmed_by_several_is_told_once(store: SqlStore, meeting: Meeting) -> None:
    for number in range(len(HANDLES), TURNS):
        _add_person(store, f"p{number}", f"p{number}@lab.org")
    assert meeting(_confirm) == [[None] * WRITERS] * TURNS
    due = store.outbox.due(now=datetime.now(UTC), most=1000)
    told = [errand.person_id for errand in due if errand.kind is ErrandKind.CONFIRMED]
    assert sorted(told) == list(range(1, 1 + TURNS))


def test_administrators_who_change_each_others_roles_leave_one(
    store: SqlStore, meeting: Meeting
) -> None:
    for number in range(1, 1 + WRITERS):
        store.people.change(number, standing=Standing.ACTIVE)
    for turn, answers in enumerate(meeting(_change_role)):
        refused = ["NotPossible"] if turn % 2 else []
        assert sorted(map(str, answers)) == ["None"] * (WRITERS - len(refused)) + refused, turn


def test_a_person_has_one_hook_of_those_that_she_saves_at_once(
    store: SqlStore, meeting: Meeting
) -> None:
    assert meeting(_hook) == [[None] * WRITERS] * TURNS
    kept = store.outbox.hook(1)
    assert kept and kept.url.startswith("https://")


def test_files_that_are_removed_twice_are_removed(store: SqlStore, meeting: Meeting) -> None:
    for turn in range(TURNS):
        run = store.add_run(_new(str(turn)), again=True, place=_nowhere)
        store.move(run, JobState.CANCELLED, at=NOW)
    assert meeting(_remove) == [[True] * WRITERS] * TURNS


def test_a_link_is_good_once(store: SqlStore, meeting: Meeting) -> None:
    for turn in range(TURNS):
        store.keys.add(
            NewKey(kind=KeyKind.SIGN_IN, hash=str(turn), created_at=NOW, expires_at=LATER)
        )
    for answers in meeting(_take):
        assert sorted(answers) == [False] * (WRITERS - 1) + [True]


def test_what_is_submitted_under_one_key_is_one_run(store: SqlStore, meeting: Meeting) -> None:
    for answers in meeting(_submit):
        assert sorted(map(type, answers), key=str) == [int] + [str] * (WRITERS - 1)
        assert answers.count("Resubmitted") == WRITERS - 1
    assert store.runs(Filter()).total == TURNS


@pytest.mark.parametrize("act", [_admitted_run, _admitted_data])
def test_who_may_have_one_gets_one_however_many_she_sends_at_once(
    act: Act, store: SqlStore, meeting: Meeting
) -> None:
    for turn in range(TURNS):
        _add_person(store, f"p{turn}", f"p{turn}@lab.org")
    for answers in meeting(act):
        assert answers.count("OverQuota") == WRITERS - 1, answers


def test_what_is_to_be_told_is_begun_by_one(store: SqlStore, meeting: Meeting) -> None:
    for _ in range(TURNS):
        store.outbox.put(ErrandKind.REGISTERED, at=NOW)
    for answers in meeting(_begin):
        assert sorted(answers) == [False] * (WRITERS - 1) + [True]


def test_an_upgrade_by_several_at_once_happens_once(
    empty_url: str, everybody: Everybody[None]
) -> None:
    everybody(partial(_upgrade, empty_url))
    store: SqlStore = open_store(empty_url)
    assert store.runs(Filter()).total == 0
    store.close()
