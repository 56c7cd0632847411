"""The nouns of the failure doctor: what is known of an ended run, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from nias_bridge.domain import JobState, Resources, SlurmReport
from nias_bridge.services.lastwords import LastError, last_error, programs_words


@dataclass(frozen=True, kw_only=True)
class Symptoms:
    """What is known of a run that ended.

    reason: the node's word (finished, time limit, told to stop, environment, sandbox, archive,
    internal); words: the last 16 KB or so of the log; details: the installer's own words; outputs:
    how many files were collected from output/, None where unknown; elsewhere: files that the run
    wrote in the project but not in output/; most_memory (bytes), most_time (seconds) and has_gpus:
    what the cluster can give, as far as known.
    """

    state: JobState
    exit_code: int | None
    signal: int | None
    reason: str
    words: str
    details: str
    resources: Resources
    report: SlurmReport | None
    requirements: tuple[str, ...]
    project: str
    outputs: int | None = None
    elsewhere: tuple[str, ...] = ()
    most_memory: int | None = None
    most_time: int | None = None
    has_gpus: bool = False

    @cached_property
    def program(self) -> str:
        """The program's own words: the log without those of the node and of Slurm."""
        return programs_words(self.words)

    @cached_property
    def error(self) -> LastError | None:
        """The last error that Python told."""
        return last_error(self.program)

    @property
    def where(self) -> str:
        """“ (code.py, line 3)”: the innermost place in the project's code, "" if none is told."""
        frame = self.error.own_frame if self.error else None
        return f" ({frame.place})" if frame else ""

    @property
    def killed_by(self) -> int | None:
        """The signal that ended the program, however that was told."""
        if self.signal:
            return self.signal
        code = self.exit_code
        return code - 128 if code is not None and 128 < code < 192 else None


@dataclass(frozen=True)
class Remedy:
    """A correction with which the run can be tried again.

    resources: what to ask for instead; add: requirement lines to add; replace: (line as it stands,
    line in its place, "" to leave it out); label: the button's text.
    """

    resources: Resources | None = None
    add: tuple[str, ...] = ()
    replace: tuple[tuple[str, str], ...] = ()
    label: str = "Run again"


@dataclass(frozen=True)
class Diagnosis:
    """What happened, what to do, and where possible one correction. rule: the rule's short id."""

    rule: str
    sentence: str
    hint: str
    remedy: Remedy | None = None
