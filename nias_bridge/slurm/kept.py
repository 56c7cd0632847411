"""A few programs on the login node, kept to be spoken with by many threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition

from nias_bridge.errors import Unreachable
from nias_bridge.slurm.dialogue import Dialogue
from nias_bridge.slurm.ssh import FULL_SECONDS, NoChannel


@dataclass
class Kept:
    """Begins one when none of those that are kept is free, and at most so many.

    timeout: seconds to wait for one of them, or for the login node to open a further channel.
    """

    begin: Callable[[], Dialogue]
    most: int
    timeout: float
    _changed: Condition = field(default_factory=Condition, init=False, repr=False)
    _idle: list[Dialogue] = field(default_factory=list, init=False, repr=False)
    _busy: set[Dialogue] = field(default_factory=set, init=False, repr=False)
    _beginning: int = field(default=0, init=False, repr=False)
    _owed: int = field(default=0, init=False, repr=False)  # busy ones that another waits for

    @contextmanager
    def one(self) -> Iterator[Dialogue]:
        """One for us alone, which is ended where anything goes wrong within the block.

        Raises Unreachable where there is none, and what `begin` raises.
        """
        dialogue = self._taken()
        well = False
        try:
            yield dialogue
            well = True
        finally:
            self._give_back(dialogue, well)

    def spare(self) -> bool:
        """Let another have a channel of ours, now or soon, and keep fewer from now on; False where
        there is none."""
        with self._changed:
            if not self._idle and len(self._busy) <= self._owed:
                return False
            self.most = max(1, len(self._idle) + len(self._busy) - self._owed - 1)
            dialogue = self._idle.pop() if self._idle else None
            if dialogue is None:
                self._owed += 1
        if dialogue is not None:
            dialogue.close()
        return True

    def close(self) -> None:
        """End those that wait."""
        with self._changed:
            idle, self._idle = self._idle, []
        for dialogue in idle:
            dialogue.close()

    def _taken(self) -> Dialogue:
        until = time.monotonic() + self.timeout
        while (dialogue := self._waiting(until)) is None:
            try:
                dialogue = self.begin()
            except NoChannel:
                if time.monotonic() > until:
                    raise
            finally:
                self._end_beginning(dialogue)
            if dialogue is not None:
                return dialogue
            time.sleep(FULL_SECONDS)  # one of ours may be given back, or a command end
        return dialogue

    def _waiting(self, until: float) -> Dialogue | None:
        """One that waits, or None: then there is place for another, which is ours to begin."""
        with self._changed:
            while True:
                while self._idle:
                    dialogue = self._idle.pop()
                    if dialogue.alive:
                        self._busy.add(dialogue)
                        return dialogue
                    dialogue.close()
                if len(self._busy) + self._beginning < self.most:
                    self._beginning += 1
                    return None
                if not self._changed.wait(until - time.monotonic()):
                    raise Unreachable(
                        f"What was asked before takes the login node over {self.timeout:g} s."
                    )

    def _end_beginning(self, dialogue: Dialogue | None) -> None:
        with self._changed:
            self._beginning -= 1
            if dialogue is not None:
                self._busy.add(dialogue)
            self._changed.notify()

    def _give_back(self, dialogue: Dialogue, well: bool) -> None:
        with self._changed:
            self._busy.remove(dialogue)
            kept = well and not self._owed
            if kept:
                self._idle.append(dialogue)
            else:
                self._owed = max(0, self._owed - 1)
            self._changed.notify()
        if not kept:
            dialogue.close()
