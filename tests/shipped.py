"""The node program in a folder, as it is put on shared storage."""

from __future__ import annotations

from pathlib import Path

from nias_bridge.node import layout, ship


def put_program(folder: Path) -> None:
    """Write the program of this version, where its modules are not there yet."""
    program = ship.program()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / program.modules).exists():
        (folder / program.modules).write_bytes(ship.packed(program.sources))
    (folder / layout.NODE_PROGRAM).write_bytes(program.script)
