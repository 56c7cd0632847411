"""Slurm's commands run on a login node, over one kept SSH connection."""

from __future__ import annotations

import logging
import shlex
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Timer

import paramiko
import paramiko.hostkeys

from nias_bridge.errors import Unreachable
from nias_bridge.slurm.answers import Output
from nias_bridge.slurm.local import PATH, clean_environment

log = logging.getLogger(__name__)

SSH_PORT = 22
KEEP_ALIVE_SECONDS = 15
BACK_OFF_MAX = 60.0
# What the login node is given to kill a program past its deadline, and to say so.
GRACE_SECONDS = 2.0
FULL_SECONDS = 0.05  # after which one that opens no further channel is asked anew
CHUNK = 1 << 16
Channel = paramiko.Channel
# What a channel raises once it, or its connection, is no longer there.
BROKEN = (paramiko.SSHException, EOFError, OSError)

# Before _BEGIN nothing was started, and what is printed is the account's own: of its .bashrc, say.
_BEGIN = "nias-bridge: it begins"
_NO_CONF = "nias-bridge: no slurm.conf"
_NO_PROGRAM = "nias-bridge: no program"
_GUARD = f"""\
test -r "${{SLURM_CONF:-/}}" || {{ echo "{_NO_CONF}" >&2; exit 127; }}; \
command -v "$0" >/dev/null || {{ echo "{_NO_PROGRAM}" >&2; exit 127; }}; \
echo "{_BEGIN}"; exec "$0" "$@"\
"""


@dataclass(frozen=True)
class Login:
    """Who we are on which login node, and the file of the keys that it may show.

    key: a private key without a passphrase; certificate: OpenSSH's for it, where it has one.
    """

    host: str
    user: str
    key: Path
    known_hosts: Path
    port: int = SSH_PORT
    certificate: Path | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" + (f":{self.port}" if self.port != SSH_PORT else "")


class NoChannel(Unreachable):
    """The login node opens no further channel on this connection."""


@dataclass
class Connection:
    """One connection to a login node, made when it is first needed and again when it was lost.

    Any number of threads may use it at once. timeout: seconds for each attempt to connect.
    spare: has a channel given up, now or soon, that others can do without; whether there is one.
    """

    login: Login
    timeout: float = 30
    spare: Callable[[], bool] = field(default=lambda: False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)
    # One channel after the other: of two refusals at once paramiko gives one an error without name.
    _opening: Lock = field(default_factory=Lock, init=False, repr=False)
    _transport: paramiko.Transport | None = field(default=None, init=False, repr=False)
    _failures: int = field(default=0, init=False, repr=False)
    _not_before: float = field(default=0.0, init=False, repr=False)
    _why: str = field(default="", init=False, repr=False)

    def channel(self) -> Channel:
        """A new channel, on which nothing was sent yet. Raises Unreachable."""
        lost, until = 0, 0.0
        while lost < 2:  # a connection may have broken while nobody used it
            transport = self._kept()
            try:
                with self._opening:
                    return transport.open_session(timeout=self.timeout)
            except paramiko.ChannelException as error:
                # One that is given up counts for as long as its program takes to end.
                if not until and self.spare():
                    until = time.monotonic() + GRACE_SECONDS
                if time.monotonic() > until:
                    raise NoChannel(
                        f"{self.login.host} opens no further channel ({error.text}): see "
                        "MaxSessions in its sshd_config."
                    ) from None
                time.sleep(FULL_SECONDS)
            except BROKEN as error:
                log.info("The connection to %s is gone: %s", self.login, error)
                transport.close()
                lost += 1
        raise Unreachable(f"The connection to {self.login} is lost again and again.")

    def close(self) -> None:
        """End the connection, where there is one; the next call makes a new one."""
        with self._lock:
            if self._transport is not None:
                self._transport.close()

    def _kept(self) -> paramiko.Transport:
        with self._lock:
            if self._transport is not None and self._transport.is_active():
                return self._transport
            wait = self._not_before - time.monotonic()
            if wait > 0:
                raise Unreachable(f"{self._why} The next attempt is in {wait:.0f} s.")
            try:
                self._transport = _connect(self.login, self.timeout)
            except Unreachable as error:
                self._failures += 1
                self._not_before = time.monotonic() + min(BACK_OFF_MAX, 2.0**self._failures / 2)
                self._why = str(error)
                raise
            self._failures = 0
            log.info("Connected to %s.", self.login)
            return self._transport


