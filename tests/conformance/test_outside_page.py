"""docs/outside-the-cluster.md, followed to the letter: commands and files as it prints them."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path, PurePosixPath

import pytest
from loginnode import HOST, LoginNode

from nias_bridge.bootstrap import open_scheduler
from nias_bridge.errors import Unreachable
from nias_bridge.settings import Settings
from nias_bridge.slurm.cli import CliScheduler

PAGE = (Path(__file__).parents[2] / "docs" / "outside-the-cluster.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def commands(prompt: str) -> list[str]:
    lines = "".join(blocks("console")).splitlines()
    return [line.removeprefix(prompt) for line in lines if line.startswith(prompt)]


@pytest.fixture
def followed(login_node: LoginNode, tmp_path: Path) -> tuple[LoginNode, Path, list[str]]:
    """What the commands about keys said, run with the login node and folder of this machine."""
    here = {
        "/etc/nias-bridge": str(tmp_path),
        "/etc/ssh/ssh_host_ed25519_key.pub": f"{login_node.folder}/host.pub",
        "login.lab": f"-p {login_node.port} {HOST}",
    }
    said = []
    for printed in commands("$ ssh-"):
        words = f"ssh-{printed}"
        for there, meant in here.items():
            words = words.replace(there, meant)
        done = subprocess.run(words, shell=True, capture_output=True, text=True, check=True)
        said.append(done.stdout)
    return login_node, tmp_path, said


def scheduler(node: LoginNode, folder: Path) -> CliScheduler:
    (toml,) = blocks("toml")
    said = tomllib.loads(toml)
    assert (said["ssh_host"], said["ssh_user"]) == ("login.lab", "nias")
    kept = {name: value for name, value in said.items() if not name.startswith("ssh_")}
    # The keys' places are the defaults, for the folder of the page.
    fields = Settings.model_fields
    keys = {name: folder / fields[name].default.name for name in ("ssh_key", "ssh_known_hosts")}
    settings = Settings(
        **kept, **keys, ssh_host=HOST, ssh_port=node.port, ssh_user=node.user,
        database_url="sqlite://", secret_key="for tests only, and long enough for it",
        slurm_timeout=10,
    )  # fmt: skip
    assert settings.shared_root_on_cluster == PurePosixPath("/shared/nias")
    chosen = open_scheduler(settings)
    assert isinstance(chosen, CliScheduler)
    return chosen


def test_whoever_follows_the_page_has_the_login_node_run_her_commands(
    followed: tuple[LoginNode, Path, list[str]],
) -> None:
    node, folder, said = followed
    *_, shown_by_scan, shown_there = said
    assert shown_by_scan.split()[1] == shown_there.split()[1]
    chosen = scheduler(node, folder)
    with pytest.raises(Unreachable, match=r"does not let .* in with .*id_ed25519"):
        chosen.run(["true"])
    (line,) = [block for block in blocks("") if "ssh-ed25519" in block]
    options = line.split(" ", 1)[0].replace("192.0.2.10", HOST)
    authorized = node.folder / "authorized_keys"
    with authorized.open("a") as keys:
        keys.write(f"{options} {(folder / 'id_ed25519.pub').read_text()}")
    fresh = scheduler(node, folder)
    assert fresh.run(["echo", "there"]).stdout == "there\n"
    fresh.run.connection.close()


def test_the_account_of_the_page_is_one_that_useradd_takes() -> None:
    (command,) = commands("# useradd ")
    told = subprocess.run(["useradd", "--help"], capture_output=True, text=True, check=True)
    for option in re.findall(r"--[a-z-]+", command):
        assert option in told.stdout
    assert shlex.split(command)[-1] == "nias"
