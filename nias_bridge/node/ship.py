"""Write the node program: the modules of this folder in one file, and a script that runs them.

A zip that is itself the program would do, but Python takes 7 ms longer to start it, in each task of
a sweep. The modules' file is named by its content and never replaced, so that a job imports at any
time what belongs to what it began with.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import py_compile
import tempfile
import zipfile
from pathlib import Path

from . import files, layout

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


def build(folder: Path) -> None:
    """Write the program and its modules into `folder`; what is there already is not written again.

    Modules of an earlier version stay, for jobs that run.
    """
    sources = {"nias_bridge/__init__.py": b""}
    for module in sorted(_HERE.rglob("*.py")):
        if module != Path(__file__):
            name = module.relative_to(_HERE).as_posix()
            sources[f"nias_bridge/node/{name}"] = module.read_bytes()
    modules = folder / layout.NODE_MODULES.format(_mark(sources))
    folder.mkdir(parents=True, exist_ok=True)
    if not modules.exists():
        _publish(modules, _packed(sources))
    program, text = folder / layout.NODE_PROGRAM, _MAIN.format(modules=modules.name).encode()
    if not program.exists() or program.read_bytes() != text:
        _publish(program, text)


def _publish(path: Path, content: bytes) -> None:
    with files.written_by_rename(path) as file:
        file.write(content)
        os.fchmod(file.fileno(), 0o644)


def _mark(sources: dict[str, bytes]) -> str:
    digest = hashlib.sha256(importlib.util.MAGIC_NUMBER)
    for name, source in sources.items():
        digest.update(f"{name} {len(source)}\n".encode() + source)
    return digest.hexdigest()[:16]


def _packed(sources: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as program:
        for name, source in sources.items():
            # Compiled for this Python; another one finds the source beside it.
            program.writestr(zipfile.ZipInfo(f"{name}c"), _compiled(name, source))
            program.writestr(zipfile.ZipInfo(name), source)
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
