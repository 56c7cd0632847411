"""A notebook becomes a program: what Jupyter alone understands is kept as a comment."""

from __future__ import annotations

import ast
import json
import re
import shlex
from dataclasses import dataclass

from nias_bridge.errors import BadUpload

# What begins a line that IPython reads: %magic, !command, ?help; also x = !ls and help?
_NOT_PYTHON = re.compile(r"(?P<indent>\s*)(?:[%!?]|[\w, ]+=\s*[%!]|[\w.]+\?{1,2}\s*$)")
_INSTALL = re.compile(r"\s*[%!]\s*(?:python3? -m )?(?:pip3?|uv pip|conda|mamba)\s+install\s+(.+)")
# Magics of a whole cell whose lines are Python all the same.
_AROUND_PYTHON = frozenset({"%%time", "%%timeit", "%%capture", "%%prun"})
_DISPLAY = re.compile(r"(?<![\w.])display\(")


@dataclass(frozen=True)
class Script:
    """A notebook as a program; installed: the packages that its cells installed."""

    text: str
    installed: tuple[str, ...]


def script(content: bytes, name: str) -> Script:
    """The code of a notebook (nbformat 4), its texts as comments. Raises BadUpload."""
    try:
        cells = json.loads(content)["cells"]
        read = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    except (ValueError, KeyError, TypeError):
        raise BadUpload(
            f"{name} is not a notebook as Jupyter writes it now; open it there and save it again."
        ) from None
    parts, installed = [], []
    for kind, source in read:
        if not source.strip():
            continue
        if kind == "code":
            part, packages = _program(source)
            parts.append(part)
            installed += packages
        else:
            parts.append(_comment(source))
    text = "\n\n".join(parts) + "\n"
    if _DISPLAY.search(text):
        text = f"display = print  # Jupyter has its own\n\n{text}"
    return Script(text, tuple(dict.fromkeys(installed)))


def _program(cell: str) -> tuple[str, list[str]]:
    lines = cell.strip("\n").split("\n")
    if lines[0].startswith("%%"):
        if lines[0].split()[0] not in _AROUND_PYTHON:
            return _comment("\n".join(lines)), []
        first, *rest = lines
        part, installed = _program("\n".join(rest)) if rest else ("", [])
        return f"# {first}\n{part}", installed
    if _is_python("\n".join(lines)):
        return "\n".join(lines), []
    kept, installed = [], []
    for line in lines:
        found = _NOT_PYTHON.match(line)
        if found:
            # A block whose only line this is must not become an empty one.
            statement = "pass  # " if found["indent"] else "# "
            kept.append(f"{found['indent']}{statement}{line.strip()}")
            installed += _packages(line)
        else:
            kept.append(line)
    return "\n".join(kept), installed


def _packages(line: str) -> list[str]:
    command = _INSTALL.match(line)
    if command is None:
        return []
    try:
        words = shlex.split(command[1], comments=True)
    except ValueError:
        return []
    return [word for word in words if re.match("[A-Za-z0-9]", word)]


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return False
    return True


def _comment(text: str) -> str:
    return "\n".join(f"# {line}".rstrip() for line in text.strip("\n").split("\n"))
