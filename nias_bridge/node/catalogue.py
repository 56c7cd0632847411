"""What the words of a run for its datasets mean: one rule for uploads and for jobs by plain sbatch.

A catalogue is what an account's words may mean now. The bridge keeps one on shared storage for each
account that is linked to somebody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

MOST = 50
# As people write one: eeg, alice/eeg, eeg@3f2a91, alice/eeg@3f2a91.
WORD = r"(?:([a-z0-9_-]{1,64})/)?([A-Za-z0-9][A-Za-z0-9._-]{0,63})(?:@([0-9a-f]{4,64}))?"
_SHORT = 12


class NotMeant(Exception):
    """These words mean no datasets; one sentence for who wrote them."""


class Listed(NamedTuple):
    """A dataset that may be meant.

    versions: hashes of what can be used, the newest first; problem: where there is none yet, why
    what was sent can't be unpacked.
    """

    owner: str
    name: str
    versions: tuple[str, ...]
    problem: str = ""


class Meant(NamedTuple):
    """One version of one dataset."""

    owner: str
    name: str
    sha256: str

    @property
    def word(self) -> str:
        """What names just this one, for people."""
        return f"{self.owner}/{self.name}@{self.sha256[:_SHORT]}"


def resolve(
    words: Sequence[str], me: str, named: Callable[[str], Iterable[Listed]]
) -> tuple[Meant, ...]:
    """The versions that these words mean to the person with the handle `me`.

    named: gives those of a name, whatever its case, that she may use. Raises NotMeant.
    """
    if len(words) > MOST:
        raise NotMeant(f"A run sees at most {MOST} datasets.")
    found: dict[str, Meant] = {}
    for word in words:
        meant = _meant(word, me, named)
        other = found.setdefault(meant.name.casefold(), meant)
        if other != meant:
            raise NotMeant(
                f"{other.word} and {meant.word} would both be $NIAS_DATA/{meant.name}: a run can "
                "see one of them."
            )
    return tuple(found.values())


def written(me: str, listed: Iterable[Listed]) -> str:
    """A catalogue as it is kept."""
    return json.dumps({"me": me, "datasets": sorted(map(list, listed))})


def read(text: str) -> tuple[str, list[Listed]]:
    """Whose a catalogue is, by handle, and what is in it. Raises ValueError."""
    told = json.loads(text)
    listed = [Listed(o, n, tuple(versions), why) for o, n, versions, why in told["datasets"]]
    return told["me"], listed


def _meant(text: str, me: str, named: Callable[[str], Iterable[Listed]]) -> Meant:
    match = re.fullmatch(WORD, text, re.ASCII)
    if match is None:
        raise NotMeant(
            f"“{text[:80]}” is no dataset; write eeg, alice/eeg or eeg@ and how its hash begins."
        )
    owner, name, version = match[1] or "", match[2], match[3] or ""
    there = [each for each in named(name) if owner in ("", each.owner)]
    own = [each for each in there if each.owner == me]
    if not there:
        raise NotMeant(f"“{text}” is no dataset of yours, and none that is shared with you.")
    if len(there) > 1 and not own:
        several = " or ".join(sorted(f"{each.owner}/{each.name}" for each in there))
        raise NotMeant(f"“{text}” may be {several}: say which.")
    one = (own or there)[0]
    fitting = [sha256 for sha256 in one.versions if sha256.startswith(version)]
    if not fitting:
        why = f"has no version {version}" if version else "is still being unpacked"
        if one.problem and not one.versions:
            why = f"could not be unpacked: {one.problem}"
        raise NotMeant(f"The dataset “{text}” {why.rstrip('.')}.")
    if len(set(fitting)) > 1 and version:
        raise NotMeant(f"“{text}” may be several versions: write more of the hash.")
    return Meant(one.owner, one.name, fitting[0])
