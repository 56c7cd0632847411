"""A whole bridge on this one machine, under one folder: its settings file and its processes."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nias_bridge.errors import NiasError

SERVICE_USER = "nias"
START_SECONDS = 60
STOP_SECONDS = 15
LOOK_SECONDS = 0.1
ENDS_WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")  # util-linux: there on every Debian


class SiteError(NiasError):
    """The bridge could not be set up on this machine; the message says why and what to do."""


@dataclass(frozen=True)
class Site:
    """One bridge under `state`; as root its processes run as `user`, else as ourselves (None)."""

    state: Path
    user: str | None
    port: int

    @property
    def config(self) -> Path:
        return self.state / "nias-bridge.toml"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self, command: str) -> Path:
        return self.state / f"{command}.log"


def service_user() -> str | None:
    """The account of the gateway and its jobs: made where missing as root; None: our own."""
    if os.geteuid() != 0:
        return None
    if not _account_is_there():
        made = subprocess.run(
            [
                *("useradd", "--system", "--user-group", "--no-create-home"),
                *("--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", SERVICE_USER),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        # Somebody else may have made it meanwhile: what counts is that it is there.
        if not _account_is_there():
            raise SiteError(f"The account {SERVICE_USER} can't be made: {made.stderr.strip()}")
    return SERVICE_USER


def _account_is_there() -> bool:
    try:
        pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return False
    return True


def set_up(state: Path, *, port: int, slurm_conf: Path, **settings: Any) -> Site:
    """Folders, settings file and database of a bridge. Raises SiteError.

    The secret key is made once and kept; `settings` are further ones by their names.
    """
    site = Site(state, service_user(), port)
    _make_folders(site)
    _write_config(site, {"slurm_conf": slurm_conf, "port": port, **settings})
    _check_readable(site)
    subprocess.run(**command(site, "db", "upgrade"), check=True, timeout=START_SECONDS)
    return site


def command(site: Site, *words: str) -> dict[str, Any]:
    """How to call `nias-bridge WORDS` as the site's user: arguments for subprocess.Popen."""
    environment = {**os.environ, "NIAS_BRIDGE_CONFIG": str(site.config), "LANG": "C.UTF-8"}
    identity: dict[str, Any] = {}
    if site.user:
        environment.update(HOME="/nonexistent", USER=site.user, LOGNAME=site.user)
        identity = {"user": site.user, "group": site.user, "extra_groups": []}
    return {
        "args": [sys.executable, "-m", "nias_bridge.cli", *words],
        "env": environment,
        "cwd": "/",
        "stdin": subprocess.DEVNULL,
        **identity,
    }


def said(site: Site, *words: str) -> str:
    """What `nias-bridge WORDS` prints, called as the site's user. Raises SiteError."""
    done = subprocess.run(
        **command(site, *words), capture_output=True, text=True, timeout=START_SECONDS, check=False
    )
    if done.returncode:
        raise SiteError(f"nias-bridge {' '.join(words)}: {done.stderr.strip()}")
    return str(done.stdout).strip()


def has_person(site: Site, email: str) -> bool:
    """Whether somebody has an account under this address."""
    return any(email in line.split() for line in said(site, "user", "list").splitlines())


@contextmanager
def running(site: Site, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """`nias-bridge NAME`, stopped on the way out; its words go to the site's log of that name.

    It has a session of its own, so that Ctrl-C in a terminal reaches us alone; where we are killed,
    the kernel ends it too, and its port is free for the next one.
    """
    called = command(site, name)
    with site.log(name).open("ab") as out:
        process = subprocess.Popen(
            **{**called, "args": [*ENDS_WITH_US, *called["args"]]},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_served(site: Site) -> None:
    """Return when the gateway answers, well or not. Raises SiteError with its last words."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{site.url}/api/v1/health", timeout=5):  # noqa: S310
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > deadline:
                words = site.log("serve").read_text(errors="replace").splitlines()[-10:]
                told = "\n".join(words)
                raise SiteError(f"The gateway did not come up; its last words:\n{told}") from None
            time.sleep(LOOK_SECONDS)


def check_port(port: int) -> None:
    """Raises SiteError where the port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise SiteError(
                f"Port {port} can't be used ({error.strerror}): choose another with --port."
            ) from None


def _make_folders(site: Site) -> None:
    for folder in (site.state / "shared", site.state / "db"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if site.user:
            shutil.chown(folder, site.user, site.user)


def _write_config(site: Site, settings: dict[str, Any]) -> None:
    key = site.state / "secret-key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_text(secrets.token_urlsafe(48), encoding="ascii")
    settings = {
        "shared_root": site.state / "shared",
        "database_url": f"sqlite:///{site.state}/db/nias.db",
        "secret_key": key.read_text(encoding="ascii"),
        **settings,
    }
    lines = []
    for name, value in settings.items():
        plain = value if isinstance(value, int | float) else str(value)
        lines.append(f"{name} = {json.dumps(plain)}\n")
    site.config.touch(mode=0o640)
    site.config.write_text("".join(lines), encoding="utf-8")
    if site.user:
        shutil.chown(site.config, group=site.user)


def _check_readable(site: Site) -> None:
    try:
        subprocess.run(**command(site, "--version"), check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        raise SiteError(
            f"The account {site.user or 'of yours'} can't run {sys.executable} with nias_bridge "
            "in it. Install nias-bridge in a virtual environment that it can read."
        ) from None
