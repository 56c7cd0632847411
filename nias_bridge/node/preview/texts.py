"""Text, Markdown and JSON: the first 64 KB, in UTF-8, JSON laid out for reading."""

from __future__ import annotations

import codecs
import json
from typing import BinaryIO, Optional

from .record import Desk, NoPreview, Preview

SHOWN = 65536  # bytes
_JSON_MAX = 8_000_000  # bytes of JSON that are laid out anew
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"),
          (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip


def preview(file: BinaryIO, desk: Desk) -> Preview:
    """The beginning of a text."""
    head = file.read(SHOWN + 4)
    encoding = encoding_of(head)
    text = head[:SHOWN].decode(encoding, "replace")
    whole = len(head) <= SHOWN
    if desk.kind == "json":
        laid_out = _laid_out(head + file.read(_JSON_MAX), encoding)
        whole = whole if laid_out is None else len(laid_out) <= SHOWN
        text = text if laid_out is None else laid_out[:SHOWN]
    made = Preview(desk.kind, [{"encoding": encoding, "whole": whole}])
    made.text = desk.keep(plain(text).encode(), ".txt")
    return made


def encoding_of(head: bytes) -> str:
    """The encoding of a text that begins like this. Raises NoPreview where it is none."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head:
        raise NoPreview("it is not text")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last letter may be cut
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def plain(text: str) -> str:
    """The text without control characters other than line ends and tabs, and in valid UTF-8."""
    text = text.replace("\r\n", "\n").encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}"
                   for c in text)  # fmt: skip


def _laid_out(content: bytes, encoding: str) -> Optional[str]:
    if len(content) > _JSON_MAX:
        return None
    try:
        return json.dumps(json.loads(content.decode(encoding)), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
