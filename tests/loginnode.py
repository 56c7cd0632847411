"""A login node on this machine: a real sshd on loopback, with keys and an account of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import processes
from accounts import once_unlocked
from freeports import free_port

from nias_bridge.slurm.ssh import Login

HOST = "127.0.0.1"
SECONDS = 30.0
ACCOUNT = "nias-login"
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

CONFIG = """\
ListenAddress {host}
Port {port}
HostKey {folder}/host
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
AuthorizedKeysFile {folder}/authorized_keys
TrustedUserCAKeys {folder}/authority.pub
MaxSessions {sessions}
LogLevel VERBOSE
Subsystem sftp internal-sftp
"""


@dataclass
class LoginNode:
    """A running sshd. `login` is the account there that the key `person` lets in."""

    folder: Path
    port: int
    user: str
    process: subprocess.Popen[bytes]

    @property
    def login(self) -> Login:
        return Login(
            host=HOST,
            port=self.port,
            user=self.user,
            key=self.folder / "person",
            known_hosts=self.folder / "known_hosts",
        )

    def logins(self) -> int:
        """How many connections were ever let in."""
        return (self.folder / "log").read_text().count("Accepted publickey")

    def connections(self) -> list[int]:
        """The processes that serve connections, the children of our sshd and theirs, last first."""
        return self.programs("sshd")

    def programs(self, name: str) -> list[int]:
        """The processes below our sshd whose names begin so, last first."""
        found, parents = [], [self.process.pid]
        while parents:
            parents = [pid for parent in parents for pid in _children(parent)]
            found += [pid for pid in parents if _command(pid).startswith(name)]
        return found[::-1]

    def signal(self, number: int) -> None:
        """Sends a signal to all that serve a connection, not to what they run."""
        processes.send(number, self.connections())


@contextmanager
def running(sessions: int = 4) -> Iterator[LoginNode]:
    """As root its account is one made for it, else our own. sessions: at once on a connection."""
    assert SSHD
    folder = Path(tempfile.mkdtemp(prefix="nias-sshd-", dir="/tmp"))
    folder.chmod(0o755)
    user = _account()
    port = free_port()
    for name in ("host", "person", "stranger", "authority"):
        make_key(folder / name)
    (folder / "authorized_keys").write_text((folder / "person.pub").read_text())
    host_key = " ".join((folder / "host.pub").read_text().split()[:2])
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    (folder / "known_hosts").write_text(f"[{HOST}]:{port} {host_key}\n")
    _write_config(
        folder / "sshd_config",
        CONFIG.format(host=HOST, port=port, folder=folder, sessions=sessions),
    )
    argv = [SSHD, "-D", "-f", folder / "sshd_config", "-E", folder / "log"]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as process:
        try:
            _wait_until_served(process, port, folder / "log")
            yield LoginNode(folder, port, user, process)
        finally:
            process.terminate()
    shutil.rmtree(folder)


def make_key(path: Path, passphrase: str = "") -> None:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", path.name, "-f", path]
    subprocess.run(argv, check=True)


def _write_config(file: Path, text: str) -> None:
    # A newer sshd shuts out for a while whose connections fail or die, as the tests have them do.
    file.write_text(f"{text}PerSourcePenalties no\n")
    if subprocess.run([str(SSHD), "-t", "-f", file], capture_output=True, check=False).returncode:
        file.write_text(text)


def _account() -> str:
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        # With “*” for a password: sshd takes an account that useradd made for a locked one.
        made = ["useradd", "--system", "--password", "*", "--home-dir", "/", "--shell", "/bin/sh"]
        try:
            once_unlocked([*made, ACCOUNT])
        except AssertionError:
            pwd.getpwnam(ACCOUNT)  # another worker of the tests was quicker
    return ACCOUNT


def _wait_until_served(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with socket.create_connection((HOST, port), 1):
                return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)


def _children(pid: int) -> list[int]:
    try:
        told = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in told.split()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""
