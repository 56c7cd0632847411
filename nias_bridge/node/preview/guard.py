"""One child process for each file: what a parser does to it ends with the child."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from . import MEMORY_MAX, PLOT_BYTES_MAX, SECONDS_MAX

_ANSWER_MAX = 4_000_000  # bytes
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


class Failed(Exception):
    """The child gave no answer; the words say what became of it."""


def no_new_privileges() -> None:
    """From now on no program that this process starts can gain rights (set-uid and the like)."""
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def guarded(work: Callable[[], Any], seconds: float, mapped: int) -> Any:
    """What `work` returns, as JSON carries it, done in a child that is bounded in every way.

    seconds: by the clock, at most SECONDS_MAX; mapped: bytes that it may map beside MEMORY_MAX.
    Raises Failed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _answer(work, writing, mapped)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as answers:
        told, in_time = _read(answers.fileno(), time.monotonic() + min(seconds, SECONDS_MAX))
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not in_time:
        raise Failed("it took too long to look into")
    try:
        answer = json.loads(told)
    except ValueError:
        raise Failed(_became_of(status)) from None
    if "failed" in answer:
        raise Failed(answer["failed"])
    return answer["done"]


def _read(descriptor: int, until: float) -> tuple[bytes, bool]:
    told = b""
    while len(told) < _ANSWER_MAX:
        ready, _, _ = select.select([descriptor], [], [], max(0, until - time.monotonic()))
        if not ready:
            return told, False
        piece = os.read(descriptor, 65536)
        if not piece:
            break
        told += piece
    return told, True


def _answer(work: Callable[[], Any], writing: int, mapped: int) -> NoReturn:
    # Nothing of the parent's may run on in here: every way out is os._exit.
    try:
        _bound(mapped)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        answer = json.dumps({"done": work()}, allow_nan=False)
    except MemoryError:
        answer = json.dumps({"failed": "it takes too much memory to look into"})
    except BaseException as error:
        said = " ".join(str(error).split())[:300]
        answer = json.dumps({"failed": said or type(error).__name__})
    with suppress(BaseException), os.fdopen(writing, "wb") as answers:
        answers.write(answer.encode())
    os._exit(0)


def _bound(mapped: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # it dies with its parent
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_MAX + mapped),
        (resource.RLIMIT_DATA, MEMORY_MAX),
        (resource.RLIMIT_CPU, SECONDS_MAX),
        (resource.RLIMIT_FSIZE, PLOT_BYTES_MAX),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))


def _became_of(status: int) -> str:
    if not os.WIFSIGNALED(status):
        return "the program that looks into it broke off"
    number = os.WTERMSIG(status)
    if number == signal.SIGXCPU:
        return "it took too long to look into"
    return f"the program that looks into it was ended by {signal.Signals(number).name}"
