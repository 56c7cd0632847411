"""Run code.py: in its own process group, in a clean environment, with its words in one log."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from . import layout
from .environment import CACHE, Environment, discard
from .stopping import TIME_LIMIT, Stopped, StopSignals

HASH_SEED = "0"  # sets and the like are in the same order in every run
# Seconds between asking the program to end and ending it.
_GRACE = {TIME_LIMIT: 5.0}
_GRACE_WHEN_TOLD = 2.0
_PASSED_ON = (
    "CUDA_VISIBLE_DEVICES",
    "LOGNAME",
    "ROCR_VISIBLE_DEVICES",
    "SLURM_CPUS_ON_NODE",
    "SLURM_JOB_ID",
    "TZ",
    "USER",
)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run(environment: Environment, folder: Path, command: Sequence[str],
        variables: Mapping[str, str], signals: StopSignals) -> int:  # fmt: skip
    """Run the project in `folder` to its end; returns its exit code, negative for a signal.

    command: the file that is run, and its arguments.

    stdout and stderr are this process's stdout. Whatever it left running is ended too. Raises
    Stopped, after the program was ended, when Slurm wants the job to end.
    """
    process = subprocess.Popen(
        [str(environment.python), *command],
        cwd=folder,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=1,
        stderr=1,
        start_new_session=True,
    )
    try:
        with signals.breaking_off():
            process.wait()
            if process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM):
                time.sleep(0.3)  # Slurm signals all processes: ours may be on its way
    except Stopped as stopped:
        _end(process, _GRACE.get(stopped.reason, _GRACE_WHEN_TOLD))
        raise
    finally:
        _signal_group(process, signal.SIGKILL)
    return process.returncode


@contextmanager
def private_folder(job: str) -> Iterator[Path]:
    """A folder for HOME and TMPDIR on the node's own disk, removed in the end."""
    folder = Path(os.environ.get("TMPDIR") or "/tmp") / f"nias-{job}-{os.urandom(4).hex()}"  # noqa: S108
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        discard(folder)


def variables(
    environment: Environment, project: Path, private: Path, site: Mapping[str, str]
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
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": HASH_SEED,
        "MPLBACKEND": "Agg",
        "NIAS_OUTPUT": str(project / layout.OUTPUT),
        **dict.fromkeys(_THREADS, str(threads)),
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        **site,
    }


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    _signal_group(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
