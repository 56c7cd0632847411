"""Two runs side by side, as a page and as JSON."""

from __future__ import annotations

from flask import Blueprint, render_template, request
from pydantic import BaseModel, Field

from nias_bridge.errors import BadRequest
from nias_bridge.http import downloads
from nias_bridge.http.here import bridge
from nias_bridge.services import comparison
from nias_bridge.services.comparison import Comparison

blueprint = Blueprint("comparisons", __name__)
IMAGES_SHOWN = 12


class CompareQuery(BaseModel):
    """Which two runs of one project."""

    a: int = Field(ge=1)
    b: int = Field(ge=1)


class WordsOut(BaseModel):
    """A word of both runs; null where a run has none."""

    a: str | None
    b: str | None


class NumbersOut(BaseModel):
    """A number of both runs; null where a run has none."""

    a: float | None
    b: float | None


class ComparisonOut(BaseModel):
    """Two runs of a project, by the names of what they had; timings in seconds.

    files: those that differ, with their SHA-256; installed: empty where it is not known of both.
    """

    a: int
    b: int
    parameters: dict[str, WordsOut]
    requirements: dict[str, WordsOut]
    installed: dict[str, WordsOut]
    metrics: dict[str, NumbersOut]
    timings: dict[str, NumbersOut]
    files: dict[str, WordsOut]
    files_alike: int


@blueprint.get("/compare")
def page() -> str:
    """Two runs of a project side by side."""
    a, b = request.args.get("a", type=int), request.args.get("b", type=int)
    if a is None or b is None:
        raise BadRequest("Name two runs of a project: /compare?a=1&b=2.", "a" if a is None else "b")
    found = comparison.compare(bridge(), a, b)
    return render_template(
        "compare.html",
        found=found,
        others=comparison.others(bridge(), found.a.run),
        figures=[pair for pair in found.files if downloads.is_shown(pair.name)][:IMAGES_SHOWN],
    )


def out(found: Comparison) -> ComparisonOut:
    """The two runs as JSON."""

    def words(pairs: tuple[comparison.Pair[str], ...]) -> dict[str, WordsOut]:
        return {pair.name: WordsOut(a=pair.a, b=pair.b) for pair in pairs}

    def numbers(pairs: tuple[comparison.Pair[float], ...]) -> dict[str, NumbersOut]:
        return {pair.name: NumbersOut(a=pair.a, b=pair.b) for pair in pairs}

    differing = {
        pair.name: WordsOut(
            a=pair.a.sha256 if pair.a else None, b=pair.b.sha256 if pair.b else None
        )
        for pair in found.files
        if not pair.same
    }
    return ComparisonOut(
        a=found.a.run.id,
        b=found.b.run.id,
        parameters=words(found.parameters),
        requirements=words(found.requirements),
        installed=words(found.installed),
        metrics=numbers(found.metrics),
        timings=numbers(found.timings),
        files=differing,
        files_alike=len(found.files) - len(differing),
    )
