"""An examination as lines for people, or as one JSON object for programs."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version

from nias_bridge.checks.points import Grade, Result, exit_status
from nias_bridge.node.words import counted

MARKS = {
    Grade.WELL: "✓",
    Grade.WARNING: "!",
    Grade.FAULT: "✗",
    Grade.UNKNOWN: "?",
    Grade.SKIPPED: "-",
}
VERDICTS = {0: "well", 1: "faults", 2: "not all could be looked at"}
NAME_WIDTH, GRADE_WIDTH = 15, 8
Paint = Callable[[str, Grade], str]


def lines(results: Iterable[Result], width: int, paint: Paint) -> Iterator[str]:
    """The findings part by part, each as soon as it is there; paint: colours its mark and grade."""
    part: tuple[str, str] | None = None
    seen: list[Result] = []
    for one in results:
        seen.append(one)
        if part != (one.part, one.where):
            yield from [""] * (part is not None)
            part = (one.part, one.where)
            yield f"{one.part} of the partition {one.where}" if one.where else one.part
        yield from _lines(one, width, paint)
    yield from ("", summary(seen))


def _lines(one: Result, width: int, paint: Paint) -> Iterator[str]:
    grade, indent = one.finding.grade, NAME_WIDTH + GRADE_WIDTH + 6
    mark = paint(f"{MARKS[grade]} {grade:{GRADE_WIDTH}}", grade)
    first, *rest = _wrapped(one.finding.seen, width - indent)
    yield f"  {mark} {one.point:{NAME_WIDTH}} {first}"
    yield from (" " * indent + line for line in rest)
    if one.finding.mend:
        first, *rest = _wrapped(one.finding.mend, width - indent - 2)
        yield " " * indent + f"→ {first}"
        yield from (" " * (indent + 2) + line for line in rest)


def _wrapped(text: str, width: int) -> list[str]:
    one_line = " ".join(text.split())
    return textwrap.wrap(
        one_line, max(width, 30), break_long_words=False, break_on_hyphens=False
    ) or [""]


def summary(results: Sequence[Result]) -> str:
    """How many of each grade."""
    count = Counter(one.finding.grade for one in results)
    words = [
        f"{count[Grade.WELL]} well",
        counted(count[Grade.WARNING], "warning"),
        counted(count[Grade.FAULT], "fault"),
    ]
    if count[Grade.UNKNOWN]:
        words.append(f"{count[Grade.UNKNOWN]} that could not be looked at")
    return f"{counted(len(results), 'point')}: {', '.join(words)}."


def as_json(results: Sequence[Result]) -> str:
    """One object: the verdict, and every finding."""
    points = [
        {
            "part": one.part,
            "point": one.point,
            "partition": one.where or None,
            "grade": one.finding.grade.value,
            "seen": one.finding.seen,
            "mend": one.finding.mend or None,
        }
        for one in results
    ]
    verdict = VERDICTS[exit_status(results)]
    whole = {"version": version("nias-bridge"), "verdict": verdict, "points": points}
    return json.dumps(whole, ensure_ascii=False, indent=1)
