"""Which requirement an installer stumbled over: one sentence from its words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from . import requirements

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_WITH_VERSION = rf"{_NAME}(?:[<>=!~]=?[A-Za-z0-9.*+!]+(?:,[<>=!~]=?[A-Za-z0-9.*+!]+)*)?"

# What an installer says -> what it means; {asked} is the line of the project that it is about.
# The first that fits counts: from the machine's own troubles to the resolver's reasoning.
_RULES = tuple(
    (re.compile(pattern), sentence)
    for pattern, sentence in (
        (
            r"No space left on device|Disk quota exceeded|File too large|os error (?:28|122|27)\b",
            "There is no room left on the shared storage for the packages. Tell the administrator.",
        ),
        (
            r"error sending request|dns error|Failed to fetch|NewConnectionError",
            "The package index can't be reached from the compute node. Try again later, or tell "
            "the administrator.",
        ),
        (
            rf"Hash mismatch for `(?P<about>{_WITH_VERSION})`",
            "The package index gives another file for {asked} than the one whose hash is known.",
        ),
        (
            rf"(?:Failed to (?:download and )?build|Failed building wheel for) `?(?P<about>"
            rf"{_WITH_VERSION})",
            "{asked} exists only as source code, and building it failed.",
        ),
        (
            rf"(?P<about>{_NAME}) was not found in the (?:package registry|cache)",
            "The package index has no package of the name {asked}. Is it written right?",
        ),
        (
            rf"[Tt]here is no version of (?P<about>{_WITH_VERSION})",
            "The package index has no version that fits {asked}.",
        ),
        (
            rf"(?P<about>{_WITH_VERSION}) (?:has|have) no (?:usable )?wheels",
            "There is no version of {asked} that is ready for this cluster's Python.",
        ),
        (
            rf"(?P<about>{_WITH_VERSION}) depends on (?P<needs>{_WITH_VERSION}).*?"
            rf"[Aa]nd because you require (?P<other>{_WITH_VERSION})",
            "{asked} needs {needs}, but the project asks for {other}.",
        ),
        (
            rf"you require (?P<about>{_WITH_VERSION})",
            "What the project asks for can't be installed together: it fails at {asked}.",
        ),
        (
            rf"(?:No matching distribution found for|satisfies the requirement) "
            rf"(?P<about>{_WITH_VERSION})",
            "The package index has nothing that fits {asked}.",
        ),
    )
)
_ELSE = "The packages that the project asks for can't be installed on this cluster."


def sentence(words: str, wanted: Sequence[str]) -> str:
    """What went wrong, with the requirement that caused it where the words tell."""
    text = " ".join(words.split())
    for pattern, told in _RULES:
        found = pattern.search(text)
        if found:
            named = {k: v.rstrip(".,") for k, v in found.groupdict().items() if v}
            about = named.pop("about", "")
            return told.format(asked=_asked(about, wanted) if about else "", **named)
    return _ELSE


def _asked(about: str, wanted: Sequence[str]) -> str:
    """The project's own line where it has one of that name; else what the installer named."""
    for line in wanted:
        bare = line.partition(" --hash")[0]
        if requirements.name_of(bare) == requirements.name_of(about):
            return f"“{bare}”"
    return f"“{about}” (which another package asks for)"
