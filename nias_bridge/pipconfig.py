"""What this machine tells pip and uv of indexes and certificates, to be told to the nodes too."""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator
from pathlib import Path

from nias_bridge.errors import SettingsError

# What pip and uv need behind a company's proxy or certificate authority.
VARIABLES = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "PIP_CERT",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_FIND_LINKS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
# A key of pip's configuration, its variable, and the others that say the same: if the environment
# has any of these, what the file says is not asked for.
_KEYS = (
    ("index-url", "PIP_INDEX_URL", ("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
    ("extra-index-url", "PIP_EXTRA_INDEX_URL", ("UV_INDEX",)),
    ("find-links", "PIP_FIND_LINKS", ("UV_FIND_LINKS",)),
    ("cert", "PIP_CERT", ("SSL_CERT_FILE",)),
)
_OF_THE_MACHINE = Path("/etc/pip.conf")


def told() -> dict[str, str]:
    """The environment's variables, and what pip's configuration files add. Raises SettingsError."""
    found = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    written = _written()
    for key, variable, others in _KEYS:
        if key in written and not found.keys() & {variable, *others}:
            found[variable] = " ".join(written[key].split())
    return found


def _written() -> dict[str, str]:
    """The section [global] of pip's files, the later ones before the earlier."""
    found: dict[str, str] = {}
    for file in _files():
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except OSError:
            continue  # it is not for this account
        except (configparser.Error, UnicodeDecodeError) as error:
            raise SettingsError(
                f"pip's configuration {file} can't be read: {error}. "
                "Mend it, or set build_variables."
            ) from None
        if parser.has_section("global"):
            found |= {key.replace("_", "-"): value for key, value in parser["global"].items()}
    return found


def _files() -> Iterator[Path]:
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return  # as pip has it: no file at all
    yield _OF_THE_MACHINE
    if named:
        yield Path(named)
        return
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  # Path.home() fails where there is none
    yield home / ".pip" / "pip.conf"
    yield Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
