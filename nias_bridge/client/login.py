"""Where the gateway is and by which token one is known there: kept in the user's own folder."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from nias_bridge.errors import BadRequest, NiasError

URL, TOKEN = "NIAS_URL", "NIAS_TOKEN"  # variables
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})


class NotLoggedIn(NiasError):
    """No gateway or no token is known."""


@dataclass(frozen=True)
class Login:
    """A gateway's address, without a slash at its end, and a token of one's own there."""

    url: str
    token: str

    @property
    def in_the_clear(self) -> bool:
        """True when the token crosses a network unencrypted."""
        parts = urlsplit(self.url)
        return parts.scheme == "http" and parts.hostname not in _HERE


def address(url: str) -> str:
    """A gateway's address as it is kept. Raises BadRequest for what is none."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadRequest(
            f"“{url}” is no address of a gateway; write it as in https://nias.lab.org.", "url"
        )
    return url.strip().rstrip("/")


def folder() -> Path:
    """The user's folder for what this program keeps."""
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "nias"


def kept_in() -> Path:
    """The file that has the login."""
    return folder() / "login.json"


def keep(login: Login) -> Path:
    """Keep a login for the next time, readable by the user alone; returns the file."""
    file = kept_in()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A temporary file is 0600 from its first moment.
    made, name = tempfile.mkstemp(dir=file.parent, prefix=".login-")
    with os.fdopen(made, "w", encoding="utf-8") as out:
        json.dump(asdict(login), out)
    Path(name).replace(file)
    return file


def known(url: str | None = None, token: str | None = None) -> Login:
    """The login as it is given, else by NIAS_URL and NIAS_TOKEN, else the one that was kept.

    A token that was kept is for its own gateway alone. Raises NotLoggedIn, BadRequest.
    """
    kept = _kept()
    url = url or os.environ.get(URL) or (kept.url if kept else "")
    if not url:
        raise NotLoggedIn(f"No gateway is known. Run “nias login”, or set {URL} and {TOKEN}.")
    url = address(url)
    token = token or os.environ.get(TOKEN) or (kept.token if kept and kept.url == url else "")
    if not token:
        raise NotLoggedIn(f"No token is known for {url}. Run “nias login”, or set {TOKEN}.")
    return Login(url, token)


def _kept() -> Login | None:
    try:
        told = json.loads(kept_in().read_text(encoding="utf-8"))
        return Login(str(told["url"]), str(told["token"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise NotLoggedIn(f"{kept_in()} can't be read. Run “nias login” again.") from None
