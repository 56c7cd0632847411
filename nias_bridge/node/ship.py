"""Make the node program: the modules of this folder in one file, and a script that runs them.

A zip that is itself the program would do, but Python takes 7 ms longer to start it, in each task of
a sweep. The modules' file is named by its content and never replaced, so that a job imports at any
time what belongs to what it began with.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import py_compile
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from . import layout

_HERE = Path(__file__).parent
# It ends at once: while Python winds up, it is back to dying of a second signal.
_MAIN = """\
# What a job of NIAS bridge does on its node.
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "{modules}"))
from nias_bridge.node.run import main

status = main(sys.argv[1:])
sys.stdout.flush()
os._exit(status)
"""


class Program(NamedTuple):
    """The program as it is to be written: its modules by their names, the name of the file that
    they are packed into, and the script that runs them."""

    sources: dict[str, bytes]
    modules: str
    script: bytes


def program() -> Program:
    """The program of this version."""
    sources = {"nias_bridge/__init__.py": b""}
    for module in sorted(_HERE.rglob("*.py")):
        if module != Path(__file__):
            name = module.relative_to(_HERE).as_posix()
            sources[f"nias_bridge/node/{name}"] = module.read_bytes()
    modules = layout.NODE_MODULES.format(_mark(sources))
    return Program(sources, modules, _MAIN.format(modules=modules).encode())


def _mark(sources: dict[str, bytes]) -> str:
    digest = hashlib.sha256(importlib.util.MAGIC_NUMBER)
    for name, source in sources.items():
        digest.update(f"{name} {len(source)}\n".encode() + source)
    return digest.hexdigest()[:16]


def packed(sources: dict[str, bytes]) -> bytes:
    """The modules as one file, which takes a second: each is compiled."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name, source in sources.items():
            # Compiled for this Python; another one finds the source beside it.
            zipped.writestr(zipfile.ZipInfo(f"{name}c"), _compiled(name, source))
            zipped.writestr(zipfile.ZipInfo(name), source)
    return file.getvalue()


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
