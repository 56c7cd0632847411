"""Put in place what lets the gateway run jobs as other accounts: a program, its settings, one
rule for sudo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from nias_bridge.errors import SettingsError
from nias_bridge.identity import run_as
from nias_bridge.settings import Settings

SUDOERS = Path("/etc/sudoers.d/nias-bridge")
_USUAL = "/usr/local/bin:/usr/bin:/bin"


def install(settings: Settings, gateway: str, sudoers: Path = SUDOERS) -> None:
    """As root: `gateway` is the account that serve and poll run as. Raises SettingsError.

    The rule comes last, and only where visudo finds nothing wrong with it.
    """
    if os.geteuid() != 0:
        raise SettingsError("Only root can install it: run this command as root.")
    program = settings.run_as
    program.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _write(program, Path(run_as.__file__).read_text(encoding="utf-8"), 0o755)
    told = program.with_name(f"{program.name}.json")
    _write(told, config(settings, gateway, _only_group(told)), 0o644)
    _write(sudoers, checked(rule(program, gateway)), 0o440)


def config(settings: Settings, gateway: str, only_group: str = "") -> str:
    """What the program may not be told by its caller. Raises SettingsError without sbatch."""
    path = str(settings.slurm_bin) if settings.slurm_bin else _USUAL
    sbatch = shutil.which("sbatch", path=path)
    if sbatch is None:
        raise SettingsError(f"There is no sbatch in {path}; set slurm_bin to the folder it is in.")
    told = {
        "gateway": gateway,
        "shared": str(settings.shared_root),
        "slurm_bin": str(Path(sbatch).parent),
        "slurm_conf": str(settings.slurm_conf or ""),
        "only_group": only_group,
    }
    return json.dumps(told, indent=1) + "\n"


def rule(program: Path, gateway: str) -> str:
    """The one rule for sudo: this account, this program, these forms of its arguments.

    The program holds each argument to the same form by itself.
    """
    calls = ", \\\n    ".join(
        f"{program} {_escaped('^' + ' '.join([word, *_grouped(patterns)]) + '$')}"
        for word, patterns in run_as.WORDS.items()
    )
    return (
        "# NIAS bridge gives runs to their owners' accounts, and submits and cancels as these.\n"
        f"{gateway} ALL=(root) NOPASSWD: \\\n    {calls}\n"
    )


def checked(text: str) -> str:
    """The text of a sudoers file in which visudo finds nothing wrong. Raises SettingsError."""
    visudo = shutil.which("visudo", path=f"/usr/sbin:/sbin:{_USUAL}")
    if visudo is None:
        raise SettingsError("There is no visudo here: install the package sudo (1.9.10 or newer).")
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        done = subprocess.run(
            [visudo, "-c", "-f", file.name], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SettingsError(f"visudo refuses the rule: {(done.stderr or done.stdout).strip()}")
    return text


def _only_group(file: Path) -> str:
    """What the administrator wrote there, which a new version leaves as it is."""
    if not file.exists():
        return ""
    return str(json.loads(file.read_text(encoding="utf-8")).get("only_group", ""))


def _grouped(patterns: tuple[str, ...]) -> list[str]:
    # sudo knows the regular expressions of POSIX, which have no (?:…).
    return [f"({pattern})".replace("(?:", "(") for pattern in patterns]


def _escaped(pattern: str) -> str:
    """As sudoers wants it: these characters mean something to it."""
    return "".join(f"\\{c}" if c in ",:=\\#" else c for c in pattern)


def _write(file: Path, text: str, mode: int) -> None:
    beside = file.with_name(f".{file.name}.new")  # sudo passes over names with a dot
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        os.fchmod(descriptor, mode)
        opened.write(text)
    beside.replace(file)
