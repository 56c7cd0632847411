"""The command `nias`, called in a folder, and projects for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nias_bridge.nias import main

Nias = Callable[..., Result]


def within(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Nias:
    """The command, in this folder, which is made."""
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*argv: object, **more: Any) -> Result:
        return CliRunner().invoke(main, [str(word) for word in argv], **more)

    return run


def project(folder: Path, name: str = "psd-study", **files: str) -> Path:
    """A project's folder; files by their names, with __ for the dot."""
    made = folder / name
    made.mkdir()
    for path, text in {"code__py": "print(1)\n", **files}.items():
        (made / path.replace("__", ".")).write_text(text)
    return made
