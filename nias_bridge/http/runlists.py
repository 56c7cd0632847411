"""Lists of runs as pages show them: narrowed down by the address, a page at a time."""

from __future__ import annotations

from typing import Any

from flask import request, url_for

from nias_bridge.domain import FAILED_STATES, OPEN_STATES, Filter, JobState, Page
from nias_bridge.http.here import bridge, caller
from nias_bridge.http.schemas import PAGES_MAX
from nias_bridge.services import administration, desk

EMPTY_ZIP_BYTES = 22  # its end record and nothing else
# What a list can be narrowed to: a word in the address, words for people, states.
PINNED = "pinned"
SHOWN_STATES: dict[str, tuple[str, frozenset[JobState]]] = {
    "": ("All states", frozenset()),
    "open": ("Waiting or running", OPEN_STATES),
    "completed": ("Completed", frozenset({JobState.COMPLETED})),
    "failed": ("Failed", FAILED_STATES),
    "cancelled": ("Cancelled", frozenset({JobState.CANCELLED})),
    PINNED: ("Pinned", frozenset()),
}


def wanted(owners: frozenset[str] | None, endpoint: str, **kept: str) -> dict[str, Any]:
    """What a page needs to list the runs of these owners (None: everybody's).

    kept: further words of its address, which the links to its other pages keep.
    """
    text = request.args.get("q", "").strip()
    shown = request.args.get("show", "")
    _, states = SHOWN_STATES.get(shown, SHOWN_STATES[""])
    page = desk.runs(
        bridge(),
        Filter(
            owners=owners,
            text=text,
            states=states,
            pinned=shown == PINNED,
            page=min(max(1, request.args.get("page", 1, type=int)), PAGES_MAX),
        ),
    )
    words: dict[str, Any] = {**kept, "q": text, "show": shown}
    words = {name: word or None for name, word in words.items()}

    def address(to: str, page: int = 1) -> str:
        return url_for(to, **words, page=page if page > 1 else None)

    return {
        "page": page,
        "text": text,
        "shown": shown,
        "choices": [(word, label) for word, (label, _) in SHOWN_STATES.items()],
        "ready": _with_results(page),
        "names": administration.names(bridge()) if owners != own() else {},
        "endpoint": endpoint,
        "address": address,
        "narrowed": any(words.values()),
    }


def own() -> frozenset[str]:
    """The caller herself, as the owner of runs."""
    return frozenset({bridge().person.handle})


def shared() -> frozenset[str]:
    """The others whose results the caller sees by her groups."""
    return caller().sees


def _with_results(page: Page) -> frozenset[int]:
    """The runs of a page that left something to download."""
    ended = [run for run in page.runs if run.state.ended]
    infos = bridge().storage.infos([bridge().paths.run(run).results for run in ended])
    return frozenset(
        run.id
        for run, info in zip(ended, infos, strict=True)
        if info and info.size > EMPTY_ZIP_BYTES
    )
