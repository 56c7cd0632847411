"""Which packages a project needs: its requirements.txt, or what stands in its place."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Optional

from . import requirements

REQUIREMENTS = "requirements.txt"
LOCK = "uv.lock"
PROJECT = "pyproject.toml"
FILES = (REQUIREMENTS, LOCK, PROJECT)  # the first that says something counts, before the script
_SCRIPT, _SCRIPT_END = "# /// script", "# ///"  # around the block that PEP 723 describes
_WAYS_MAX = 50_000  # by which the packages of a lock are reached
_CONDITIONS_MAX = 256  # of one package
_NEVER_HERE = (
    r"(?:sys_platform|os_name|platform_system) == "
    r"'(?:win32|cygwin|darwin|emscripten|nt|Windows|Darwin)'"
)
_FOR_LINUX = r"linux|-any\.whl$|\.(?:tar\.\w+|zip)$"


class NeedsError(Exception):
    """The file that says which packages are needed can't be read; one sentence, with its name."""


class Needs(NamedTuple):
    """What a project asks for, as the text of a requirements.txt; source: the file it is from.

    source is "" where no file says anything: the code gets the standard library.
    """

    source: str
    text: str


def read(read_file: Callable[[str], Optional[bytes]], main: str = "code.py") -> Needs:
    """What a project needs, by its files: requirements.txt, else uv.lock, else pyproject.toml, else
    the comment block “# /// script” in `main` (PEP 723). Raises NeedsError."""
    written = read_file(REQUIREMENTS)
    if written is not None:
        return Needs(REQUIREMENTS, requirements.decode(written))
    lock, project = read_file(LOCK), read_file(PROJECT)
    if lock is not None:
        return Needs(LOCK, _text(_locked(_toml(LOCK, lock))))
    if project is not None:
        asked = _table(_toml(PROJECT, project), "project")
        if asked:
            return Needs(PROJECT, _text(_dependencies(PROJECT, asked)))
    block = _script_block(requirements.decode(read_file(main) or b""))
    if block is None:
        return Needs("", "")
    return Needs(main, _text(_dependencies(main, _toml(main, block.encode()))))


def _script_block(code: str) -> Optional[str]:
    # PEP 723's own regular expression takes the square of the lines on a text made for it.
    start = end = at = 0
    for line in io.StringIO(code):
        bare = line.rstrip("\n")
        if bare == _SCRIPT_END and start:
            end = at
        elif bare == _SCRIPT and not start:
            start = at + len(line)
        elif bare != "#" and not bare.startswith("# "):
            if end:
                break
            start = 0
        at += len(line)
    if not end:
        return None
    return "".join(line[2:] or "\n" for line in io.StringIO(code[start:end]))


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _toml(file: str, content: bytes) -> dict[str, Any]:
    from . import toml  # noqa: PLC0415  # most projects have none to read

    if not toml.READABLE:
        raise NeedsError(
            f"The Python of this node is too old to read {file}; put a {REQUIREMENTS} beside "
            "code.py."
        )
    try:
        return toml.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise NeedsError(f"{file} is not valid TOML: {error}.") from None
    except toml.TomlError as error:
        raise NeedsError(f"{file} {error}.") from None


def _table(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = content.get(name, {})
    return table if isinstance(table, dict) else {}


def _dependencies(file: str, table: Mapping[str, Any]) -> list[str]:
    asked = table.get("dependencies", [])
    if not isinstance(asked, list) or not all(isinstance(line, str) for line in asked):
        raise NeedsError(f"{file}: “dependencies” must be a list of texts.")
    return [" ".join(line.split()) for line in asked]


# uv.lock: every package that the project itself leads to, pinned, with its hashes and conditions


def _locked(lock: Mapping[str, Any]) -> list[str]:
    try:
        packages = [p for p in lock.get("package", []) if isinstance(p, dict)]
        roots = [
            p for p in packages if p["source"].get("virtual", p["source"].get("editable")) == "."
        ]
        if not roots:
            raise NeedsError(f"{LOCK} is not of this project: it names no package that is here.")
        return [
            _line(package, conditions)
            for package, conditions in _reached(packages, roots[0])
            if package is not roots[0]
        ]
    except (AttributeError, KeyError, TypeError):
        raise NeedsError(f"{LOCK} is not as uv writes it; make it anew with “uv lock”.") from None


_TOO_MANY_WAYS = (
    f"{LOCK} leads to its packages by too many conditions; make a {REQUIREMENTS} with “uv export”."
)
_Conditions = set[frozenset[str]]  # any of these sets of markers, all of which must hold


def _reached(
    packages: list[dict[str, Any]], root: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], _Conditions]]:
    by_name: dict[str, list[dict[str, Any]]] = {}
    for package in packages:
        by_name.setdefault(package["name"], []).append(package)
    seen: dict[tuple[int, str], _Conditions] = {}
    reached: dict[int, tuple[dict[str, Any], _Conditions]] = {}
    waiting: list[tuple[dict[str, Any], str, frozenset[str]]] = [(root, "", frozenset())]
    ways = 0
    while waiting:
        package, extra, condition = waiting.pop()
        known = seen.setdefault((id(package), extra), set())
        if any(weaker <= condition for weaker in known):
            continue
        known.add(condition)
        if len(known) > _CONDITIONS_MAX:
            raise NeedsError(_TOO_MANY_WAYS)
        reached.setdefault(id(package), (package, set()))[1].add(condition)
        needs = package.get("optional-dependencies", {}).get(extra, []) if extra else (
            package.get("dependencies", []))  # fmt: skip
        for need in needs:
            marker = need.get("marker", "")
            if re.fullmatch(_NEVER_HERE, marker):
                continue
            all_of = condition | {marker} if marker else condition
            for other in by_name[need["name"]]:
                ways += 1 + len(need.get("extra", ()))
                if ways > _WAYS_MAX:
                    raise NeedsError(_TOO_MANY_WAYS)
                if need.get("version", other.get("version")) == other.get("version"):
                    waiting += [(other, e, all_of) for e in ("", *need.get("extra", ()))]
    yield from reached.values()


def _line(package: dict[str, Any], conditions: _Conditions) -> str:
    name, source = package["name"], package["source"]
    if "registry" not in source:
        raise NeedsError(
            f"{LOCK}: {name} comes from {next(iter(source), 'nowhere')}, not from a package index; "
            "put that code into the project’s folder."
        )
    hashes = [
        each["hash"]
        for each in (*package.get("wheels", ()), package.get("sdist"))
        if each and "hash" in each and re.search(_FOR_LINUX, each.get("url", each.get("path", "")))
    ]
    marker = ""
    if frozenset() not in conditions:
        marker = " ; " + " or ".join(
            sorted(" and ".join(f"({m})" for m in sorted(all_of)) for all_of in conditions)
        )
    return f"{name}=={package['version']}{marker}" + "".join(f" --hash={h}" for h in sorted(hashes))
