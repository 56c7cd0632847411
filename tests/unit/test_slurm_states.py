"""Slurm's words for states."""

from __future__ import annotations

import pytest

from nias_bridge.domain import JobState
from nias_bridge.slurm.states import WORDS, job_state

SLURMS_OWN = frozenset(JobState) - {
    JobState.RECEIVED,
    JobState.STAGED,
    JobState.SUBMITTING,
    JobState.REJECTED,
}


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("COMPLETED", JobState.COMPLETED),
        ("CANCELLED by 1000", JobState.CANCELLED),
        ("OUT_OF_ME+", JobState.OUT_OF_MEMORY),
        ("CANCELLED+", JobState.CANCELLED),
        ("CG", JobState.COMPLETING),
        ("PD", JobState.PENDING),
        ("SPECIAL_EXIT", JobState.PENDING),
        ("SIGNALING", JobState.RUNNING),
    ],
)
def test_a_word_is_read_however_it_is_written(text: str, state: JobState) -> None:
    assert job_state(text) is state


@pytest.mark.parametrize("text", ["", "   ", "TELEPORTED", "RE+", "completed"])
def test_a_word_that_is_not_known_is_no_guess(text: str) -> None:
    with pytest.raises(ValueError, match="not a state"):
        job_state(text)


def test_every_state_of_slurm_has_its_word() -> None:
    assert set(WORDS.values()) == SLURMS_OWN
    assert all(WORDS[state.value] is state for state in SLURMS_OWN)


def test_a_job_that_comes_back_is_never_told_as_ended() -> None:
    coming_back = ("LAUNCH_FAILED", "RECONFIG_FAIL", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")
    assert not any(WORDS[word].ended for word in coming_back)
