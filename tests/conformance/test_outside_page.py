"""docs/outside-the-cluster.md, followed to the letter: commands and files as it prints them."""

from __future__ import annotations

import grp
import pwd
import re
import shlex
import subprocess
import tempfile
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from loginnode import HOST, LoginNode

from nias_bridge.bootstrap import open_bridge, open_scheduler, open_subject
from nias_bridge.checks import storage
from nias_bridge.checks.points import Grade
from nias_bridge.checks.subject import Wanted
from nias_bridge.errors import Unreachable
from nias_bridge.services import provision
from nias_bridge.settings import Settings
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.store.schema import upgrade

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


def settings(node: LoginNode, folder: Path, toml: str, **mended: Any) -> Settings:
    """Those of the page, with the login node and folder of this machine."""
    said = tomllib.loads(toml)
    assert (said["ssh_host"], said["ssh_user"]) == ("login.lab", "nias")
    kept = {name: value for name, value in said.items() if not name.startswith("ssh_")}
    # The keys' places are the defaults, for the folder of the page.
    fields = Settings.model_fields
    keys = {name: folder / fields[name].default.name for name in ("ssh_key", "ssh_known_hosts")}
    url = f"sqlite:///{folder}/nias.db"
    return Settings(
        **{**kept, **mended}, **keys, ssh_host=HOST, ssh_port=node.port, ssh_user=node.user,
        database_url=url, secret_key="for tests only, and long enough for it", slurm_timeout=10,
    )  # fmt: skip


def scheduler(node: LoginNode, folder: Path) -> CliScheduler:
    with_mount, _ = blocks("toml")
    read = settings(node, folder, with_mount)
    assert read.shared_root_on_cluster == PurePosixPath("/shared/nias")
    chosen = open_scheduler(read)
    assert isinstance(chosen, CliScheduler)
    return chosen


def let_in(node: LoginNode, folder: Path) -> None:
    """The gateway's public key goes where the page says, with the options that it says."""
    (line,) = [block for block in blocks("") if "ssh-ed25519" in block]
    options = line.split(" ", 1)[0].replace("192.0.2.10", HOST)
    with (node.folder / "authorized_keys").open("a") as keys:
        keys.write(f"{options} {(folder / 'id_ed25519.pub').read_text()}")


def test_whoever_follows_the_page_has_the_login_node_run_her_commands(
    followed: tuple[LoginNode, Path, list[str]],
) -> None:
    node, folder, said = followed
    *_, shown_by_scan, shown_there = said
    assert shown_by_scan.split()[1] == shown_there.split()[1]
    chosen = scheduler(node, folder)
    with pytest.raises(Unreachable, match=r"does not let .* in with .*id_ed25519"):
        chosen.run(["true"])
    let_in(node, folder)
    fresh = scheduler(node, folder)
    assert fresh.run(["echo", "there"]).stdout == "there\n"
    fresh.run.connection.close()


def test_whoever_follows_it_with_no_mount_has_the_login_node_keep_her_files(
    followed: tuple[LoginNode, Path, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    node, folder, _ = followed
    let_in(node, folder)
    (made,) = commands("# install ")
    with tempfile.TemporaryDirectory(prefix="nias-shared-", dir="/tmp") as place:
        Path(place).chmod(0o755)
        root = f"{place}/nias"
        group = grp.getgrgid(pwd.getpwnam(node.user).pw_gid).gr_name
        here = made.replace("-o nias -g nias", f"-o {node.user} -g {group}")
        here = here.replace("/shared/nias", root)
        subprocess.run(f"install {here}", shell=True, check=True)
        _, without_mount = blocks("toml")
        assert tomllib.loads(without_mount)["shared_root"] == "/shared/nias"
        read = settings(node, folder, without_mount, shared_root=root)
        upgrade(read.database_url)
        with caplog.at_level("INFO"):
            bridge = open_bridge(read)
            provision.install(bridge)
        assert f"Shared storage is {root} on {node.login}." in caplog.text
        assert "Shared storage is /shared/nias on nias@login.lab." in PAGE
        assert Path(root, "bin/nias.sbatch").owner() == node.user
        assert bridge.paths.on_cluster == PurePosixPath(root)
        subject = open_subject(read, Wanted(job=False))
        found = {point.name: point.look(subject).grade for point in storage.POINTS}
        assert found.pop("mount") is Grade.SKIPPED
        assert set(found.values()) == {Grade.WELL}, found
        subject.storage.close()
        bridge.storage.close()


def test_the_account_of_the_page_is_one_that_useradd_takes() -> None:
    (command,) = commands("# useradd ")
    told = subprocess.run(["useradd", "--help"], capture_output=True, text=True, check=True)
    for option in re.findall(r"--[a-z-]+", command):
        assert option in told.stdout
    assert shlex.split(command)[-1] == "nias"
