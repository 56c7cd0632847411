"""The seeds of random numbers that a project's code sets, as far as they stand in its sources.

Nobody can know what a program did at run time with the many generators there are. What is told is
where the sources seed one of the well-known ones, and the number where it is written there or is a
module's own constant. PYTHONHASHSEED is the node's: it sets it for each run and writes it down.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# The last part of what is called: random.seed, np.random.default_rng, torch.manual_seed …
_NAMES = """
    PCG64 PRNGKey Random RandomState SeedSequence default_rng manual_seed manual_seed_all seed
    seed_everything set_random_seed set_seed
"""
_SEEDING = frozenset(_NAMES.split())
_KEYWORDS = frozenset({"seed", "random_seed", "random_state"})
_FOUND_MAX = 200


@dataclass(frozen=True)
class Seed:
    """One place that seeds: the file, its line, what is called, and the number.

    value None: a seed is given, but which one does not stand there.
    """

    path: str
    line: int
    call: str
    value: int | None


def find(sources: Mapping[str, str]) -> list[Seed]:
    """The places in a project's modules (texts by path) that seed, in order, the first 200."""
    found: list[Seed] = []
    for path, text in sorted(sources.items()):
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue  # no Python, or none that could run
        constants = dict(_constants(tree))
        calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
        found += sorted(
            (
                Seed(path, call.lineno, name, _value(given, constants))
                for call in calls
                for name, given in _seeding(call)
            ),
            key=lambda seed: seed.line,
        )
    return found[:_FOUND_MAX]


def _seeding(call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """What is called and the seed that it is given, where this is such a call."""
    name = _dotted(call.func)
    if name is None:
        return
    if name.rpartition(".")[2] in _SEEDING and call.args:
        yield name, call.args[0]
        return
    for keyword in call.keywords:
        if keyword.arg in _KEYWORDS and not _is_none(keyword.value):
            yield name, keyword.value


def _dotted(node: ast.expr) -> str | None:
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(names)])


def _constants(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(number := _number(node.value), int):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, number


def _value(given: ast.expr, constants: Mapping[str, int]) -> int | None:
    return constants.get(given.id) if isinstance(given, ast.Name) else _number(given)


def _number(node: ast.expr) -> int | None:
    if isinstance(node, ast.Constant) and type(node.value) is int and node.value < 2**64:
        return node.value
    return None


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
