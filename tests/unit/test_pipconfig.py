"""What is taken over of what this machine tells pip."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nias_bridge import pipconfig
from nias_bridge.errors import SettingsError

CONF = """
[global]
index-url = https://lab/simple
extra-index-url =
    https://lab/more
    https://lab/%7Eours
find_links = /srv/wheels
cert = /etc/lab.pem
timeout = 60
[install]
user = true
"""


@pytest.fixture(autouse=True)
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's own file, not written yet; nothing of pip's in environment or home."""
    for name in (*pipconfig.VARIABLES, "PIP_CONFIG_FILE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(pipconfig, "_OF_THE_MACHINE", tmp_path / "etc-pip.conf")
    return tmp_path / "etc-pip.conf"


def test_without_any_word_of_it_nothing_is_told() -> None:
    assert pipconfig.told() == {}


def test_the_machines_file_is_read_as_pip_reads_it(etc: Path) -> None:
    etc.write_text(CONF)
    assert pipconfig.told() == {
        "PIP_INDEX_URL": "https://lab/simple",
        "PIP_EXTRA_INDEX_URL": "https://lab/more https://lab/%7Eours",
        "PIP_FIND_LINKS": "/srv/wheels",
        "PIP_CERT": "/etc/lab.pem",
    }


def test_the_accounts_own_file_goes_before_the_machines(etc: Path, tmp_path: Path) -> None:
    etc.write_text(CONF)
    own = tmp_path / "home" / ".config" / "pip" / "pip.conf"
    own.parent.mkdir(parents=True)
    own.write_text("[global]\nindex-url = https://own/simple\n")
    told = pipconfig.told()
    assert (told["PIP_INDEX_URL"], told["PIP_CERT"]) == ("https://own/simple", "/etc/lab.pem")


@pytest.mark.parametrize("name", ["PIP_INDEX_URL", "UV_DEFAULT_INDEX"])
def test_the_environment_goes_before_the_files(
    etc: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    etc.write_text("[global]\nindex-url = https://lab/simple\n")
    monkeypatch.setenv(name, "https://mine/simple")
    assert pipconfig.told() == {name: "https://mine/simple"}


def test_a_file_that_is_named_is_read_and_none_where_none_is_wanted(
    etc: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    etc.write_text("[global]\ncert = /etc/lab.pem\n")
    (tmp_path / "named.conf").write_text("[global]\nindex-url = https://named/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "named.conf"))
    assert pipconfig.told() == {
        "PIP_INDEX_URL": "https://named/simple",
        "PIP_CERT": "/etc/lab.pem",
    }
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert pipconfig.told() == {}


def test_a_broken_file_is_named(etc: Path) -> None:
    etc.write_text("index-url = https://lab/simple\n")
    with pytest.raises(SettingsError, match=r"etc-pip\.conf can't be read"):
        pipconfig.told()
