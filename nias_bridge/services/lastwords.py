"""What a Python program said as it died: its last error, and where in the project that was."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NOT_THE_PROGRAMS = re.compile(r"(?m)^(?:\[nias\] |slurmstepd(?:-[\w.-]+)?: |srun: ).*\n?")
_HEAD = "Traceback (most recent call last):"
_FRAME = re.compile(r'^ *File "([^"\n]+)", line (\d+).*\n?((?:    .*)?)', re.MULTILINE)
_NAME = re.compile(r"(?P<kind>[A-Za-z_][\w.]*)(?:: ?(?P<message>.*))?")
_ERROR_LINE = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception)(?::.*)?$", re.MULTILINE)
_MESSAGE_MAX = 4000


@dataclass(frozen=True)
class Frame:
    """One place of a traceback: file as Python names it, line, and the code there, if told."""

    file: str
    line: int
    code: str

    @property
    def own(self) -> bool:
        """True for a file of the project, not of Python or an installed package."""
        return not re.search(r"/site-packages/|/lib/python3|^<|\.(?:pyx|pxd|pxi)$", self.file)

    @property
    def place(self) -> str:
        """The file within the project and the line, for a sentence."""
        path = PurePosixPath(self.file)
        parts = path.parts
        inside = parts[parts.index("project") + 1 :] if "project" in parts else (path.name,)
        return f"{'/'.join(inside)}, line {self.line}"


@dataclass(frozen=True)
class LastError:
    """The error that ended a program: its class (dotted as told), message, and the way to it."""

    kind: str
    message: str
    frames: tuple[Frame, ...]

    @property
    def name(self) -> str:
        """The class without its module."""
        return self.kind.rpartition(".")[2]

    @property
    def own_frame(self) -> Frame | None:
        """The innermost place in the project's own code."""
        return next((frame for frame in reversed(self.frames) if frame.own), None)


def programs_words(log: str) -> str:
    """The log without colours, overwritten lines' returns, and the words of node and Slurm."""
    plain = _ESCAPES.sub("", log).replace("\r\n", "\n").replace("\r", "\n")
    return _NOT_THE_PROGRAMS.sub("", plain)


def last_error(words: str) -> LastError | None:
    """The last error that Python told in a program's words, or None."""
    start = words.rfind(_HEAD)
    if start >= 0:
        end = _end_of_frames(words, start + len(_HEAD) + 1)
    else:  # a syntax error of the program itself has no heading, nor has a cut traceback
        lines = [m for m in _ERROR_LINE.finditer(words) if '  File "' in words[: m.start()]]
        start, end = 0, lines[-1].start() if lines else -1
    if end < 0:
        return None
    first, _, rest = words[end:].partition("\n")
    named = _NAME.fullmatch(first.rstrip())
    if not named:
        return None
    message = f"{named['message'] or ''}\n{rest}".strip()[:_MESSAGE_MAX]
    frames = [Frame(f[1], int(f[2]), f[3].strip()) for f in _FRAME.finditer(words[start:end])]
    return LastError(named["kind"], message, tuple(frames))


def _end_of_frames(words: str, start: int) -> int:
    # Frames are indented; the first line that is not is the error's.
    position = start
    for line in words[start:].splitlines(keepends=True):
        if line.strip() and not line.startswith(" "):
            return position
        position += len(line)
    return -1
