"""When a held upload would start: the gateway writes the question, the poller Slurm's answer."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from nias_bridge.domain import Resources
from nias_bridge.errors import SchedulerError, Unreachable
from nias_bridge.ports import Scheduler
from nias_bridge.script import render_wish
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
    bridge.storage.write(_file(bridge, upload_id, key, QUESTION), script)
    return key


def answer(bridge: Bridge, scheduler: Scheduler) -> None:
    """Ask Slurm what is asked here. A Slurm that does not answer is asked again."""
    uploads = bridge.paths.uploads
    asked = [name for name in bridge.storage.entries(uploads, QUESTION) if name[0] != "."]
    for name in asked[:ASKED_AT_ONCE]:
        try:
            start = scheduler.estimate(bridge.paths.uploads_on_cluster / name)
            told = {"start": start and start.isoformat()}
        except Unreachable:
            return
        except SchedulerError as error:
            told = {"refusal": str(error)}
        question = uploads / name
        bridge.storage.write(question.with_suffix(ANSWER), json.dumps(told))
        bridge.storage.remove(question)


def read(bridge: Bridge, upload_id: str, key: str) -> Estimate | None:
    """Slurm's answer to the question of this key, None while there is none."""
    if not _KEY.fullmatch(key) or bridge.storage.info(_file(bridge, upload_id, key, QUESTION)):
        return None
    told = read_json(bridge.storage, _file(bridge, upload_id, key, ANSWER))
    if not told:
        return None
    start = told.get("start")
    return Estimate(datetime.fromisoformat(start) if start else None, told.get("refusal", ""))


def forget(bridge: Bridge, upload_id: str) -> None:
    """The upload is run or dropped: nobody asks any more."""
    uploads = bridge.paths.uploads
    names = (
        name
        for suffix in (QUESTION, ANSWER)
        for name in bridge.storage.entries(uploads, suffix)
        if name.startswith(f"{upload_id}.")
    )
    bridge.storage.remove(*(uploads / name for name in names))


def _file(bridge: Bridge, upload_id: str, key: str, suffix: str) -> PurePosixPath:
    return bridge.paths.uploads / f"{upload_id}.{key}{suffix}"
