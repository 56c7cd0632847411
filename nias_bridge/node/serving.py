"""The operations on shared storage, done on a login node for a gateway that has no mount of it.

Nothing is installed there: the gateway sends this text, and those of the operations, over the very
pipe by which it then asks. A message either way is the length of its head (four bytes), the head
(JSON), and behind it the bytes that the head speaks of, as they are.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

NAME = "nias-storage"  # what ps and top call it
BEGIN = b"nias-bridge: files begin\n"  # what is said before is the account's own: of its .bashrc
# Arguments that are paths, or lists of them; those that are not absolute are from `root`.
PATHS = frozenset(
    ("folder", "inside", "lock", "others", "path", "paths", "root", "source", "target")
)
_LENGTH = struct.Struct(">I")


def pack(value: Any) -> list[bytes]:
    """A message: its head, then the bytes in `value`, one after the other.

    In the head {"": n} stands for the next n bytes: no argument and no field has an empty name.
    """
    aside: list[bytes] = []

    def put_aside(part: object) -> dict[str, int]:
        if not isinstance(part, (bytes, bytearray, memoryview)):
            raise TypeError(f"{type(part).__name__} can't be sent")
        aside.append(part)  # type: ignore[arg-type]
        return {"": len(part)}

    head = json.dumps(value, default=put_aside, separators=(",", ":")).encode("ascii")
    return [_LENGTH.pack(len(head)) + head, *aside]


def unpack(read: Callable[[int], bytes]) -> Any:
    """The value of the next message; `read` gives just as many bytes as it is asked for."""
    (length,) = _LENGTH.unpack(read(_LENGTH.size))

    def put_back(told: dict[str, Any]) -> Any:
        return read(told[""]) if "" in told else told

    # Objects are met in the order in which they were written, and so are the bytes behind them.
    return json.loads(read(length), object_hook=put_back)


def serve(root: str, operations: Mapping[str, Callable[..., Any]]) -> None:
    """Answer one message after the other on stdin, on stdout, until there are no more."""
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write(NAME)
    really = os.path.realpath(root)
    sys.stdout.buffer.write(BEGIN)
    sys.stdout.buffer.flush()
    while True:
        try:
            asked = unpack(_read)
        except EOFError:
            return
        try:
            for part in pack(answer(asked, root, really, operations)):
                sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # the gateway has given it up
            os._exit(0)


def answer(
    asked: Any, root: str, really: str, operations: Mapping[str, Callable[..., Any]]
) -> dict[str, Any]:
    """{"gave": …}, or what the system or the operation failed by."""
    try:
        arguments = _within(asked["with"], root, really)
        return {"gave": operations[asked["do"]](**arguments)}
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else None
        return {"errno": error.errno, "strerror": error.strerror or str(error), "filename": name}
    except Exception as error:  # this call fails, and the next one is answered
        return {"failed": f"{type(error).__name__}: {error}"}


def _within(arguments: dict[str, Any], root: str, really: str) -> dict[str, Any]:
    """The arguments, each path that of a place below the root, which may be led to by a link.

    Raises PermissionError for a path that leads elsewhere, as it is written: the operations look
    after links.
    """

    def placed(path: str) -> str:
        for top in (really, root):
            if path == top or path.startswith(f"{top.rstrip('/')}/"):
                path = really + path[len(top) :]
                break
        whole = os.path.normpath(os.path.join(base, path))
        if whole != really and not whole.startswith(f"{really.rstrip('/')}/"):
            raise PermissionError(errno.EACCES, "it is not on the shared storage", path)
        return path

    base = ""
    if "root" in arguments:
        base = placed(arguments["root"])
    found = dict(arguments)
    for name in PATHS.intersection(arguments):
        value = arguments[name]
        found[name] = [placed(path) for path in value] if isinstance(value, list) else placed(value)
    return found


def _read(size: int) -> bytes:
    data = sys.stdin.buffer.read(size)
    if len(data) < size:
        raise EOFError
    return data
