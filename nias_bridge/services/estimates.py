"""When a held upload would start: the gateway writes the question, the poller Slurm's answer."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nias_bridge.domain import Resources
from nias_bridge.errors import SchedulerError, Unreachable
from nias_bridge.ports import Scheduler
from nias_bridge.script import render_wish
from nias_bridge.services import shared
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.evidence import read_json

QUESTION, ANSWER = ".sbatch", ".estimate"
ASKED_AT_ONCE = 5  # each takes Slurm some milliseconds
_KEY = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Estimate:
    """Slurm's answer: start is None where it can't say; refusal: why it would not take the job."""

    start: datetime | None = None
    refusal: str = ""


def ask(bridge: Bridge, upload_id: str, wanted: Resources) -> str:
    """Leave the question when a job that asks for this would start; returns the question's key.

    Each question has its own answer: what is asked meanwhile is not taken for another's.
    """
    script = render_wish(wanted, bridge.settings)
    key = hashlib.sha256(script.encode()).hexdigest()[:16]
    shared.write(_file(bridge, upload_id, key, QUESTION), script)
    return key


def answer(bridge: Bridge, scheduler: Scheduler) -> None:
    """Ask Slurm what is asked here. A Slurm that does not answer is asked again."""
    for question in sorted(bridge.paths.uploads.glob(f"[!.]*{QUESTION}"))[:ASKED_AT_ONCE]:
        try:
            start = scheduler.estimate(bridge.paths.uploads_on_cluster / question.name)
            told = {"start": start and start.isoformat()}
        except Unreachable:
            return
        except SchedulerError as error:
            told = {"refusal": str(error)}
        shared.write(question.with_suffix(ANSWER), json.dumps(told))
        question.unlink(missing_ok=True)


def read(bridge: Bridge, upload_id: str, key: str) -> Estimate | None:
    """Slurm's answer to the question of this key, None while there is none."""
    if not _KEY.fullmatch(key) or _file(bridge, upload_id, key, QUESTION).exists():
        return None
    told = read_json(_file(bridge, upload_id, key, ANSWER))
    if not told:
        return None
    start = told.get("start")
    return Estimate(datetime.fromisoformat(start) if start else None, told.get("refusal", ""))


def forget(bridge: Bridge, upload_id: str) -> None:
    """The upload is run or dropped: nobody asks any more."""
    for suffix in (QUESTION, ANSWER):
        for file in bridge.paths.uploads.glob(f"{upload_id}.*{suffix}"):
            file.unlink(missing_ok=True)


def _file(bridge: Bridge, upload_id: str, key: str, suffix: str) -> Path:
    return bridge.paths.uploads / f"{upload_id}.{key}{suffix}"
