"""What a project's code will not find on the cluster, told before any wait."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from nias_bridge.domain import Caution, Program
from nias_bridge.node import archive, environment, imports, soundness
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.evidence import read_json

# An upload must not wait long, and a syntax tree has up to a kilobyte for each word or sign.
FILES_MAX = 200
FILE_MAX_BYTES = 200 * 1000
WORDS_MAX = 50_000  # some 200 kB as people write
_WORD = re.compile(r"\w+|[^\w\s]")
TOLD_MAX = 50
# Where the nodes' own is not known, only what neither of these has is named.
_ANY_PYTHON = ((3, 9), (3, 14))


def cautions(
    bridge: Bridge,
    part: Path,
    inventory: archive.Inventory,
    requirements: Sequence[str],
    asked: Program,
) -> tuple[Caution, ...]:
    """The modules that nothing brings, and the paths of the researcher's own machine."""
    program = imports.read(sources(part, inventory), asked.main)
    pythons = _versions(asked.python or "") or nodes_python(bridge)
    lacked = [imports.missing(program, requirements, python) for python in pythons]
    told = [
        Caution(kind="missing", text=m.module, package=m.package, path=m.path, line=m.line)
        for m in lacked[0]
        if all(m in others for others in lacked)
    ]
    told += [
        Caution(kind="foreign", text=f.text, path=f.path, line=f.line)
        for f in imports.foreign_paths(program)
    ]
    return tuple(told[:TOLD_MAX])


def nodes_python(bridge: Bridge) -> tuple[tuple[int, int], ...]:
    """The Python of the nodes: that of the environment which was used last."""
    used = []
    for use in bridge.paths.environments.glob(f"*{environment.USE}"):
        try:
            used.append((use.stat().st_mtime, use.with_suffix("") / soundness.RECORD))
        except OSError:
            continue  # it was removed just now
    if used:
        return _versions(str(read_json(max(used)[1]).get("python", ""))) or _ANY_PYTHON
    return _ANY_PYTHON


def _versions(text: str) -> tuple[tuple[int, int], ...]:
    """“3.11.2” as the one version that it is; () for what is none."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return ((int(match[1]), int(match[2])),) if match else ()


def sources(part: Path, inventory: archive.Inventory) -> dict[str, str]:
    """The project's modules by their paths; those that are not read are there, but empty."""
    found: dict[str, str] = {}
    room, read = WORDS_MAX, 0
    # What lies near the top is the most likely to be the program's own.
    for entry in sorted(inventory.entries, key=lambda e: (e.path.count("/"), e.path)):
        path = PurePosixPath(entry.path)
        if path.suffix == ".so":  # filters.cpython-311-x86_64-linux-gnu.so
            found[str(path.with_name(path.name.partition(".")[0] + ".py"))] = ""
        if path.suffix != ".py":
            continue
        found[entry.path] = ""
        if read < FILES_MAX and room and entry.size <= FILE_MAX_BYTES:
            text = _text(part, inventory, entry.path)
            words = sum(1 for _ in _WORD.finditer(text))
            read += 1
            if words <= room:
                found[entry.path], room = text, room - words
    return found


def _text(part: Path, inventory: archive.Inventory, path: str) -> str:
    try:
        content = archive.read_member(part, inventory, path, FILE_MAX_BYTES)
    except archive.ArchiveError:
        return ""  # damage is told when it is unpacked
    return (content or b"").decode("utf-8-sig", "replace")
