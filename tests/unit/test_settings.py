"""What the settings promise: read once from TOML and environment, and errors name the setting."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from pydantic import ValidationError

from nias_bridge import pipconfig
from nias_bridge.errors import SettingsError
from nias_bridge.settings import CONFIG_VARIABLE, PREFIX, Settings, read_settings

SECRET = "0123456789abcdef0123456789abcdef"
NEEDED = f"""
shared_root = "/shared"
database_url = "sqlite:////state/nias.db"
secret_key = "{SECRET}"
"""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(PREFIX) or name in pipconfig.VARIABLES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes the settings file of this process."""

    def written(toml: str) -> Path:
        file = tmp_path / "nias-bridge.toml"
        file.write_text(toml, encoding="utf-8")
        monkeypatch.setenv(CONFIG_VARIABLE, str(file))
        return file

    return written


Write = Callable[[str], Path]


def test_three_settings_are_needed_and_the_rest_has_defaults(write: Write) -> None:
    write(NEEDED)
    settings = read_settings()
    assert (settings.shared_root, settings.secret_key) == (Path("/shared"), SECRET)
    assert (settings.host, settings.shared_root_on_cluster) == ("127.0.0.1", None)


def test_missing_settings_are_named_all_at_once_with_the_file(write: Write) -> None:
    file = write("")
    with pytest.raises(SettingsError) as told:
        read_settings()
    for name in ("shared_root", "database_url", "secret_key", str(file), "NIAS_BRIDGE_NAME"):
        assert name in str(told.value)


def test_the_file_is_read_in_its_types(write: Write) -> None:
    write(
        NEEDED
        + """
shared_root_on_cluster = "/gpfs/nias"
poll_interval = 2
slot_cpus = 4
trusted_hosts = ["nias.lab"]
[run_variables]
OMP_NUM_THREADS = "1"
"""
    )
    settings = read_settings()
    assert settings.shared_root_on_cluster == PurePosixPath("/gpfs/nias")
    assert (settings.poll_interval, settings.slot_cpus) == (2.0, 4)
    assert settings.trusted_hosts == ("nias.lab",)
    assert settings.run_variables == {"OMP_NUM_THREADS": "1"}


def test_the_environment_goes_before_the_file(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(NEEDED + "port = 8081\nthreads = 3\n")
    monkeypatch.setenv("NIAS_BRIDGE_PORT", "9000")
    settings = read_settings()
    assert (settings.port, settings.threads) == (9000, 3)


def test_the_environment_alone_is_enough(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    write("")
    monkeypatch.setenv("NIAS_BRIDGE_SHARED_ROOT", "/shared")
    monkeypatch.setenv("NIAS_BRIDGE_DATABASE_URL", "sqlite:////state/nias.db")
    monkeypatch.setenv("NIAS_BRIDGE_SECRET_KEY", SECRET)
    assert read_settings().shared_root == Path("/shared")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("port = 70000", "port"),
        ("poll_interval = 0", "poll_interval"),
        ("slot_cpus = 'many'", "slot_cpus"),
        ("threads = -1", "threads"),
        ("owner = 'The Lab'", "owner"),
        ("prot = 8080", "prot"),
    ],
)
def test_a_wrong_or_unknown_setting_is_named(write: Write, line: str, named: str) -> None:
    write(NEEDED + line)
    with pytest.raises(SettingsError, match=rf"\({named}: "):
        read_settings()


def test_a_relative_root_and_a_short_secret_are_refused(write: Write) -> None:
    write(NEEDED.replace("/shared", "shared").replace(SECRET, "secret"))
    with pytest.raises(SettingsError, match=r"shared_root: .*absolute.*; secret_key: "):
        read_settings()


def test_a_secret_that_is_refused_is_not_shown(write: Write) -> None:
    write(NEEDED.replace(SECRET, "hunter2"))
    with pytest.raises(SettingsError) as told:
        read_settings()
    assert "hunter2" not in str(told.value)


def test_a_file_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "nothing.toml"))
    with pytest.raises(SettingsError, match=r"nothing\.toml, which is not a file"):
        read_settings()


def test_a_file_that_is_no_toml_is_told_with_its_place(write: Write) -> None:
    file = write("shared_root = ")
    with pytest.raises(SettingsError, match="not valid TOML") as told:
        read_settings()
    assert str(file) in str(told.value)


def test_settings_do_not_change(write: Write) -> None:
    write(NEEDED)
    with pytest.raises(ValidationError, match="frozen"):
        read_settings().port = 1


def test_secrets_are_not_in_what_is_printed(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:password@pypi.lab/simple")
    write(NEEDED)
    settings = read_settings()
    assert settings.build_variables == {"PIP_INDEX_URL": "https://user:password@pypi.lab/simple"}
    assert SECRET not in repr(settings)
    assert "password" not in repr(settings)


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("folder", ["/", "/etc", "/home", "/var/lib", "apps", "/opt/../etc"])
def test_no_job_is_shown_a_folder_with_everybodys_things(write: Write, folder: str) -> None:
    write(f'{NEEDED}sandbox_readonly = ["/opt/apps", "{folder}"]\n')
    with pytest.raises(SettingsError, match="sandbox_readonly"):
        read_settings()
