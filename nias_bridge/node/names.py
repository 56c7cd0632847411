"""The names in a zip: as bytes, as people read them, and what they must not be."""

from __future__ import annotations

import re
import struct
import unicodedata
import zlib
from collections.abc import Iterable

from .zipreader import Member, extra_field

PART_MAX_BYTES = 255
PATH_MAX_BYTES = 1000
_UNICODE_PATH = 0x7075
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_JUNK = frozenset({".ds_store", "thumbs.db", "desktop.ini", "icon\r"})
_DRIVE = r"[A-Za-z]:"


class BadName(Exception):
    """A name in the zip can't be accepted; the words complete “The entry “…” …”."""


def code_page(members: Iterable[Member]) -> str:
    """The DOS code page of names that say nothing of theirs: the one that gives Latin letters."""
    names = b"".join(m.raw_name for m in members if not m.utf8 and not m.raw_name.isascii())
    if not names:
        return "cp437"
    return max(("cp437", "cp850"), key=lambda page: _latin_letters(names, page))


def decode(member: Member, page: str) -> str:
    """A member's name, in NFC and with “/” between its parts. Raises BadName."""
    return unicodedata.normalize("NFC", _decode(member, page)).replace("\\", "/")


def parts(name: str) -> tuple[str, ...]:
    """The folders and the last part of a name. Raises BadName for one that leads elsewhere."""
    if name.startswith("/"):
        raise BadName("has an absolute path")
    if re.match(_DRIVE, name):
        raise BadName("has a drive letter")
    found = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in found:
        raise BadName("leads out of the project (..)")
    return found


def is_junk(found: tuple[str, ...]) -> bool:
    """True for what macOS and Windows put into zips for themselves."""
    last = found[-1]
    return last.casefold() in _JUNK or last.startswith("._") or "__MACOSX" in found


def check(found: tuple[str, ...]) -> None:
    """Raises BadName for characters and lengths that no file on the cluster may have."""
    for part in found:
        for char in () if part.isprintable() else part:
            if char in _BIDI or unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs"):
                raise BadName(f"has the control character U+{ord(char):04X} in its name")
        if len(part.encode()) > PART_MAX_BYTES:
            raise BadName(f"has a name of more than {PART_MAX_BYTES} bytes")
    if len("/".join(found).encode()) > PATH_MAX_BYTES:
        raise BadName(f"has a path of more than {PATH_MAX_BYTES:,} bytes")


def same(part: str) -> str:
    """What makes two names the same one where case and composition do not count."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", part).casefold())


def shown(name: str) -> str:
    """A name as it can be put into a sentence: short, on one line, no character that plays."""
    safe = "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in name)
    return safe if len(safe) <= 120 else f"{safe[:60]}…{safe[-59:]}"


def _decode(member: Member, page: str) -> str:
    raw = member.raw_name
    field = extra_field(member.extra, _UNICODE_PATH)
    try:
        if field and field[:5] == struct.pack("<BL", 1, zlib.crc32(raw)):
            return field[5:].decode()
        return raw.decode()
    except UnicodeDecodeError:
        if member.utf8:
            raise BadName("has a name that is not the UTF-8 that it claims to be") from None
        return raw.decode(page)


def _latin_letters(names: bytes, page: str) -> int:
    high = (bytes([number]) for number in range(128, 256))
    return sum(names.count(b) for b in high if "LATIN" in unicodedata.name(b.decode(page), ""))
