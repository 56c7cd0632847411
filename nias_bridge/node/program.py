"""Run code.py: in its own process group, in a clean environment, with its words in one log."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, Optional

from . import files, layout, sandbox
from .environment import CACHE, Environment
from .stopping import TIME_LIMIT, Stopped, StopSignals, held_back

HASH_SEED = "0"  # sets and the like are in the same order in every run
# Seconds between asking the program to end and ending it.
_GRACE = {TIME_LIMIT: 5.0}
_GRACE_WHEN_TOLD = 2.0
_PASSED_ON = (
    "CUDA_VISIBLE_DEVICES",
    "LOGNAME",
    "ROCR_VISIBLE_DEVICES",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_CPUS_ON_NODE",
    "SLURM_JOB_ID",
    "TZ",
    "USER",
)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


# The first process within the walls. bubblewrap tells of a signal as of an exit code: this tells
# which it was. When it ends the kernel ends all that is left within, and only then it is gone.
# It is up in 8 ms for want of `site` and of `os` around posix.
_FIRST = """
import posix as os, sys
told = int(sys.argv[1])
os.set_inheritable(told, False)
child = os.posix_spawn(
    sys.argv[2], sys.argv[2:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 1, 2)],
    setsigmask=(), setsigdef=(%d, %d))
while True:
    process, status = os.wait()
    if process == child:
        os.write(told, b"%%d" %% status)
        os._exit(0)
""" % (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores these two; the program should not


class _Started(NamedTuple):
    """A program that runs, in a process group of its own.

    all_of_it: what os.kill is to be given so that nothing of it stays; told: where the first
    process within the walls tells the program's status, None without walls.
    """

    process: subprocess.Popen[bytes]
    all_of_it: int
    told: Optional[BinaryIO] = None

    def code(self) -> int:
        """Its exit code, negative for a signal, once it has ended. Raises Refused."""
        code = self.process.returncode
        if self.told is None:
            return code
        status = self.told.read()
        if status:
            return os.waitstatus_to_exitcode(int(status))
        if 0 < code <= 128:
            words = self.process.stderr.read() if self.process.stderr else b""
            told = words.decode(errors="replace").strip()
            raise sandbox.Refused("bubblewrap does not work", told)
        return 128 - code if code > 0 else code  # it was killed together with its walls


def run(folder: Path, command: Sequence[str], variables: Mapping[str, str],
        walls: sandbox.Walls, signals: StopSignals) -> int:  # fmt: skip
    """Run the project in `folder` to its end; returns its exit code, negative for a signal.

    command: the Python, the file that is run, and its arguments; walls: between which they are.
    They may write to the folder. stdout and stderr are this process's stdout. Whatever was left
    running is ended too. Raises Stopped, after the program was ended, when Slurm wants the job to
    end; and sandbox.Refused where it can't be confined, and so was not run.
    """
    walls = walls.around(writable=[folder])
    with ExitStack() as opened:
        start = _start_confined if walls.standing else _start_free
        started = start(command, folder, variables, walls, opened)
        process = started.process
        try:
            with signals.breaking_off():
                process.wait()
                code = started.code()
                if code in (-signal.SIGTERM, 128 + signal.SIGTERM):
                    time.sleep(0.3)  # Slurm signals all processes: ours may be on its way
        except Stopped as stopped:
            _end(started, _GRACE.get(stopped.reason, _GRACE_WHEN_TOLD))
            raise
        finally:
            _end_all(started)
    return code


def _start_free(command: Sequence[str], folder: Path, variables: Mapping[str, str],
                walls: sandbox.Walls, opened: ExitStack) -> _Started:  # fmt: skip
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=1,
        stderr=1,
        start_new_session=True,
    )
    return _Started(process, -process.pid)


def _start_confined(command: Sequence[str], folder: Path, variables: Mapping[str, str],
                    walls: sandbox.Walls, opened: ExitStack) -> _Started:  # fmt: skip
    told, telling = _pipe(opened)
    news, telling_news = _pipe(opened)
    first = [command[0], "-I", "-S", "-c", _FIRST, str(telling.fileno())]
    confined = sandbox.unproven(
        [*first, *command],
        walls,
        *("--as-pid-1", "--chdir", str(folder), "--info-fd", str(telling_news.fileno())),
    )
    # Slurm signals all processes of a job: bubblewrap's own and the first one are to outlive that.
    # A session of its own, that nobody within may push keys into our terminal.
    with held_back():
        process = subprocess.Popen(
            confined,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=1,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=(telling.fileno(), telling_news.fileno()),
        )
    for end in (telling, telling_news):
        end.close()
    if process.stderr:
        opened.enter_context(process.stderr)
    try:
        first_process = int(json.loads(news.read())["child-pid"])
    except (ValueError, KeyError):  # there is none
        first_process = process.pid
    return _Started(process, first_process, told)


def _pipe(opened: ExitStack) -> tuple[BinaryIO, BinaryIO]:
    reading, writing = os.pipe()
    return (
        opened.enter_context(os.fdopen(reading, "rb")),
        opened.enter_context(os.fdopen(writing, "wb")),
    )


@contextmanager
def private_folder(job: str) -> Iterator[Path]:
    """A folder for HOME and TMPDIR on the node's own disk, removed in the end."""
    folder = Path(os.environ.get("TMPDIR") or "/tmp") / f"nias-{job}-{os.urandom(4).hex()}"  # noqa: S108
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        files.discard(folder)


def variables(
    environment: Environment,
    project: Path,
    walls: sandbox.Walls,
    private: Path,
    site: Mapping[str, str],
) -> dict[str, str]:
    """The environment of code.py: nothing of ours but what it needs, and what the site adds."""
    cores = len(os.sched_getaffinity(0))
    given = os.environ.get("SLURM_CPUS_ON_NODE", "")
    threads = min(int(given), cores) if given.isdigit() else cores
    home, temporary = private / "home", private / "tmp"
    for folder in (home, temporary):
        folder.mkdir()
    with suppress(OSError):
        # The environment is sealed; what is in HOME the program may write to, and we remove.
        cache = home / ".cache"
        shutil.copytree(environment.folder / CACHE, cache)
        for path in (cache, *cache.rglob("*")):
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
    return {
        "PATH": f"{environment.folder / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "VIRTUAL_ENV": str(environment.folder),
        "HOME": str(sandbox.HOME if walls.standing else home),
        "TMPDIR": str(sandbox.TEMPORARY if walls.standing else temporary),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": HASH_SEED,
        "MPLBACKEND": "Agg",
        "NIAS_OUTPUT": str(project / layout.OUTPUT),
        **dict.fromkeys(_THREADS, str(threads)),
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        **site,
    }


def _end(started: _Started, grace: float) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(started.process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        started.process.wait(grace)
    _end_all(started)
    started.process.wait()


def _end_all(started: _Started) -> None:
    # Once the walls are gone nothing is left within them, and the number may be somebody else's.
    if started.told is None or started.process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(started.all_of_it, signal.SIGKILL)
