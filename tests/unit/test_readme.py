"""The README names what there is: every setting, every command, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from nias_bridge.cli import main
from nias_bridge.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def commands(group: click.Group, prefix: str = "nias-bridge") -> set[str]:
    found = set()
    for name, command in group.commands.items():
        whole = f"{prefix} {name}"
        found |= commands(command, whole) if isinstance(command, click.Group) else {whole}
    return found


def test_the_table_of_settings_is_the_settings() -> None:
    table = re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", README, re.MULTILINE)
    real = [(name, field.description) for name, field in Settings.model_fields.items()]
    assert table == real


def test_every_command_is_named() -> None:
    for command in commands(main):
        *first, last = command.split()
        assert " ".join(first) in README, command
        assert f"`{last}`" in README or command in README, command


def test_commands_that_are_named_exist() -> None:
    there = commands(main)
    for line in re.findall(r"nias-bridge ((?:[a-z][a-z-]* ?)+)", README):
        words = line.split()
        assert any(
            f"nias-bridge {' '.join(words[:n])}" in there for n in range(1, len(words) + 1)
        ), line


@pytest.mark.parametrize(
    "file", ["README.md", "SECURITY.md", *(f"docs/{f.name}" for f in ROOT.glob("docs/*.md"))]
)
def test_links_lead_somewhere(file: str) -> None:
    page = ROOT / file
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), f"{file} links to {link}"


def test_what_docs_security_points_to_is_there() -> None:
    page = (ROOT / "docs/security.md").read_text()
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", page):
        assert f"def {name}(" in tests, name
    for path in re.findall(r"`([\w.-]+/[\w./-]*\w|\w+\.py)`", page):
        assert (ROOT / path).exists() or (ROOT / "nias_bridge" / path).exists(), path


def test_make_targets_that_are_named_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:`|\$ )make (\w+)", README)) <= set(targets)
