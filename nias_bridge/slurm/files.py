"""Shared storage through a login node: its operations, asked over channels of one connection."""

from __future__ import annotations

import errno
import json
import time
import zlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from nias_bridge.errors import StorageUnreachable, Unreachable
from nias_bridge.node import reading, serving, ship
from nias_bridge.reach import Opened, open_afar
from nias_bridge.slurm.dialogue import Dialogue, Severed, begin
from nias_bridge.slurm.kept import Kept
from nias_bridge.slurm.local import PATH
from nias_bridge.slurm.ssh import CHUNK, Connection

CHANNELS = 4  # sshd opens ten, unless it is told otherwise, and Slurm's commands need some
LONG_SECONDS = 600.0
UNPACKING_SECONDS = 24 * 3600.0  # a terabyte, on a slow disk; a lost connection is noticed before

# Done once more where no answer came, since twice leaves what once does; an append knows where it
# begins. The others, create, join, take, move, retire, end and publish_dataset, would stumble over
# what they themselves had done.
AGAIN = frozenset(reading.OPERATIONS) | {
    *("write", "append", "seal", "make_folder", "remove", "touch"),
    *("permit", "take_group", "held", "discard", "clear"),
    *("files_of_dataset", "drop_dataset", "sweep_datasets"),
    *("why_no_acls", "open_datasets", "tell_datasets"),
}
# Seconds for those that go through all of a file, or of a folder.
LONG = {
    **dict.fromkeys(("size_of", "sha256", "seal", "join", "take", "retire"), LONG_SECONDS),
    **dict.fromkeys(("discard", "clear", "drop_dataset", "sweep_datasets"), LONG_SECONDS),
    "publish_dataset": UNPACKING_SECONDS,
}

# Of any Python there, so that an old one can say so. What it imports of ours it was sent.
_BOOTSTRAP = """\
import json, os, sys, zlib
from importlib import abc, util
if sys.version_info < (3, 9):
    sys.exit("its Python is %d.%d, and 3.9 is needed" % sys.version_info[:2])
os.umask(int(sys.argv[3], 8))
sent = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))
texts = json.loads(zlib.decompress(sent).decode())

class Sent(abc.MetaPathFinder, abc.InspectLoader):
    def find_spec(self, name, path=None, target=None):
        return util.spec_from_loader(name, self) if name in texts else None

    def is_package(self, name):
        return any(other.startswith(name + ".") for other in texts)

    def get_source(self, name):
        return texts[name]

sys.meta_path.insert(0, Sent())
from nias_bridge.node import operations, serving
serving.serve(sys.argv[2], operations.OPERATIONS)
"""


@dataclass
class LoginFiles:
    """What does the operations below `root` on the login node, as the account of the connection.

    Any number of threads may use it at once; what they ask is done on a few channels, each of which
    a Python there serves. umask: of what is made there; timeout: seconds for each operation, but
    for those that take long by their nature.
    """

    connection: Connection
    root: PurePosixPath
    python: str = "python3"
    umask: int = 0o022
    timeout: float = 30
    _kept: Kept = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._kept = Kept(self._begun, CHANNELS, self.timeout)
        self.connection.spare = self._kept.spare

    def call(self, operation: str, **arguments: Any) -> Any:
        """What the one of node/operations.py gives, tuples as lists.

        Raises OSError as it does, and StorageUnreachable where there is no answer: unless it is one
        of AGAIN it may have been done.
        """
        message = serving.pack({"do": operation, "with": arguments})
        seconds = LONG.get(operation, self.timeout)
        try:
            try:
                answer = self._ask(message, seconds)
            except Severed:
                if operation not in AGAIN:
                    raise
                answer = self._ask(message, seconds)
                if operation == "append" and "gave" in answer:
                    answer["gave"] = _added(*answer["gave"], **arguments)
        except Unreachable as error:
            raise StorageUnreachable(str(error)) from None
        except Severed as error:
            host = self.connection.login.host
            raise StorageUnreachable(
                f"The shared storage on {host} gave no answer ({operation}: {error})."
            ) from None
        return _given(operation, answer)

    def open(self, path: str) -> Opened:
        return open_afar(self, "begin", path=path)

    def open_beneath(self, root: str, path: str) -> Opened:
        return open_afar(self, "begin_beneath", root=root, path=path)

    def close(self) -> None:
        """End what serves us there, and the connection; the next call begins anew."""
        self._kept.close()
        self.connection.close()

    def _ask(self, message: list[bytes], seconds: float) -> dict[str, Any]:
        with self._kept.one() as dialogue:
            until = time.monotonic() + seconds
            dialogue.send(message, until)
            answer: dict[str, Any] = serving.unpack(lambda size: dialogue.receive(size, until))
        return answer

    def _begun(self) -> Dialogue:
        """What serves us there, begun. Raises Unreachable, Severed."""
        environment = ["env", "-i", f"PATH={PATH}", "LANG=C.UTF-8"]
        python = [self.python, *("-I", "-S", "-X", "utf8", "-c", _BOOTSTRAP)]
        arguments = [serving.NAME, str(self.root), f"{self.umask:o}"]
        dialogue = begin(self.connection, [*environment, *python, *arguments])
        try:
            self._await_beginning(dialogue)
        except BaseException:
            dialogue.close()
            raise
        return dialogue

    def _await_beginning(self, dialogue: Dialogue) -> None:
        until = time.monotonic() + self.timeout
        said = b""
        try:
            dialogue.send(_texts(), until)
            while said != serving.BEGIN:
                said = (said + dialogue.receive_some(CHUNK, until))[-len(serving.BEGIN) :]
        except Severed:
            words = dialogue.last_words(until) or "it ended without a word"
            if not dialogue.ended:
                raise
            login = self.connection.login
            raise Unreachable(
                f"{login.host} serves no files to {login.user}: {words}. Set python to one that is "
                "there too, 3.9 or later."
            ) from None


@cache
def _texts() -> tuple[bytes, bytes]:
    """The modules that a Python there may import, behind a line with their length."""
    texts = {}
    for file, text in ship.program().sources.items():
        name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        texts[name] = text.decode()
    sent = zlib.compress(json.dumps(texts).encode("ascii"), 1)
    return b"%d\n" % len(sent), sent


def _added(size: int, added: bool, *, offset: int, data: bytes, **_: Any) -> tuple[int, bool]:
    """What an append gives that was made once more: it may find what it added the first time."""
    return size, added or size == offset + len(data)


def _given(operation: str, answer: dict[str, Any]) -> Any:
    if "gave" in answer:
        return answer["gave"]
    if "failed" in answer:
        raise RuntimeError(f"{operation} on the login node: {answer['failed']}")
    raise OSError(answer["errno"] or errno.EIO, answer["strerror"], answer["filename"])
