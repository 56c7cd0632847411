"""Imports point one way: every import of every module is held to one table."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "nias_bridge"
NAME = "nias_bridge"

CORE = {"ports", "registers", "people", "errands", "tasks", "domain", "datasets", "naming"}
CORE |= {"cluster", "amounts", "errors"}
TOOLS = {
    "settings",
    "mail",
    "reach",
    "storage",
    "webhook",
    "pipconfig",
    "assets",
    "paths",
    "script",
}
TOOLS |= {"script", "node"}
BELOW_BOOTSTRAP = CORE | TOOLS | {"services", "slurm", "store", "http", "localcluster", "checks"}

# Which parts (a module, or a package with all its modules) may import which others. A part in a
# package's inside ("node.layout") can be named alone.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "naming": set(),
    "amounts": set(),
    "cluster": set(),
    "datasets": set(),
    "domain": {"datasets", "errors"},
    "tasks": {"domain", "errors"},
    "people": {"domain", "errors"},
    "errands": set(),
    "registers": {"people", "errands", "domain", "datasets", "errors"},
    "ports": {"cluster", "registers", "people", "errands", "tasks", "domain", "datasets", "errors"},
    "pipconfig": {"errors"},
    "settings": CORE | {"pipconfig", "mail"},
    "mail": CORE | {"assets"},
    "webhook": CORE,
    "assets": CORE,
    "paths": CORE | {"node.layout"},
    "reach": {"node"},
    "storage": CORE | {"node", "reach"},
    "script": CORE | (TOOLS - {"script", "node", "reach", "storage", "mail", "webhook"}),
    "node": set(),
    "services": CORE | TOOLS,
    "slurm": CORE | {"settings", "reach", "node"},
    "store": CORE | {"settings", "assets"},
    "localcluster": CORE | {"settings"},
    "identity": CORE | {"settings"},
    "http": CORE | {"services", "settings", "assets", "reach"},
    "poller": CORE | {"services"},
    "checks": CORE | TOOLS | {"slurm", "store", "identity"},
    "project": CORE | {"node"},
    "client": CORE | {"node", "project"},
    "terminal": CORE | {"client"},
    "nias": CORE | {"node", "project", "client", "terminal"},
    "bootstrap": BELOW_BOOTSTRAP,
    "site": BELOW_BOOTSTRAP | {"bootstrap", "poller"},
    "demo": BELOW_BOOTSTRAP | {"bootstrap", "poller", "site"},
    "cli": BELOW_BOOTSTRAP | {"bootstrap", "poller", "site", "demo", "identity"},
}

# Who alone may import a library, lest its quirks spread.
ONLY_IN = {
    "paramiko": {"slurm.ssh"},
    "pyslurm": {"slurm.native"},
    "sqlalchemy": {"store"},
    "alembic": {"store"},
    "flask": {"http"},
    "apiflask": {"http"},
    "authlib": {"http.oidc"},
    "click": {"cli", "demo", "nias", "terminal"},
    "httpx": {"client"},
    "rich": {"terminal"},
    "prometheus_client": {"http"},
}

# Shared storage may be on another machine: services and pages have it by `bridge.storage` alone.
# What of this machine's own files they still need:
OWN_FILES = {
    "services.provision": {"pathlib.Path"},  # uv, as it is installed here
    "http.docs": {"pathlib.Path"},  # a library's own pages
    "http.metrics": {"os"},
    "http.serve": {"os", "shutil", "tempfile", "pathlib.Path"},
    "poller": {"os"},
}
STORED_ELSEWHERE = {"services", "http", "poller"}
FILES_BY = {"os", "shutil", "tempfile", "fcntl", "glob", "pathlib.Path", "open"}

# These run where nothing of the package is installed: standard library alone.
ALONE = {"node", "identity.run_as", "identity.place"}

# The node runs where nothing is installed. What stands in its tools environment it may use from
# these modules alone, which do without where it is missing.
NODE_TOOLS = {"node.fastzip", "node.preview"}


def _modules() -> dict[str, Path]:
    """Every module of the package by its name within it; the package's own is ""."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = _modules()


@cache
def _imports(module: str) -> frozenset[str]:
    """All that a module imports, by absolute name; imports within functions count too."""
    file = MODULES[module]
    package = [NAME, *module.split(".")] if module else [NAME]
    if file.stem != "__init__":
        package = package[:-1]
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                inside = f"{source}.{alias.name}".removeprefix(f"{NAME}.")
                found.add(f"{NAME}.{inside}" if inside in MODULES else source)
    return frozenset(found)


def _lies_in(module: str, parts: set[str]) -> bool:
    return any(module == part or module.startswith(f"{part}.") for part in parts)


def _part(module: str) -> str:
    return module.partition(".")[0]


def test_every_part_of_the_package_is_in_the_table_and_none_beside() -> None:
    assert {_part(module) for module in MODULES if module} == MAY_IMPORT.keys()


def test_the_table_itself_has_no_way_back() -> None:
    for part, targets in MAY_IMPORT.items():
        for target in targets:
            assert part not in MAY_IMPORT[_part(target)], f"{part} and {target} import each other"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_what_its_place_allows(module: str) -> None:
    ours = {
        name.removeprefix(NAME).lstrip(".") for name in _imports(module) if name.startswith(NAME)
    }
    others = {target for target in ours if target and _part(target) != _part(module)}
    allowed = MAY_IMPORT[_part(module)] if module else set()
    assert {target for target in others if not _lies_in(target, allowed)} == set()


def _reaches_files_by(module: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(node.func.id)
    return found & FILES_BY


@pytest.mark.parametrize("module", sorted(m for m in MODULES if _lies_in(m, STORED_ELSEWHERE)))
def test_shared_storage_is_reached_by_its_one_door(module: str) -> None:
    assert _reaches_files_by(module) == OWN_FILES.get(module, set())


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_in_its_one_place(library: str) -> None:
    users = {m for m in MODULES if any(_part(name) == library for name in _imports(m))}
    assert {user for user in users if not _lies_in(user, ONLY_IN[library])} == set()


@pytest.mark.parametrize("module", sorted(m for m in MODULES if _lies_in(m, ALONE)))
def test_what_runs_without_the_package_needs_the_standard_library_alone(module: str) -> None:
    if not _lies_in(module, NODE_TOOLS):
        assert {_part(name) for name in _imports(module)} <= sys.stdlib_module_names | {NAME}


def test_the_pages_folder_has_no_python() -> None:
    assert list(PACKAGE.parent.glob("web/**/*.py")) == []
