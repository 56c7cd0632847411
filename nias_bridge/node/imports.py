"""Name, before any wait, what a project's code needs and will not find on the cluster."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple, Optional

from .modules import is_standard, lacking, package_of

# Absolute paths that are those of a person's own computer, or of Colab's or Kaggle's.
FOREIGN = re.compile(
    r"(?P<path>"
    r"[A-Za-z]:\\[^\s\\]|[A-Za-z]:/[^\s/]|\\\\[\w.-]+\\[^\s\\]"
    r"|/(?:home|Users|Volumes)/|/(?:content|kaggle)/(?:[\w-]+|$)|/mnt/[a-z]/"
    r")"
)
# Where the nodes' own Python is not known, only what neither of these has is named.
ANY_PYTHON = ((3, 9), (3, 14))
_MISSING_IS_CAUGHT = frozenset(["ImportError", "ModuleNotFoundError", "Exception", "BaseException"])
# What a condition asks of the machine that it is on: either branch may be for another one.
_ABOUT_THE_MACHINE = frozenset(
    ["TYPE_CHECKING", "version_info", "platform", "modules", "find_spec"]
)
_TEXT_MAX = 300
_FOUND_MAX = 200


@dataclass(frozen=True)
class Missing:
    """A module that nothing provides.

    package: what to add to requirements.txt, "" where none is known; path and line: where it is
    first imported.
    """

    module: str
    package: str
    path: str
    line: int


@dataclass(frozen=True)
class ForeignPath:
    """A path of the researcher's own machine, and where the code names it."""

    text: str
    path: str
    line: int


@dataclass(frozen=True)
class Program:
    """The files of a project that its main file leads to, read; own: the names of its modules."""

    main: str
    trees: Mapping[str, ast.Module]
    own: frozenset[str]


class _Import(NamedTuple):
    module: str  # dotted; for a relative import without its dots
    line: int
    needed: bool  # False: the code goes on without it
    relative: bool


def read(sources: Mapping[str, str], main: str = "code.py") -> Program:
    """Read the files that `main` leads to; all, where `main` is not there.

    sources: path -> text of each .py of the project.
    """
    own = (part for path in sources for part in PurePosixPath(path).with_suffix("").parts)
    return Program(main, dict(_reached(sources, main)), frozenset(own))


def missing(
    program: Program, requirements: Sequence[str], python: tuple[int, int]
) -> list[Missing]:
    """The modules that neither Python, the project nor its requirements provide.

    python: the version on the nodes. A miss is better than a false alarm: what may be there is
    not named.
    """
    lacks = lacking(requirements)
    found: dict[str, Missing] = {}
    for path, tree in program.trees.items():
        for each in _imports(tree):
            name = each.module.split(".")[0]
            if each.relative or not each.needed or name in program.own or is_standard(name, python):
                continue
            if lacks(each.module):
                told = _told_name(each.module)
                found.setdefault(
                    told, Missing(told, package_of(each.module) or "", path, each.line)
                )
            if len(found) == _FOUND_MAX:
                return list(found.values())
    return list(found.values())


def missing_in_all(
    program: Program, requirements: Sequence[str], pythons: Sequence[tuple[int, int]]
) -> list[Missing]:
    """The modules that are missing whichever of these Pythons the nodes have."""
    first, *others = (missing(program, requirements, python) for python in pythons)
    return [each for each in first if all(each in other for other in others)]


def foreign_paths(program: Program) -> list[ForeignPath]:
    """The string constants that are absolute paths of the researcher's own machine."""
    found: dict[ForeignPath, None] = {}
    for path, tree in program.trees.items():
        prose = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node not in prose and is_foreign(node.value):
                found[ForeignPath(str(node.value)[:_TEXT_MAX], path, node.lineno)] = None
    return sorted(found, key=lambda each: (each.path != program.main, each.path, each.line))


def is_foreign(text: object) -> bool:
    """True when a text is, whole, an absolute path of another machine."""
    return isinstance(text, str) and "\n" not in text and bool(FOREIGN.match(text))


def _reached(sources: Mapping[str, str], main: str) -> Iterator[tuple[str, ast.Module]]:
    # The main file first; all in order of path where it is not there.
    waiting = [main] if main in sources else sorted(sources)
    seen = set(waiting)
    while waiting:
        path = waiting.pop(0)
        tree = _parse(sources[path])
        if tree is not None:
            yield path, tree
            further = _named(tree, sources) - seen if sources[path] else set()
            waiting += sorted(further)
            seen |= further


def _parse(text: str) -> Optional[ast.Module]:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _named(tree: ast.Module, paths: Mapping[str, object]) -> set[str]:
    # By the ends of paths, since a program may put any folder of its own on sys.path.
    ends = set()
    for each in _imports(tree):
        parts = each.module.split(".")
        for length in range(1, len(parts) + 1):
            stem = "/".join(parts[:length])
            ends |= {f"/{stem}.py", f"/{stem}/__init__.py"}
    for node in ast.walk(tree):  # subprocess.run([sys.executable, "step2.py"])
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and text[-3:] == ".py":
            ends.add("/" + text.lstrip("./"))
    return {path for path in paths if not ends.isdisjoint(_ends(path))}


def _ends(path: str) -> Iterator[str]:
    """Of a/b.py: /b.py and /a/b.py."""
    end = ""
    for part in reversed(path.split("/")):
        end = f"/{part}{end}"
        yield end


def _imports(tree: ast.Module) -> Iterator[_Import]:
    # A stack and not recursion: a deep tree must not end the reading.
    waiting: list[tuple[ast.AST, bool]] = [(tree, True)]
    while waiting:
        node, needed = waiting.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _Import(alias.name, node.lineno, needed, False)
        elif isinstance(node, ast.ImportFrom):
            # “from google import protobuf” imports google.protobuf.
            stem = f"{node.module}." if node.module else ""
            for alias in node.names:
                dotted = f"{stem}{alias.name}".replace(".*", "")
                yield _Import(dotted, node.lineno, needed, bool(node.level))
        else:
            needed = needed and not _optional(node)
            waiting += [(child, needed) for child in reversed(list(ast.iter_child_nodes(node)))]


def _optional(node: ast.AST) -> bool:
    if isinstance(node, ast.Try):
        return any(_MISSING_IS_CAUGHT & _words(h.type) or not h.type for h in node.handlers)
    if isinstance(node, (ast.With, ast.AsyncWith)):
        return any(_MISSING_IS_CAUGHT & _words(item.context_expr) for item in node.items)
    if isinstance(node, ast.If):
        asked = _words(node.test)
        there = any(word in name.lower() for name in asked for word in ("colab", "kaggle"))
        return there or bool(asked & _ABOUT_THE_MACHINE) or _asks_os_name(node.test)
    return False


def _words(node: Optional[ast.AST]) -> set[str]:
    names: set[str] = set()
    for each in ast.walk(node) if node else ():
        if isinstance(each, ast.Name):
            names.add(each.id)
        elif isinstance(each, ast.Attribute):
            names.add(each.attr)
    return names


def _asks_os_name(test: ast.AST) -> bool:
    return any(
        isinstance(each, ast.Attribute)
        and each.attr == "name"
        and isinstance(each.value, ast.Name)
        and each.value.id == "os"
        for each in ast.walk(test)
    )


def _told_name(module: str) -> str:
    # What a person calls it: cv2, but google.protobuf.
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] in ("google", "scikits", "ruamel") else parts[0]
