"""What the nouns promise: names, slugs, the table of moves, pages, Slurm's times and sizes."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nias_bridge.domain import (
    ENDED_STATES,
    MOVES,
    OPEN_STATES,
    JobState,
    Page,
    memory_bytes,
    name_key,
    project_name,
    slug,
    time_limit_seconds,
)

BEFORE_SLURM = {JobState.RECEIVED, JobState.STAGED, JobState.SUBMITTING}


def _is_name(text: str) -> bool:
    try:
        project_name(text)
    except ValueError:
        return False
    return True


names = st.text(
    st.characters(categories=["L", "Nd", "Mn"], include_characters=" ._-"), min_size=1, max_size=64
).filter(_is_name)


@pytest.mark.parametrize(
    "name", ["a", "Análise EMG 2", "ЭКГ", "心電図", "हिन्दी", "x" * 64, "v1.2_final-3", "_a", "2024"]
)
def test_names_as_people_write_them_are_welcome(name: str) -> None:
    assert project_name(name) == name


def test_a_name_is_kept_in_its_composed_form() -> None:
    assert project_name("Ana\u0301lise") == "Análise"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "has 0 characters"),
        ("x" * 65, "has 65 characters"),
        ("a/b", "character “/”"),
        ("a\\b", r"character “\\”"),
        ("a\nb", "character “U\\+000A”"),
        ("a\u202eb", "character “U\\+202E”"),
        ("a$b", "character “\\$”"),
        ("📈", "character “📈”"),
        (".hidden", "begins or ends"),
        ("-rf", "begins or ends"),
        (" a", "begins or ends"),
        ("a ", "begins or ends"),
        ("..", "begins or ends"),
    ],
)
def test_another_name_is_refused_with_what_is_wrong(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        project_name(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [("EMG", "emg"), ("Straße", "STRASSE"), ("Análise", "ANA\u0301LISE"), ("ﬁle", "FILE")],
)
def test_names_that_differ_in_case_or_form_are_the_same(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@given(names)
def test_a_key_is_a_keys_own_key(name: str) -> None:
    assert name_key(name_key(name)) == name_key(name)


@given(names)
def test_a_slug_is_safe_in_a_path_and_in_slurm(name: str) -> None:
    made = slug(unicodedata.normalize("NFC", name))
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._~-]{0,63}", made)
    assert not made.endswith((".", "-"))


@given(names, names)
def test_names_of_two_projects_have_two_slugs(one: str, other: str) -> None:
    if name_key(one) != name_key(other):
        assert slug(project_name(one)) != slug(project_name(other))


def test_a_name_that_is_safe_already_is_its_own_slug() -> None:
    assert slug("power-spectrum_2.1") == "power-spectrum_2.1"
    assert re.fullmatch(r"Analise-EMG~[0-9a-f]{8}", slug("Análise EMG"))
    assert re.fullmatch(r"project~[0-9a-f]{8}", slug("心電図"))


def test_every_state_has_its_moves_and_they_lead_to_states() -> None:
    assert MOVES.keys() == set(JobState)
    for state, moves in MOVES.items():
        assert all(to in JobState for to in moves)
        assert state not in moves


def test_a_state_is_open_or_ended() -> None:
    assert set(JobState) == OPEN_STATES | ENDED_STATES
    assert not OPEN_STATES & ENDED_STATES
    assert {state for state in JobState if state.ended} == ENDED_STATES
    assert {state for state in JobState if state.with_slurm} == OPEN_STATES - BEFORE_SLURM


@pytest.mark.parametrize("state", sorted(OPEN_STATES))
def test_from_every_open_state_an_end_can_be_reached(state: JobState) -> None:
    reached, new = {state}, {state}
    while new:
        new = {to for at in new for to in MOVES[at]} - reached
        reached |= new
    assert {JobState.COMPLETED, JobState.CANCELLED} <= reached


def test_nothing_is_given_to_slurm_but_through_submitting() -> None:
    for state in (JobState.RECEIVED, JobState.STAGED):
        assert not any(to.with_slurm for to in MOVES[state])
    assert {state for state, moves in MOVES.items() if JobState.SUBMITTING in moves} == {
        JobState.STAGED
    }
    assert {state for state, moves in MOVES.items() if JobState.REJECTED in moves} == {
        JobState.SUBMITTING
    }


@pytest.mark.parametrize(("total", "pages"), [(0, 1), (1, 1), (20, 1), (21, 2), (40, 2), (41, 3)])
def test_a_list_has_as_many_pages_as_it_fills_and_at_least_one(total: int, pages: int) -> None:
    assert Page(runs=(), total=total, page=1, per_page=20).pages == pages


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("1:30", 90),
        ("02:00:01", 7201),
        ("1-12", 129600),
        ("1-0:30", 88200),
        ("1-00:00:01", 86401),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert time_limit_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "1h", "1:2:3:4", "00:00:00", "３", "1\n", "1-"])
def test_what_is_no_time_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        time_limit_seconds(text)


@pytest.mark.parametrize(
    ("text", "size"), [("1", 2**20), ("500M", 500 * 2**20), ("8g", 8 * 2**30), ("4KB", 4096)]
)
def test_memory_sizes_are_read_as_slurm_reads_them(text: str, size: int) -> None:
    assert memory_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "0G", "-1", "1.5G", "lots", "8 G", "8G\n"])
def test_what_is_no_memory_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="memory size"):
        memory_bytes(text)
