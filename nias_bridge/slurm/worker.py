"""A kept process of our own that makes calls which may hang or end it, each within a deadline."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from threading import Lock
from typing import Any

from nias_bridge.errors import NiasError, Unreachable


class Lost(Exception):
    """The worker took the call and gave no answer: what it did is not known. Says why."""


@dataclass
class Worker:
    """Runs `module`'s functions, which it hands to `serve`, in a process with this environment.

    The process is started when it is first needed, and anew when it was lost; it ends with us.
    """

    module: str
    environment: Mapping[str, str]
    timeout: float
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _wire: Connection | None = field(default=None, init=False, repr=False)

    def call(self, function: str, *arguments: Any) -> Any:
        """What the function gives, or raises of our errors.

        Raises Unreachable where it surely was not called, Lost where that is not known.
        """
        deadline = time.monotonic() + self.timeout
        if not self._lock.acquire(timeout=self.timeout):
            raise Unreachable(f"The call before took more than {self.timeout:g} s.")
        try:
            return self._ask(function, arguments, deadline)
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the process, where there is one; the next call starts another."""
        with self._lock:
            self._end()

    def _ask(self, function: str, arguments: tuple[Any, ...], deadline: float) -> Any:
        wire = self._wire if self._process and self._process.poll() is None else None
        if wire is None:
            self._end()
            wire = self._start()
        try:
            wire.send((function, arguments))
            if not wire.poll(max(0.0, deadline - time.monotonic())):
                self._end()
                raise Lost(f"no end within {self.timeout:g} s")
            well, answer = wire.recv()
        except (EOFError, OSError):
            raise Lost(f"its process ended with status {self._end()}") from None
        if well:
            return answer
        raise answer

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        # Where the package is, is told as an argument: an environment would reach the jobs.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            f"from {self.module} import main; main({theirs.fileno()})"
        )
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                env=dict(self.environment),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise Unreachable(f"{sys.executable} can't be run: {error.strerror}.") from None
        finally:
            theirs.close()
        self._wire = ours
        return ours

    def _end(self) -> int | None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        if self._process is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.1)  # it may be ending by itself: its own status says more
        self._process.kill()
        status = self._process.wait()
        self._process = None
        return status


def serve(descriptor: int, functions: Mapping[str, Callable[..., Any]]) -> None:
    """Answer calls until the other side is gone: (True, result), or (False, an error of ours)."""
    with Connection(descriptor) as wire:
        while True:
            try:
                function, arguments = wire.recv()
            except EOFError:
                return
            try:
                wire.send((True, functions[function](*arguments)))
            except NiasError as error:
                wire.send((False, error))
