"""Write the node program: the modules of this folder as one file that any Python 3.9+ runs."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import py_compile
import tempfile
import zipfile
from pathlib import Path

from . import files

_HERE = Path(__file__).parent
# All is imported at the start, so that replacing the file does not hurt a job that runs. And it
# ends at once: while Python winds up, it is back to dying of a second signal.
_MAIN = """\
import os
import sys

from nias_bridge.node.run import main

status = main(sys.argv[1:])
sys.stdout.flush()
os._exit(status)
"""


def build(target: Path) -> None:
    """Write the program to `target` by rename; the same content is not written again."""
    sources = {"__main__.py": _MAIN.encode(), "nias_bridge/__init__.py": b""}
    for module in sorted(_HERE.rglob("*.py")):
        if module != Path(__file__):
            name = module.relative_to(_HERE).as_posix()
            sources[f"nias_bridge/node/{name}"] = module.read_bytes()
    mark = _mark(sources)
    if _mark_of(target) == mark:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.written_by_rename(target) as file:
        file.write(_packed(sources, mark))
    target.chmod(0o644)


def _mark(sources: dict[str, bytes]) -> bytes:
    digest = hashlib.sha256(importlib.util.MAGIC_NUMBER)
    for name, source in sources.items():
        digest.update(f"{name} {len(source)}\n".encode() + source)
    return digest.hexdigest().encode()


def _mark_of(target: Path) -> bytes | None:
    try:
        with zipfile.ZipFile(target) as program:
            return program.comment
    except (OSError, zipfile.BadZipFile):
        return None


def _packed(sources: dict[str, bytes], mark: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as program:
        for name, source in sources.items():
            # Compiled for this Python; another one finds the source beside it.
            program.writestr(zipfile.ZipInfo(f"{name}c"), _compiled(name, source))
            program.writestr(zipfile.ZipInfo(name), source)
        program.comment = mark
    return packed.getvalue()


def _compiled(name: str, source: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        plain, compiled = Path(folder, "module.py"), Path(folder, "module.pyc")
        plain.write_bytes(source)
        py_compile.compile(
            str(plain),
            str(compiled),
            dfile=name,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        return compiled.read_bytes()
