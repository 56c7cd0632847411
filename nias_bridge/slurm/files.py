"""Shared storage through a login node: its operations, asked over channels of one connection."""

from __future__ import annotations

import errno
import inspect
import json
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath
from threading import Condition
from typing import Any

from nias_bridge.errors import StorageUnreachable, Unreachable
from nias_bridge.node import keeping, reading, serving
from nias_bridge.slurm.dialogue import Dialogue, Severed, begin
from nias_bridge.slurm.local import PATH
from nias_bridge.slurm.ssh import Connection, NoChannel
from nias_bridge.storage import Opened, open_afar

CHANNELS = 4  # sshd opens ten, unless it is told otherwise, and Slurm's commands need some
FULL_SECONDS = 0.1  # after which a login node that opens no further one is asked anew
LONG_SECONDS = 600.0
NOISE_MAX = 256 * 1024  # bytes that an account's own profile may say before

# Done once more where no answer came, since twice leaves what once does. Of the others create,
# take, move, retire and end would stumble over what they themselves had done; who appends asks
# where the file ends.
AGAIN = frozenset(reading.OPERATIONS) | {
    *("write", "seal", "make_folder", "remove", "touch"),
    *("permit", "take_group", "held", "discard", "clear"),
}
# They go through all of a file, or of a folder.
LONG = frozenset(("size_of", "sha256", "seal", "join", "take", "retire", "discard", "clear"))

# Of any Python there, so that an old one can say so. It becomes what it is sent.
_BOOTSTRAP = """\
import json, os, sys, types
if sys.version_info < (3, 9):
    sys.exit("its Python is %d.%d, and 3.9 is needed" % sys.version_info[:2])
os.umask(int(sys.argv[3], 8))
texts = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))
modules = {}
for name, text in json.loads(texts.decode()).items():
    modules[name] = types.ModuleType(name)
    exec(compile(text, name + ".py", "exec"), modules[name].__dict__)
known = dict(modules["reading"].OPERATIONS, **modules["keeping"].OPERATIONS)
modules["serving"].serve(sys.argv[2], known)
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
    _changed: Condition = field(default_factory=Condition, init=False, repr=False)
    _idle: list[Dialogue] = field(default_factory=list, init=False, repr=False)
    _open: int = field(default=0, init=False, repr=False)
    _most: int = field(default=CHANNELS, init=False, repr=False)

    def __post_init__(self) -> None:
        self.connection.spare = self._spare

    def call(self, operation: str, **arguments: Any) -> Any:
        """What the operation of node/reading.py or node/keeping.py gives, tuples as lists.

        Raises OSError as it does, and StorageUnreachable where there is no answer: unless it is one
        of AGAIN it may have been done.
        """
        message = serving.pack({"do": operation, "with": arguments})
        seconds = LONG_SECONDS if operation in LONG else self.timeout
        try:
            return _given(operation, self._ask(message, seconds))
        except Severed as error:
            if operation not in AGAIN:
                raise self._unreachable(f"{operation}: {error}") from None
        try:
            return _given(operation, self._ask(message, seconds))
        except Severed as error:
            raise self._unreachable(f"{operation}: {error}") from None

    def open(self, path: str) -> Opened:
        return open_afar(self, "begin", path=path)

    def open_beneath(self, root: str, path: str) -> Opened:
        return open_afar(self, "begin_beneath", root=root, path=path)

    def close(self) -> None:
        """End what serves us there; the next call begins anew."""
        with self._changed:
            idle, self._idle = self._idle, []
        for dialogue in idle:
            self._drop(dialogue)

    def _ask(self, message: list[bytes], seconds: float) -> dict[str, Any]:
        dialogue = self._taken()
        until = time.monotonic() + seconds
        try:
            dialogue.send(message, until)
            answer: dict[str, Any] = serving.unpack(lambda size: dialogue.receive(size, until))
        except BaseException:
            self._drop(dialogue)  # it is somewhere within a message
            raise
        with self._changed:
            self._idle.append(dialogue)
            self._changed.notify()
        return answer

    def _taken(self) -> Dialogue:
        """A channel for us alone, once there is one. Raises StorageUnreachable."""
        until = time.monotonic() + self.timeout
        while (dialogue := self._kept_or_place(until)) is None:
            try:
                return self._begun(until)
            except NoChannel as error:
                self._drop(None)
                # Others of ours may be given back, and Slurm's commands end.
                with self._changed:
                    self._most = max(1, self._open)
                    self._changed.wait(FULL_SECONDS)
                if time.monotonic() > until:
                    raise StorageUnreachable(str(error)) from None
            except (Unreachable, Severed) as error:
                self._drop(None)
                raise StorageUnreachable(str(error)) from None
            except BaseException:
                self._drop(None)
                raise
        return dialogue

    def _kept_or_place(self, until: float) -> Dialogue | None:
        """One that is kept, or None: then there is place for another, which is ours to begin."""
        with self._changed:
            while True:
                while self._idle:
                    dialogue = self._idle.pop()
                    if dialogue.alive:
                        return dialogue
                    self._open -= 1
                    dialogue.close()
                if self._open < self._most:
                    self._open += 1
                    return None
                if not self._changed.wait(until - time.monotonic()):
                    raise self._unreachable(f"no end of what {self._open} others asked before")

    def _begun(self, until: float) -> Dialogue:
        """What serves us there, begun. Raises Unreachable, Severed."""
        environment = ["env", "-i", f"PATH={PATH}", "LANG=C.UTF-8"]
        python = [self.python, *("-I", "-S", "-X", "utf8", "-c", _BOOTSTRAP)]
        arguments = [serving.NAME, str(self.root), f"{self.umask:o}"]
        dialogue = begin(self.connection, [*environment, *python, *arguments])
        try:
            dialogue.send(_texts(), until)
            said = b""
            while not said.endswith(serving.BEGIN):
                said += dialogue.receive_some(NOISE_MAX, until)
        except Severed:
            words = dialogue.last_words(until)
            dialogue.close()
            if not words:
                raise
            login = self.connection.login
            raise Unreachable(
                f"{login.host} serves no files to {login.user}: {words}. Set python to one that is "
                "there too, 3.9 or later."
            ) from None
        return dialogue

    def _drop(self, dialogue: Dialogue | None) -> None:
        """Make place for another."""
        with self._changed:
            self._open -= 1
            self._changed.notify()
        if dialogue is not None:
            dialogue.close()

    def _spare(self) -> bool:
        """Let another have a channel of those that wait, and keep fewer from now on."""
        with self._changed:
            if not self._idle:
                return False
            self._most = max(1, self._open - 1)
            dialogue = self._idle.pop()
        self._drop(dialogue)
        return True

    def _unreachable(self, why: str) -> StorageUnreachable:
        host = self.connection.login.host
        return StorageUnreachable(f"The shared storage on {host} gave no answer ({why}).")


@cache
def _texts() -> tuple[bytes, bytes]:
    """What a Python there becomes, behind a line with its length."""
    modules = (reading, keeping, serving)
    texts = {module.__name__.rpartition(".")[2]: inspect.getsource(module) for module in modules}
    sent = json.dumps(texts).encode("ascii")
    return b"%d\n" % len(sent), sent


def _given(operation: str, answer: dict[str, Any]) -> Any:
    if "gave" in answer:
        return answer["gave"]
    if "failed" in answer:
        raise RuntimeError(f"{operation} on the login node: {answer['failed']}")
    raise OSError(answer["errno"] or errno.EIO, answer["strerror"], answer["filename"])
