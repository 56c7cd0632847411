"""A word of Slurm for a job's state becomes the bridge's JobState."""

from __future__ import annotations

from nias_bridge.domain import JobState

_COMPACT = {
    "PD": JobState.PENDING,
    "CF": JobState.CONFIGURING,
    "R": JobState.RUNNING,
    "S": JobState.SUSPENDED,
    "CG": JobState.COMPLETING,
    "RQ": JobState.REQUEUED,
    "CD": JobState.COMPLETED,
    "F": JobState.FAILED,
    "TO": JobState.TIMEOUT,
    "OOM": JobState.OUT_OF_MEMORY,
    "CA": JobState.CANCELLED,
    "NF": JobState.NODE_FAIL,
    "PR": JobState.PREEMPTED,
    "BF": JobState.BOOT_FAIL,
    "DL": JobState.DEADLINE,
}

# Slurm's flags and rarer words, each told as the nearest state that is true. One that does not end
# the job for good is never told as an end: an end is not taken back.
_FLAGS = {
    "EXPEDITING": JobState.PENDING,
    "REQUEUE_HOLD": JobState.PENDING,
    "RESV_DEL_HOLD": JobState.PENDING,
    "SPECIAL_EXIT": JobState.PENDING,
    "POWER_UP_NODE": JobState.CONFIGURING,
    "RECONFIG_FAIL": JobState.CONFIGURING,
    "RESIZING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "STOPPED": JobState.SUSPENDED,
    "STAGE_OUT": JobState.COMPLETING,
    "LAUNCH_FAILED": JobState.REQUEUED,
    "REQUEUE_FED": JobState.REQUEUED,
    "REVOKED": JobState.CANCELLED,
    "RS": JobState.RUNNING,
    "RD": JobState.PENDING,
    "RF": JobState.REQUEUED,
    "RH": JobState.PENDING,
    "RV": JobState.CANCELLED,
    "SE": JobState.PENDING,
    "SI": JobState.RUNNING,
    "SO": JobState.COMPLETING,
    "ST": JobState.SUSPENDED,
}
_LONG = {state.value: state for state in _COMPACT.values()}
WORDS: dict[str, JobState] = {**_LONG, **_COMPACT, **_FLAGS}


def job_state(text: str) -> JobState:
    """The state that `text` begins with ("CANCELLED by 1000", "OUT_OF_ME+"); raises ValueError."""
    word = next(iter(text.split()), "")
    if word in WORDS:
        return WORDS[word]
    if word.endswith("+"):  # cut off by a narrow column
        meant = {state for long, state in WORDS.items() if long.startswith(word[:-1])}
        if len(meant) == 1:
            return meant.pop()
    raise ValueError(f"Slurm says “{text}” of a job, which is not a state known here")
