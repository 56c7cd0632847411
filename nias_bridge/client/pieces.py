"""An upload by tus that goes on where it broke off, also when the program was started anew."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nias_bridge.client.gateway import Gateway, NoAnswer, Refused, Told
from nias_bridge.client.login import folder
from nias_bridge.project.data import Packed

PIECE = 16 * 1024 * 1024  # a proxy that keeps bodies to itself hands on whole pieces only
_PAUSES = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15)  # seconds before the next try, by those in vain so far
_KEPT_SECONDS = 2 * 24 * 3600  # the gateway keeps what is left alone for a day
_GONE, _CONFLICT = 404, 409
_TUS = {"Tus-Resumable": "1.0.0"}
_PIECE_TYPE = "application/offset+octet-stream"


def send(gateway: Gateway, packed: Packed, words: dict[str, str], told: Told) -> str:
    """Send all of it; returns the upload's id. words: what is said of it.

    Raises Refused; NoAnswer once the gateway has been silent for half a minute.
    """
    note = _note(gateway, packed, words)
    where = note.read_text(encoding="utf-8") if note.exists() else ""
    offset, tries = -1, 0
    while offset < packed.size:
        try:
            if not where:
                where = _begin(gateway, packed, words)
                _keep(note, where)
            if offset < 0:
                offset = int(gateway.headers("HEAD", where, _TUS)["Upload-Offset"])
            told(offset, packed.size)
            if offset < packed.size:
                offset = _piece(gateway, packed, where, offset, told)
            tries = 0
        except NoAnswer:
            offset = -1  # how far it came, the gateway knows
            if tries == len(_PAUSES):
                raise
            time.sleep(_PAUSES[tries])
            tries += 1
        except Refused as error:
            if error.status == _GONE and where:
                where = ""
            elif error.status != _CONFLICT or offset < 0 or tries == len(_PAUSES):
                raise
            offset, tries = -1, tries + 1
    return where.rsplit("/", 1)[1]


def forget(gateway: Gateway, packed: Packed, words: dict[str, str]) -> None:
    """The gateway took it: the same would be another upload now."""
    with suppress(FileNotFoundError):
        _note(gateway, packed, words).unlink()


def _begin(gateway: Gateway, packed: Packed, words: dict[str, str]) -> str:
    pairs = {"filename": packed.filename, **words}.items()
    told = ",".join(f"{name} {base64.b64encode(word.encode()).decode()}" for name, word in pairs)
    headers = {**_TUS, "Upload-Length": str(packed.size), "Upload-Metadata": told}
    return gateway.headers("POST", "uploads", headers)["Location"]


def _piece(gateway: Gateway, packed: Packed, where: str, offset: int, told: Told) -> int:
    size = min(PIECE, packed.size - offset)

    def body() -> Iterator[bytes]:
        sent, end = offset, offset + size
        for part in packed.read(offset):
            yield part[: end - sent]
            sent = min(sent + len(part), end)
            told(sent, packed.size)
            if sent == end:
                return

    headers = {
        **_TUS,
        "Upload-Offset": str(offset),
        "Content-Type": _PIECE_TYPE,
        "Content-Length": str(size),
    }
    return int(gateway.headers("PATCH", where, headers, body())["Upload-Offset"])


def _keep(note: Path, where: str) -> None:
    note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in note.parent.iterdir():
        if old.stat().st_mtime < time.time() - _KEPT_SECONDS:
            old.unlink(missing_ok=True)
    note.write_text(where, encoding="utf-8")


def _note(gateway: Gateway, packed: Packed, words: dict[str, str]) -> Path:
    """Where it is remembered which upload of these bytes is under way."""
    what = packed.sha256 or [
        (str(each.source), each.size, each.source.stat().st_mtime_ns)
        for each in packed.stretches
        if each.source
    ]
    told = json.dumps([gateway.url, packed.filename, packed.size, what, words])
    return folder() / "uploads" / hashlib.sha256(told.encode()).hexdigest()[:32]