@dataclass(frozen=True)
class SshRunner:
    """Runs programs on the login node, like LocalRunner here: of its folder `bin` (else of the
    usual ones), for the cluster of its file `conf` (else Slurm's default), for at most `timeout`
    seconds each, past which they are killed there too."""

    connection: Connection
    bin: Path | None = None
    conf: Path | None = None
    timeout: float = 30

    def __call__(self, argv: Sequence[str]) -> Output:
        """How the program ended, with a negative status where that is not known: it was killed,
        or the connection was lost, and it may have done its work.

        Raises Unreachable when it surely was not started.
        """
        channel = self.connection.channel()
        stdout, stderr, status, why = b"", b"", -1, ""
        with channel, within(self.timeout + GRACE_SECONDS, channel.close) as passed:
            try:
                channel.exec_command(self._line(argv))
                channel.shutdown_write()
                stdout, stderr = _all(channel.recv), _all(channel.recv_stderr)
                status = channel.recv_exit_status()
            except BROKEN as error:
                why = f" ({reason(error)})"
            late = passed.is_set()
            # Without the end of its output the status says nothing: the answer may be cut in two.
            whole = channel.eof_received and not late
        said, told = stdout.decode(errors="replace"), stderr.decode(errors="replace")
        before, begun, answer = said.partition(f"{_BEGIN}\n")
        if whole and not begun:
            raise self._not_started(argv[0], told or before)
        if late:
            channel.get_transport().close()  # not even its deadline there was kept: it is dead
        if late or (whole and status < 0):
            told += f"\nno end within {self.timeout:g} s"
        elif not whole:
            told += f"\nthe connection to {self.connection.login} was lost{why}"
        killed = status < 0 or not whole
        return Output(-signal.SIGKILL if killed else status, answer, told)

    def _line(self, argv: Sequence[str]) -> str:
        """One command of a shell, whichever the account has, that sets all that Slurm's get."""
        variables = [
            f"{name}={value}" for name, value in clean_environment(self.bin, self.conf).items()
        ]
        limit = ["timeout", "-s", "KILL", f"{self.timeout:g}"]
        program = str(self.bin / argv[0]) if self.bin else argv[0]
        return "cd / && exec " + shlex.join(
            ["env", "-i", *variables, *limit, "sh", "-c", _GUARD, program, *argv[1:]]
        )

    def _not_started(self, program: str, words: str) -> Unreachable:
        last = words.strip().rpartition("\n")[2]
        host = self.connection.login.host
        if last == _NO_CONF:
            return Unreachable(
                f"There is no {self.conf} on {host} that can be read; set slurm_conf to Slurm's "
                "slurm.conf there."
            )
        if last == _NO_PROGRAM:
            return Unreachable(
                f"There is no {program} in {self.bin or PATH} on {host}; set slurm_bin to the "
                "folder it is in."
            )
        user = self.connection.login.user
        return Unreachable(
            f"{host} runs no commands for {user}: {last or 'it ended without a word'}. Does the "
            "account have a shell that does, and its key no command= of its own?"
        )


