"""What the nouns promise: the table of moves, pages."""

from __future__ import annotations

import pytest

from nias_bridge.domain import ENDED_STATES, MOVES, OPEN_STATES, JobState, Page

BEFORE_SLURM = {JobState.RECEIVED, JobState.STAGED, JobState.SUBMITTING}


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
        JobState.STAGED,
        JobState.SUBMITTING,
    }


@pytest.mark.parametrize(("total", "pages"), [(0, 1), (1, 1), (20, 1), (21, 2), (40, 2), (41, 3)])
def test_a_list_has_as_many_pages_as_it_fills_and_at_least_one(total: int, pages: int) -> None:
    assert Page(runs=(), total=total, page=1, per_page=20).pages == pages
