"""How times, durations and sizes are written on pages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

# Below how many seconds: in which unit and its seconds, and what is said of the rest.
_LONG = (
    (3600, 60, "min", 1, "s"),
    (48 * 3600, 3600, "h", 60, "min"),
    (float("inf"), 86400, "days", 3600, "h"),
)
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def when(at: datetime | None, *, now: datetime | None = None) -> str | Markup:
    """A time relative to now, the exact one on hover; web/static/nias.js keeps it true."""
    if at is None:
        return "–"
    exact = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    iso = at.astimezone(UTC).isoformat(timespec="seconds")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        iso, exact, relative(at, now or datetime.now(UTC))
    )


def relative(at: datetime, now: datetime) -> str:
    """“3 min ago”, “in 2 h”: coarse, so that a page does not change every second."""
    seconds = (now - at).total_seconds()
    size = abs(seconds)
    if size < 60:
        return "just now" if seconds >= 0 else "in a moment"
    if size < 3600:
        words = f"{int(size // 60)} min"
    elif size < 86400:
        words = f"{int(size // 3600)} h"
    elif size < 30 * 86400:
        days = int(size // 86400)
        words = f"{days} day{'s' if days > 1 else ''}"
    else:
        return f"{at.astimezone(UTC):%Y-%m-%d}"
    return f"{words} ago" if seconds >= 0 else f"in {words}"


def day(at: datetime) -> Markup:
    """A day, where the hour does not matter."""
    iso = f"{at.astimezone(UTC):%Y-%m-%d}"
    return Markup('<span title="{}">{}</span>').format(iso, f"{at.astimezone(UTC):%-d %B %Y}")


def running_since(at: datetime | None) -> str | Markup:
    """A duration that grows: seconds are counted by the page's script, minutes without it."""
    if at is None:
        return "–"
    iso = at.astimezone(UTC).isoformat(timespec="seconds")
    minutes = int((datetime.now(UTC) - at).total_seconds() // 60)
    words = duration(minutes * 60) if minutes >= 1 else "< 1 min"
    return Markup('<span data-since="{}">{}</span>').format(iso, words)


def counted(count: int, thing: str) -> str:
    """“1 file”, “2,003 files”."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 0.45 ms, 0.15 s, 2.4 s, 12 s, 3 min 20 s, 2 h 5 min.

    Nothing takes no time: 0 comes of a clock of whole seconds.
    """
    if seconds is None:
        return "–"
    if seconds == 0:
        return "< 1 s"
    if 0 < seconds < 0.1:
        return f"{seconds * 1000:.2g} ms"
    if seconds < 10:
        return f"{round(seconds, 2 if seconds < 1 else 1):g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    unit, word, part, part_word = next(row[1:] for row in _LONG if whole < row[0])
    count, rest = divmod(whole, unit)
    return f"{count} {word} {rest // part} {part_word}" if rest >= part else f"{count} {word}"


def raw_text(text: str) -> Markup:
    """A text in which returns stay what they are: HTML takes them for line ends."""
    return Markup(str(escape(text)).replace("\r", "&#13;"))  # noqa: S704  # escaped just before


def size(count: int | None) -> str:
    """Bytes as people say them: 512 bytes, 1.2 MB (powers of 1000)."""
    if count is None:
        return "–"
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 1 if unit and value < 9.95 else 0
    word = "byte" if count == 1 else _UNITS[unit]
    return f"{value:.{digits}f} {word}"


def memory(count: int | None) -> str:
    """Memory in the powers of 1024 that Slurm means: 500 MiB, 8 GiB."""
    if count is None:
        return "–"
    value, unit = count / 1024**2, "MiB"
    if value >= 1000:
        value, unit = value / 1024, "GiB"
    return f"{value:.1f}".removesuffix(".0") + f" {unit}" if value < 10 else f"{value:.0f} {unit}"


def fact(value: Any) -> str:
    """A fact of a preview as people read it: 440, 3.14159, 20000 × 3, yes."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, (list, tuple)):
        return " × ".join(map(fact, value)) or "a single value"
    return str(value)
