"""Two runs of a project, laid side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

from nias_bridge.domain import Filter, Run
from nias_bridge.errors import BadRequest
from nias_bridge.node import layout, modules
from nias_bridge.services import desk, record
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.desk import RunView
from nias_bridge.services.manifest import OutputFile

OTHERS = 50
T = TypeVar("T")


@dataclass(frozen=True)
class Pair(Generic[T]):
    """One thing of both runs; None where a run has none."""

    name: str
    a: T | None
    b: T | None

    @property
    def same(self) -> bool:
        return self.a == self.b


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two runs were, had and gave. timings in seconds; installed: versions, where both runs
    have a list of what was installed."""

    a: RunView
    b: RunView
    parameters: tuple[Pair[str], ...]
    requirements: tuple[Pair[str], ...]
    installed: tuple[Pair[str], ...]
    metrics: tuple[Pair[float], ...]
    timings: tuple[Pair[float], ...]
    files: tuple[Pair[OutputFile], ...]


def compare(bridge: Bridge, a: int, b: int) -> Comparison:
    """Lay two runs side by side. Raises NotFound, BadRequest for runs of two projects."""
    first, second = desk.show(bridge, a), desk.show(bridge, b)
    if (first.run.owner, first.run.slug) != (second.run.owner, second.run.slug):
        raise BadRequest(
            f"Run {a} is of “{first.run.project}” and run {b} of “{second.run.project}”; only runs "
            "of one project can be laid side by side.",
            "b",
        )
    locks = [
        record.text(bridge, bridge.paths.run(view.run).folder, layout.LOCK)
        for view in (first, second)
    ]
    return Comparison(
        a=first,
        b=second,
        parameters=_pairs(_parameters(first.run), _parameters(second.run)),
        requirements=_pairs(_requirements(first.run), _requirements(second.run)),
        installed=_pairs(*(_versions(lock) for lock in locks)) if all(locks) else (),
        metrics=_pairs(first.evidence.metrics, second.evidence.metrics),
        timings=_pairs(_timings(first), _timings(second)),
        files=_pairs({f.path: f for f in first.files}, {f.path: f for f in second.files}),
    )


def others(bridge: Bridge, run: Run) -> tuple[Run, ...]:
    """The other runs of its project, newest first; at most OTHERS."""
    wanted = Filter(owners=frozenset({run.owner}), project=run.project, per_page=OTHERS)
    return tuple(other for other in bridge.store.runs(wanted).runs if other.id != run.id)


def beside(bridge: Bridge, run: Run) -> Run | None:
    """The run that this one would be laid beside: the one before it, else the one after it."""
    near = [other for other in others(bridge, run) if other.state.ended]
    before = [other for other in near if other.number < run.number]
    return before[0] if before else near[-1] if near else None


def _pairs(a: Mapping[str, T], b: Mapping[str, T]) -> tuple[Pair[T], ...]:
    return tuple(Pair(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b]))


def _parameters(run: Run) -> dict[str, str]:
    told = {**asdict(run.resources), **asdict(run.program), "zip (SHA-256)": run.contents.sha256}
    told["args"] = " ".join(run.program.args)
    told |= {f"$NIAS_DATA/{mount.name}": f"{mount.owner}/{mount.name}@{mount.sha256}"
             for mount in run.datasets}  # fmt: skip
    return {name: str(value) for name, value in told.items() if value not in (None, "", False)}


def _requirements(run: Run) -> dict[str, str]:
    return {modules.key(line) or line: line for line in run.contents.requirements}


def _versions(lock: str) -> dict[str, str]:
    named = (line.partition("==") for line in record.installed(lock))
    return {name: version for name, _, version in named}


def _timings(view: RunView) -> dict[str, float]:
    """Seconds: of the node's phases, and of Slurm's record."""
    report = view.run.report
    told = dict(view.evidence.timings)
    if report and view.run.state.ended:
        told |= {
            name: float(seconds)
            for name, seconds in (("elapsed", report.elapsed), ("CPU time", report.cpu_time))
            if seconds is not None
        }
    return told