class _RefuseUnknown(paramiko.MissingHostKeyPolicy):
    """A login node whose key nobody has vouched for is told nothing."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        """Raises Unreachable."""
        raise Unreachable(
            f"{self._login.known_hosts} has no key of {hostname} that is valid. It showed "
            f"{key.get_name()} {key.fingerprint}: if its administrator confirms that, put the line "
            f"of `ssh-keyscan -p {self._login.port} {self._login.host}` into that file."
        )


def _know(client: paramiko.SSHClient, login: Login) -> None:
    """Tell the client the keys of known_hosts but for those marked @revoked.

    Names may be hashed; patterns and authorities of host certificates are not known to paramiko.
    """
    try:
        text = login.known_hosts.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise Unreachable(
            f"{login.known_hosts} can't be read ({error.strerror}); set ssh_known_hosts to the "
            f"file with the key of {login.host}."
        ) from None
    lines = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    revoked = {line[3] for line in lines if line[0] == "@revoked" and len(line) > 3}
    for line in lines:
        if line[0].startswith("@") or revoked.intersection(line):
            continue
        try:
            entry = paramiko.hostkeys.HostKeyEntry.from_line(" ".join(line[:3]))
        except (paramiko.hostkeys.InvalidHostKey, paramiko.SSHException) as error:
            log.warning("A line of %s is no key: %s", login.known_hosts, error)
            continue
        if entry is not None and entry.hostnames and entry.key is not None:
            for name in entry.hostnames:
                client.get_host_keys().add(name, entry.key.get_name(), entry.key)


def _connect(login: Login, timeout: float) -> paramiko.Transport:
    """A connection whose other side is who it should be. Raises Unreachable."""
    key = _key(login)
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(_RefuseUnknown(login))
    _know(client, login)
    try:
        sock = _socket(login, timeout)
    except OSError as error:
        raise Unreachable(f"{login} can't be reached by SSH: {reason(error)}.") from None
    with within(timeout, lambda: sock.shutdown(socket.SHUT_RDWR)) as passed:
        try:
            client.connect(
                login.host,
                login.port,
                login.user,
                sock=sock,
                pkey=key,
                look_for_keys=False,
                allow_agent=False,
                timeout=timeout,
                banner_timeout=timeout,
                auth_timeout=timeout,
            )
        except Unreachable:
            client.close()
            raise
        except (paramiko.SSHException, EOFError, OSError) as error:
            client.close()
            why = f"no end within {timeout:g} s" if passed.is_set() else reason(error)
            raise Unreachable(_told(login, error, why)) from None
    transport = client.get_transport()
    if transport is None:  # it was connected a moment ago
        raise Unreachable(f"{login} hung up.")
    transport.set_keepalive(KEEP_ALIVE_SECONDS)
    return transport


def _socket(login: Login, timeout: float) -> socket.socket:
    sock = socket.create_connection((login.host, login.port), timeout)
    # A command is two small packets: the second would wait 40 ms for the first one's receipt.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A machine that is gone without a word acknowledges no keep-alive.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout * 1000))
    return sock


def _key(login: Login) -> paramiko.PKey:
    try:
        key = paramiko.PKey.from_path(login.key)
        if login.certificate is not None:
            key.load_certificate(str(login.certificate))
    except (paramiko.PasswordRequiredException, TypeError):
        raise Unreachable(
            f"{login.key} has a passphrase, which nobody is there to type: give the gateway a key "
            "of its own without one, and set ssh_key to it."
        ) from None
    except OSError as error:
        raise Unreachable(
            f"{error.filename} can't be read ({error.strerror}); see ssh_key and ssh_certificate."
        ) from None
    except (paramiko.SSHException, ValueError) as error:
        where = f"{login.key} or {login.certificate}" if login.certificate else f"{login.key}"
        raise Unreachable(f"{where} is not a key that can be used: {error}") from None
    return key


def _told(login: Login, error: Exception, why: str) -> str:
    """The sentence for a connection that could not be made."""
    if isinstance(error, paramiko.BadHostKeyException):
        return (
            f"{login.host} shows another key than {login.known_hosts} has: {error.key.get_name()} "
            f"{error.key.fingerprint}. It was set up anew, or somebody stands between. Ask its "
            "administrator, and only if that key is right put it into the file instead."
        )
    if isinstance(error, paramiko.AuthenticationException):
        what = f"{login.key} with {login.certificate}" if login.certificate else f"{login.key}"
        return (
            f"{login.host} does not let {login.user} in with {what} ({why}). Is the public key in "
            "its authorized_keys, or the certificate still valid?"
        )
    return f"{login} can't be reached by SSH: {why}."


def reason(error: Exception) -> str:
    """What is said of an error, without a full stop."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.rstrip(".")
    return str(error).rstrip(".") or type(error).__name__


def _all(receive: Callable[[int], bytes]) -> bytes:
    return b"".join(iter(lambda: receive(CHUNK), b""))


@contextmanager
def within(seconds: float, give_up: Callable[[], object]) -> Iterator[Event]:
    """Calls `give_up` from another thread, unless left before; the event says that it did."""
    passed = Event()

    def end() -> None:
        passed.set()
        try:
            give_up()
        except (OSError, EOFError, paramiko.SSHException) as error:
            log.debug("Already gone: %s", error)

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield passed
    finally:
        timer.cancel()
