"""What a program between the walls can see and do, tried with real bubblewrap."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nias_bridge.node import sandbox
from nias_bridge.node.sandbox import Refused, Walls, confined, walls

Shell = Callable[..., "subprocess.CompletedProcess[str]"]
PLAIN = Walls()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Shared storage with this program's folder, and with somebody else's beside it."""
    for folder in ("mine", "others", "bin"):
        (tmp_path / "shared" / folder).mkdir(parents=True)
        (tmp_path / "shared" / folder / "file").write_text(folder)
    return tmp_path / "shared"


@pytest.fixture
def shell(shared: Path) -> Shell:
    """Runs a script in sh, which may write to mine/ and sees nothing else of shared storage."""

    def run(script: str, around: Walls = PLAIN) -> subprocess.CompletedProcess[str]:
        inside = around.around(hidden=[shared], writable=[shared / "mine"])
        return subprocess.run(
            confined(["sh", "-c", script], inside),
            cwd=shared / "mine",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def private(tmp_path: Path) -> Path:
    for name in ("home", "tmp"):
        (tmp_path / "private" / name).mkdir(parents=True)
    return tmp_path / "private"


def test_of_shared_storage_it_sees_its_own_and_writes_there_alone(
    shell: Shell, shared: Path
) -> None:
    told = shell(f"ls {shared}; echo x > {shared}/mine/new; echo x > {shared}/exit.json")
    assert told.stdout.split() == ["mine"]
    assert "Read-only file system" in told.stderr
    assert (shared / "mine" / "new").read_text() == "x\n"
    assert not (shared / "exit.json").exists()


def test_it_finds_no_home_no_settings_no_sockets_and_no_secrets_of_the_system(
    shell: Shell, tmp_path: Path
) -> None:
    top = set(shell("ls -A /", Walls(private=private(tmp_path))).stdout.split())
    assert {"etc", "home", "proc", "usr"} <= top
    assert not {"run", "srv", "opt", "media", "mnt", "boot"} & top
    assert shell("ls -A /var").stdout.split() == ["tmp"]
    assert set(shell("ls -A /sys").stdout.split()) <= {"bus", "class", "devices"}
    etc = set(shell("ls /etc").stdout.split())
    assert {"passwd", "resolv.conf", "ssl"} <= etc
    assert not {"shadow", "slurm", "munge", "nias-bridge", "ssh", "sudoers"} & etc


def test_the_system_is_read_only(shell: Shell) -> None:
    for place in ("/usr/bin/ls", "/etc/passwd", "/usr/x", "/etc/x", "/x", "/home/x", "/var/x"):
        assert shell(f"echo x > {place}").returncode, place


def test_it_sees_its_own_processes_alone_and_has_no_rights(shell: Shell) -> None:
    processes = shell("ls -d /proc/[0-9]*").stdout.split()
    assert "/proc/1" in processes and len(processes) <= 4
    status = dict(
        line.split(":\t", 1) for line in shell("cat /proc/self/status").stdout.splitlines()
    )
    assert status["NoNewPrivs"] == "1"
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {0}


def test_its_namespaces_are_its_own(shell: Shell) -> None:
    names = ("mnt", "pid", "ipc", "uts")
    told = shell(f"for name in {' '.join(names)}; do readlink /proc/self/ns/$name; done")
    ours = [str(Path(f"/proc/self/ns/{name}").readlink()) for name in names]
    assert not set(told.stdout.split()) & set(ours)


def test_of_the_devices_it_has_the_harmless_ones_and_its_own_shared_memory(shell: Shell) -> None:
    name = f"nias-{os.getpid()}"
    told = shell(f"echo x > /dev/shm/{name}; ls /dev /dev/shm; ls -d /dev/[ksv]d* /dev/mem")
    assert {"null", "urandom", name} <= set(told.stdout.split())
    assert "cannot access '/dev/mem'" in told.stderr
    assert not Path("/dev/shm", name).exists()


def test_the_network_is_the_nodes_or_none(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = (
            f"exec python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}))'"
        )
        assert shell(script).returncode == 0
        assert "refused" in shell(script, walls({"job_network": False})).stderr


def test_a_private_folder_is_its_home_and_its_tmp(shell: Shell, tmp_path: Path) -> None:
    folder = private(tmp_path)
    told = shell(
        "echo h > /home/me/a; echo t > /tmp/b; echo v > /var/tmp/c; ls /tmp", Walls(private=folder)
    )
    assert {"b", "c"} <= set(told.stdout.split())
    assert (folder / "home" / "a").read_text() == "h\n"
    assert (folder / "tmp" / "c").read_text() == "v\n"


def test_what_the_site_adds_is_read_only_and_shows_nothing_of_shared_storage(
    shell: Shell, shared: Path, tmp_path: Path
) -> None:
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "tool").write_text("tool")
    inside = walls({"sandbox_readonly": [str(tmp_path)]})
    told = shell(f"cat {tmp_path}/apps/tool; ls {shared}; echo x > {tmp_path}/apps/tool", inside)
    assert told.stdout.split() == ["tool" + "mine"]
    assert "Read-only file system" in told.stderr


def test_a_folder_can_be_seen_at_another_place(shell: Shell, shared: Path) -> None:
    data = (shared / "others", Path("/data/emg"))
    told = shell("cat /data/emg/file; echo x > /data/emg/file", Walls(readable=(data,)))
    assert told.stdout == "others"
    assert (shared / "others" / "file").read_text() == "others"


def test_links_lead_to_nothing_that_it_does_not_see(shell: Shell, shared: Path) -> None:
    told = shell(f"ln -s {shared}/others/file leads; cat leads; cat ../others/file")
    assert told.stdout == ""
    assert told.stderr.count("No such file") == 2


def test_the_devices_of_gpus_are_there_for_jobs_that_have_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listdir = os.listdir
    devices = ["kmsg", "nvidia-uvm", "nvidia0", "nvme0"]
    monkeypatch.setattr(os, "listdir", lambda path: devices if path == "/dev" else listdir(path))
    for visible, seen in (("", 0), ("NoDevFiles", 0), ("0", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        options = confined(["true"], Walls())
        assert options.count("--dev-bind") == seen
        assert ("/dev/nvidia0" in options) == bool(seen)
        assert "/dev/nvme0" not in options


def test_the_walls_stand_unless_the_administrator_says_off() -> None:
    assert walls({}).standing
    assert walls({"sandbox": "required"}).standing
    assert confined(["true"], walls({"sandbox": "off"})) == ["true"]


def test_without_bubblewrap_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "defpath", str(tmp_path))
    sandbox._try.cache_clear()
    with pytest.raises(Refused, match="bubblewrap is not installed"):
        confined(["true"], Walls())


def test_where_bubblewrap_does_not_work_nothing_is_run_and_its_words_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'no namespaces here' >&2; exit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox._try.cache_clear()
    try:
        with pytest.raises(Refused, match="does not work") as refused:
            confined(["true"], Walls())
    finally:
        sandbox._try.cache_clear()
    assert refused.value.details == "no namespaces here"
