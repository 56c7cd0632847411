"""Read TOML that strangers wrote, at a bounded cost."""

from __future__ import annotations

import re
from typing import Any

try:
    import tomllib
except ImportError:  # before Python 3.11
    tomllib = None  # type: ignore[assignment]

READABLE = tomllib is not None

BYTES_MAX = 4 * 1024 * 1024
# tomllib spends some microseconds and half a kilobyte on each value, and on a key of many parts
# the square of their number, in time and in memory.
VALUES_MAX = 150_000
PARTS_MAX = 30
_PART = re.compile(r"""(?:"[^"\n]*"?|'[^'\n]*'?|[\w-]+)[ \t]*(\.?)[ \t]*""")


class TomlError(Exception):
    """The text can't be read; the words complete “<file> …”."""


def loads(text: str) -> dict[str, Any]:
    """What a text says. Raises TomlError; needs Python 3.11 (READABLE)."""
    text = text.replace("\r\n", "\n")
    if len(text) > BYTES_MAX or sum(map(text.count, "\n,[")) > VALUES_MAX:
        raise TomlError("is too long to be read")
    _refuse_long_keys(text)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TomlError(f"is not valid TOML: {error}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, lists within lists
        raise TomlError("has a value that is too large to be read") from None


def _refuse_long_keys(text: str) -> None:
    parts = 0
    for part in _PART.finditer(text.replace("\\\\", "").replace('\\"', "")):
        parts = parts + 1 if part[1] else 0
        if parts > PARTS_MAX:
            raise TomlError(f"has a key of more than {PARTS_MAX} parts")
