"""What lets the gateway run jobs as other accounts: put in place here, or as a script for the login
node where Slurm's commands are run."""

from __future__ import annotations

from pathlib import Path

from nias_bridge.errors import SettingsError
from nias_bridge.identity import place, run_as
from nias_bridge.settings import Settings

SUDOERS = Path("/etc/sudoers.d/nias-bridge")
_USUAL = "/usr/local/bin:/usr/bin:/bin"


def install(settings: Settings, gateway: str, sudoers: Path = SUDOERS) -> None:
    """As root: `gateway` is the account that serve and poll run as. Raises SettingsError."""
    try:
        place.put(plan(settings, gateway, sudoers))
    except place.Unable as error:
        raise SettingsError(str(error)) from None


def script(settings: Settings, gateway: str, sudoers: Path = SUDOERS) -> str:
    """A Python script that does the same where nothing of the bridge is installed, as root there;
    `gateway` is the account that the gateway has on that machine."""
    told = plan(settings, gateway, sudoers)
    texts = {name: told.pop(name) for name in ("text", "rule")}
    lines = [f"PLAN = {told!r}", *(f"PLAN[{k!r}] = r'''{v}'''" for k, v in texts.items())]
    source = Path(place.__file__).read_text(encoding="utf-8")
    return "\n\n".join([source, *lines, "sys.exit(main(PLAN))\n"])


def plan(settings: Settings, gateway: str, sudoers: Path) -> dict[str, str]:
    """What is to be put where, as place.put takes it."""
    return {
        "program": str(settings.run_as),
        "text": Path(run_as.__file__).read_text(encoding="utf-8"),
        "gateway": gateway,
        "shared": str(settings.root_on_cluster),
        "path": str(settings.slurm_bin) if settings.slurm_bin else _USUAL,
        "slurm_conf": str(settings.slurm_conf or ""),
        "sudoers": str(sudoers),
        "rule": rule(settings.run_as, gateway),
    }


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


def _grouped(patterns: tuple[str, ...]) -> list[str]:
    # sudo knows the regular expressions of POSIX, which have no (?:…).
    return [f"({pattern})".replace("(?:", "(") for pattern in patterns]


def _escaped(pattern: str) -> str:
    """As sudoers wants it: these characters mean something to it."""
    return "".join(f"\\{c}" if c in ",:=\\#" else c for c in pattern)
