"""The failure doctor: from what is known of a run that ended to a sentence and a correction."""

from __future__ import annotations

from collections import defaultdict

from nias_bridge.domain import JobState
from nias_bridge.services.rules import NOTICES, RULES
from nias_bridge.services.symptoms import Diagnosis, Remedy, Symptoms

__all__ = ["Diagnosis", "Remedy", "Symptoms", "diagnose"]

_SHOWN_MAX = 200


def diagnose(symptoms: Symptoms) -> Diagnosis | None:
    """What the first rule that fits says; None when none does, or the run has not ended."""
    if not symptoms.state.ended:
        return None
    for rule in NOTICES if symptoms.state is JobState.COMPLETED else RULES:
        found = rule.look(symptoms)
        if found is not None:
            words = defaultdict(str, {name: _shown(text) for name, text in found.items()})
            words["where"] = symptoms.where
            return Diagnosis(
                rule.name,
                rule.sentence.format_map(words).strip(),
                rule.hint.format_map(words).strip(),
                rule.remedy(symptoms, found) if rule.remedy else None,
            )
    return None


def _shown(text: str) -> str:
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain if len(plain) <= _SHOWN_MAX else f"{plain[: _SHOWN_MAX - 1]}…"
