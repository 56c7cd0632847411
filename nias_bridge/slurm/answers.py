"""How a program is asked and how it ended, and what the answers of Slurm's commands share. Pure."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nias_bridge.domain import JobState
from nias_bridge.errors import Unreachable
from nias_bridge.slurm.states import job_state

log = logging.getLogger(__name__)

# Between columns and between records: characters that no job name has by accident, as | and the
# end of a line may.
COLUMN, RECORD = "\x1f", "\x1e"
# The kernel takes 128 kB in one argument.
ARGUMENT_MAX = 100_000

Argv = list[str]


@dataclass(frozen=True)
class Output:
    """How a program ended. status is negative when it did not end by itself: it was killed, past
    its deadline, or the connection to it was lost; stderr says which."""

    status: int
    stdout: str
    stderr: str


def must_be_well(program: str, output: Output) -> None:
    """An answer that failed in any way must not look like “no jobs”."""
    if output.status != 0 or (output.stderr.strip() and not output.stdout.strip()):
        raise no_answer(program, output)


def no_answer(program: str, output: Output) -> Unreachable:
    lines = [line.strip() for line in output.stderr.splitlines() if line.strip()]
    why = lines[-1] if lines else f"ended with status {output.status} without a word"
    return Unreachable(f"{program} gave no answer: {why.removeprefix(f'{program}: error: ')}")


def row_of(columns: Sequence[str], text: str) -> dict[str, str] | None:
    """The columns by name, or None for a line that is none (a name with a line break, say)."""
    cells = text.split(COLUMN)
    return dict(zip(columns, cells, strict=True)) if len(cells) == len(columns) else None


def state_of(word: str, job_id: str) -> JobState | None:
    try:
        return job_state(word)
    except ValueError as error:
        log.warning("Job %s is passed over: %s.", job_id, error)
        return None


def known(text: str) -> str:
    return "" if text in {"None", "None assigned", "N/A", "Unknown", "(null)"} else text


def chunks(items: Iterable[str]) -> Iterator[str]:
    """The items joined by commas, in as few strings as the kernel takes as one argument."""
    part: list[str] = []
    length = 0
    for item in items:
        cost = len(item.encode()) + 1
        if part and length + cost > ARGUMENT_MAX:
            yield ",".join(part)
            part, length = [], 0
        part.append(item)
        length += cost
    if part:
        yield ",".join(part)
