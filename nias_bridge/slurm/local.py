"""Slurm's commands run on this machine, in a clean environment and within a deadline."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nias_bridge.errors import Unreachable
from nias_bridge.slurm.answers import Output

PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class LocalRunner:
    """Runs programs of the folder `bin` (else of PATH), for the cluster of the file `conf` (else
    Slurm's default), for at most `timeout` seconds each."""

    bin: Path | None = None
    conf: Path | None = None
    timeout: float = 30

    def __call__(self, argv: Sequence[str]) -> Output:
        """How the program ended, with a negative status where it had to be killed.

        Raises Unreachable when it surely was not started.
        """
        program = self._find(argv[0])
        if self.conf is not None and not self.conf.is_file():
            # Slurm's commands would look for it for a minute.
            raise Unreachable(f"There is no {self.conf}; set slurm_conf to Slurm's slurm.conf.")
        try:
            process = subprocess.Popen(
                [program, *argv[1:]],
                env=self.environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise Unreachable(f"{program} can't be run: {error.strerror}.") from None
        with process:
            try:
                stdout, stderr = process.communicate(timeout=self.timeout)
            except BaseException as error:
                with suppress(PermissionError):  # sudo is root's; what it runs has its own end
                    os.killpg(process.pid, signal.SIGKILL)  # not reaped yet: it is still its own
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                stdout, stderr = process.communicate()
                stderr += f"\nno end within {self.timeout:g} s"
                return Output(-signal.SIGKILL, stdout, stderr)
        return Output(process.returncode, stdout, stderr)

    def _find(self, name: str) -> str:
        path = str(self.bin) if self.bin else os.environ.get("PATH", PATH)
        program = shutil.which(name, path=path)
        if program is None:
            where = f"in {self.bin}" if self.bin else "on PATH"
            raise Unreachable(f"There is no {name} {where}; set slurm_bin to the folder it is in.")
        return program

    def environment(self) -> dict[str, str]:
        """What the programs get."""
        given = {"SLURM_CONF": os.environ["SLURM_CONF"]} if "SLURM_CONF" in os.environ else {}
        return given | clean_environment(self.bin, self.conf)


def clean_environment(bin_: Path | None, conf: Path | None) -> dict[str, str]:
    """All that Slurm's commands get, and so all that sbatch hands on to the job."""
    given = {
        "PATH": f"{bin_}:{PATH}" if bin_ else PATH,
        "LANG": "C.UTF-8",
        "SLURM_TIME_FORMAT": "%s",
        "SLURM_BITSTR_LEN": "0",  # the tasks of an array are all told, however many
    }
    if conf is not None:
        given["SLURM_CONF"] = str(conf)
    return given
