"""A program on the login node that is spoken with over a channel of its own, within deadlines."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from nias_bridge.slurm.ssh import BROKEN, CHUNK, Channel, Connection, reason, within

T = TypeVar("T")


class Severed(Exception):
    """What was said last got no whole answer: what it did is not known. Says why."""


@dataclass(frozen=True)
class Dialogue:
    """The program, as it is spoken with by one thread at a time.

    Moments are those of time.monotonic(). What it writes to stderr is read by `last_words` alone.
    """

    channel: Channel

    def send(self, parts: Iterable[bytes], until: float) -> None:
        """Raises Severed, also where not all of it is taken until then."""
        for part in parts:
            whole = memoryview(part)
            while whole:
                whole = whole[self._in_time(self.channel.send, bytes(whole[:CHUNK]), until) :]

    def receive(self, size: int, until: float) -> bytes:
        """Just so many bytes. Raises Severed, also where they are not there until then."""
        got: list[bytes] = []
        while size:
            got.append(self.receive_some(size, until))
            size -= len(got[-1])
        return b"".join(got)

    def receive_some(self, most: int, until: float) -> bytes:
        """What comes next, at least one byte of it. Raises Severed, also where nothing does."""
        got = self._in_time(self.channel.recv, most, until)
        if not got:
            raise Severed("the connection was lost")
        return got

    def last_words(self, until: float) -> str:
        """The last line of what it wrote to stderr before it ended, "" where it wrote nothing."""
        said: list[bytes] = []
        with suppress(Severed):
            while not said or said[-1]:
                said.append(self._in_time(self.channel.recv_stderr, CHUNK, until))
        return b"".join(said).decode(errors="replace").strip().rpartition("\n")[2]

    @property
    def alive(self) -> bool:
        """Whether nothing is known to have ended it."""
        return not (self.channel.closed or self.channel.eof_received)

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself: the connection is there still."""
        transport = self.channel.get_transport()
        return bool(self.channel.eof_received) and transport is not None and transport.is_active()

    def close(self) -> None:
        """End it: it is told that nothing more comes."""
        self.channel.close()

    def _in_time(self, do: Callable[[Any], T], what: Any, until: float) -> T:
        self.channel.settimeout(max(0.0, until - time.monotonic()))
        try:
            return do(what)
        except TimeoutError:
            raise Severed("it did not answer in time") from None
        except BROKEN as error:
            raise Severed(f"the connection was lost ({reason(error)})") from None


def begin(connection: Connection, argv: Sequence[str]) -> Dialogue:
    """Start a program on the login node, by the account's shell. Raises Unreachable, Severed."""
    channel = connection.channel()
    with within(connection.timeout, channel.close):
        try:
            channel.exec_command("cd / && exec " + shlex.join(argv))
        except BROKEN as error:
            channel.close()
            raise Severed(f"the connection was lost ({reason(error)})") from None
    return Dialogue(channel)
