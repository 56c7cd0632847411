"""What a project's code will not find on the cluster, told before any wait."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import BinaryIO

from nias_bridge.domain import Caution, Program
from nias_bridge.node import archive, environment, imports, soundness, sources
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.evidence import read_json

TOLD_MAX = 50


def cautions(
    bridge: Bridge,
    zipped: BinaryIO,
    inventory: archive.Inventory,
    requirements: Sequence[str],
    asked: Program,
) -> tuple[Caution, ...]:
    """The modules that nothing brings, and the paths of the researcher's own machine."""
    program = imports.read(sources.read(zipped, inventory), asked.main)
    pythons = _versions(asked.python or "") or nodes_python(bridge)
    told = [
        Caution(kind="missing", text=m.module, package=m.package, path=m.path, line=m.line)
        for m in imports.missing_in_all(program, requirements, pythons)
    ]
    told += [
        Caution(kind="foreign", text=f.text, path=f.path, line=f.line)
        for f in imports.foreign_paths(program)
    ]
    return tuple(told[:TOLD_MAX])


def nodes_python(bridge: Bridge) -> tuple[tuple[int, int], ...]:
    """The Python of the nodes: that of the environment which was used last."""
    storage, folder = bridge.storage, bridge.paths.environments
    used = storage.entries(folder, environment.USE)
    if not used:
        return imports.ANY_PYTHON
    last = max(used, key=lambda name: used[name].modified_ns).removesuffix(environment.USE)
    record = read_json(storage, folder / last / soundness.RECORD)
    return _versions(str(record.get("python", ""))) or imports.ANY_PYTHON


def _versions(text: str) -> tuple[tuple[int, int], ...]:
    """“3.11.2” as the one version that it is; () for what is none."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return ((int(match[1]), int(match[2])),) if match else ()
