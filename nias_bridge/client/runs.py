"""A run as the gateway tells of it, and what can be asked of it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from nias_bridge.client.files import Files
from nias_bridge.client.gateway import Gateway, NoAnswer
from nias_bridge.domain import Scalar

_LOOKS = (0.3, 0.3, 0.5, 0.5, 1, 1, 2)  # seconds between looks at a run; the last one for good
_SILENCE_BORNE = 300  # seconds without any answer after which waiting ends
_LOG_LIMIT = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Accounting:
    """Slurm's own record of a run that ended: times in seconds, sizes in bytes."""

    elapsed_seconds: float
    time_limit_seconds: float | None
    cpu_seconds: float | None
    cpus: int | None
    max_rss_bytes: int | None
    memory_asked_bytes: int | None
    exit_code: int | None
    signal: int | None
    node: str
    partition: str
    restarts: int


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What went wrong and what to do; `correction`: what the run's page offers to do about it."""

    rule: str
    sentence: str
    hint: str
    correction: str | None


@dataclass(frozen=True, kw_only=True)
class Warned:
    """What the code names and will not find on the cluster.

    kind: “missing” (a module; `package` is the line to add to requirements.txt, "" where none is
    certain) or “foreign” (a path of one's own machine).
    """

    kind: str
    text: str
    package: str
    path: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of a sweep, as it was when it was asked for; `state` is Slurm's word."""

    index: int
    parameters: Mapping[str, Scalar]
    state: str
    ended: bool
    seconds: int | None
    exit_code: int | None
    metrics: Mapping[str, float]
    files: Files = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run as it was when it was asked for; `state` is Slurm's word, “RUNNING”.

    number: its own within the project; note: why it is as it is, where that is known; tasks: how
    many a sweep has, 0 for a single job; peak_memory: the most it was seen to have, in bytes, by
    Slurm or by its node; told: all that the gateway said, as it is in the API. What is None of
    these is not known (yet), and accounting, diagnosis and peak_memory are of no run in a list. All
    methods raise Refused and NoAnswer.
    """

    id: int
    project: str
    number: int
    owner: str
    state: str
    ended: bool
    note: str
    reason: str
    node: str
    job_id: int | None
    exit_code: int | None
    tasks: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    accounting: Accounting | None
    peak_memory: int | None
    diagnosis: Diagnosis | None
    warnings: tuple[Warned, ...]
    page: str
    told: Mapping[str, Any] = field(repr=False, compare=False)
    gateway: Gateway = field(repr=False, compare=False)

    @property
    def files(self) -> Files:
        """What it left in output/; of a sweep each task has its own."""
        return Files(self.gateway, f"runs/{self.id}")

    def again(self, *, exactly: bool = False) -> Run:
        """The same zip once more, as a new run; exactly: with the very packages it had."""
        return run_of(
            self.gateway, self.gateway.post(f"runs/{self.id}/again", {"exactly": exactly})
        )

    def cancel(self) -> Run:
        """Ask for it to be cancelled; it ends some moments later."""
        return run_of(self.gateway, self.gateway.post(f"runs/{self.id}/cancel"))

    def look(self) -> Run:
        """The run as it is now."""
        return run_of(self.gateway, self.gateway.get(f"runs/{self.id}"))

    def wait(
        self, seconds: float | None = None, *, seen: Callable[[Run], None] = lambda _run: None
    ) -> Run:
        """The run once it has ended; seen: told of each look at it.

        A gateway that is silent meanwhile (it is started anew, say) is borne for five minutes.
        Raises TimeoutError when the run has not ended after so many seconds.
        """
        began = answered = time.monotonic()
        pauses = itertools.chain(_LOOKS, itertools.repeat(_LOOKS[-1]))
        while True:
            try:
                run = self.look()
            except NoAnswer:
                if time.monotonic() - answered > _SILENCE_BORNE:
                    raise
            else:
                answered = time.monotonic()
                seen(run)
                if run.ended:
                    return run
            pause = next(pauses)
            if seconds is not None and time.monotonic() + pause > began + seconds:
                raise TimeoutError(
                    f"Run {self.number} of “{self.project}” has not ended after {seconds:g} s."
                )
            time.sleep(pause)

    def log(self, *, follow: bool = False, task: int | None = None) -> Iterator[str]:
        """What it printed so far, in parts; follow: and what it prints until it ends."""
        place = f"runs/{self.id}" if task is None else f"runs/{self.id}/tasks/{task}"
        offset = 0
        while True:
            part = self.gateway.get(f"{place}/log", {"offset": offset, "limit": _LOG_LIMIT})
            if part["text"]:
                yield part["text"]
            moved, offset = part["next_offset"] > offset, part["next_offset"]
            if offset >= part["size"] and (part["ended"] or not follow):
                return
            if not moved and not follow:
                return  # half a character, which its program is about to end
            if not moved:
                time.sleep(_LOOKS[-2])

    def sweep(self) -> list[Task]:
        """The tasks of a sweep, in order."""
        return [
            Task(
                **_known(Task, each),
                files=Files(self.gateway, f"runs/{self.id}/tasks/{each['index']}"),
            )
            for each in self.gateway.get(f"runs/{self.id}/tasks")["tasks"]
        ]


def run_of(gateway: Gateway, told: Mapping[str, Any]) -> Run:
    """The run that the API tells of."""
    accounting, diagnosis = told["accounting"], told.get("diagnosis")
    peak = told.get("peak_memory")
    return Run(
        **{
            **_known(Run, told),
            "created_at": datetime.fromisoformat(told["created_at"]),
            "started_at": _time(told["started_at"]),
            "ended_at": _time(told["ended_at"]),
            "accounting": Accounting(**_known(Accounting, accounting)) if accounting else None,
            "peak_memory": peak and peak["bytes"],
            "diagnosis": Diagnosis(**_known(Diagnosis, diagnosis)) if diagnosis else None,
            "warnings": tuple(Warned(**_known(Warned, each)) for each in told["warnings"] or ()),
            "page": gateway.url + told["links"]["page"],
            "told": told,
            "gateway": gateway,
        }
    )


def _known(kind: type[Any], told: Mapping[str, Any]) -> dict[str, Any]:
    # A later gateway may tell more than this client knows of.
    return {each.name: told[each.name] for each in fields(kind) if each.name in told}


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
