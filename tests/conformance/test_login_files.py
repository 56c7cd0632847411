"""Shared storage on a login node: a real sshd, whose connections are killed, frozen and filled."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

import loginnode
import processes
import pytest
from loginnode import HOST, LoginNode, make_key
from ways import until

from nias_bridge.errors import StorageUnreachable
from nias_bridge.node import serving
from nias_bridge.slurm.files import LoginFiles
from nias_bridge.slurm.ssh import Connection, Login, SshRunner
from nias_bridge.storage import Storage

MIB = 1024 * 1024


@pytest.fixture
def node(login_node: LoginNode) -> LoginNode:
    return login_node


@pytest.fixture
def root(node: LoginNode) -> Iterator[Path]:
    """Storage that only the login's account can look into."""
    made = Path(tempfile.mkdtemp(prefix="nias-storage-", dir="/tmp"))
    if os.geteuid() == 0:
        shutil.chown(made, node.user)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def reach(node: LoginNode, root: Path) -> Iterator[Callable[..., LoginFiles]]:
    made: list[LoginFiles] = []

    def reached(login: Login = node.login, *, dialled_for: float = 20, **how: object) -> LoginFiles:
        connection = Connection(login, timeout=dialled_for)
        how = {"timeout": 20, **how}
        made.append(LoginFiles(connection, PurePosixPath(root), **how))  # type: ignore[arg-type]
        return made[-1]

    yield reached
    for there in made:
        there.connection.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def served_by(node: LoginNode) -> list[int]:
    return node.programs(serving.NAME)


@contextmanager
def stopped(node: LoginNode) -> Iterator[None]:
    """All that serve files there hang, as on a file system that does not answer."""
    pids = served_by(node)
    processes.send(signal.SIGSTOP, pids)
    try:
        yield
    finally:
        processes.send(signal.SIGKILL, pids)


def with_command(node: LoginNode, folder: Path, command: str) -> Login:
    """A login whose key always runs this command."""
    make_key(folder / "forced")
    with (node.folder / "authorized_keys").open("a") as keys:
        keys.write(f'command="{command}" {(folder / "forced.pub").read_text()}')
    return replace(node.login, key=folder / "forced")


# --- what serves there ---


def test_who_serves_is_known_by_its_name_ends_with_us_and_makes_files_for_whom_it_is_told(
    node: LoginNode, reach: Callable[..., LoginFiles], root: Path
) -> None:
    there = reach(umask=0o027)
    storage = Storage(there)
    storage.create(PurePosixPath(root, "file"))
    status = (root / "file").stat()
    assert (status.st_mode & 0o777, (root / "file").owner()) == (0o640, node.user)
    (pid,) = served_by(node)
    assert str(root) in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    assert "SSH_CONNECTION" not in Path(f"/proc/{pid}/environ").read_text()
    there.close()
    until(lambda: not served_by(node) or None)
    assert storage.is_plain(PurePosixPath(root, "file"))  # it begins anew


def test_what_the_accounts_own_profile_prints_is_no_part_of_the_answer(
    node: LoginNode, reach: Callable[..., LoginFiles], root: Path, tmp_path: Path
) -> None:
    noise = r"yes Welcome | head -c 100000; echo oh >&2; eval \"$SSH_ORIGINAL_COMMAND\""
    storage = Storage(reach(with_command(node, tmp_path, noise)))
    assert storage.listing(PurePosixPath(root), ".") == []


@pytest.mark.parametrize(
    ("python", "told"),
    [
        ("no-such-python", r"no-such-python.*No such file or directory. Set python to one"),
        ("false", "ended without a word. Set python to one"),
    ],
)
def test_a_login_node_without_a_fitting_python_is_told(
    reach: Callable[..., LoginFiles], root: Path, python: str, told: str
) -> None:
    with pytest.raises(StorageUnreachable, match=told):
        Storage(reach(python=python)).info(PurePosixPath(root))


def test_a_python_that_is_too_old_says_so(
    node: LoginNode, reach: Callable[..., LoginFiles], root: Path, tmp_path: Path
) -> None:
    old = r"eval \"${SSH_ORIGINAL_COMMAND/version_info < (3, 9)/version_info < (9, 3)}\""
    login = with_command(node, tmp_path, f"exec bash -c '{old}'")
    with pytest.raises(StorageUnreachable, match=r"its Python is 3\.\d+, and 3\.9 is needed"):
        Storage(reach(login)).info(PurePosixPath(root))


def test_a_login_node_that_is_not_to_be_reached_is_no_storage_without_files(
    node: LoginNode, reach: Callable[..., LoginFiles], root: Path
) -> None:
    storage = Storage(reach(replace(node.login, key=node.folder / "stranger")))
    for ask in (storage.info, storage.is_plain, storage.open, storage.create):
        with pytest.raises(StorageUnreachable, match="does not let"):
            ask(PurePosixPath(root, "file"))


# --- connections that fail ---


def test_a_connection_that_broke_while_idle_is_made_again_unnoticed(
    node: LoginNode, reach: Callable[..., LoginFiles], root: Path
) -> None:
    there = reach()
    storage = Storage(there)
    storage.create(PurePosixPath(root, "one"))
    before = there.connection._transport
    node.signal(signal.SIGKILL)
    until(lambda: (before and not before.is_active()) or None)  # the end of it has come to us
    storage.create(PurePosixPath(root, "two"))


def test_a_connection_killed_while_it_reads_is_one_more_question(
    node: LoginNode, reach: Callable[..., LoginFiles], root: Path, pool: ThreadPoolExecutor
) -> None:
    content = os.urandom(3 * MIB)
    (root / "file").write_bytes(content)
    storage = Storage(reach())
    with storage.open(PurePosixPath(root, "file")) as opened:
        read = opened.read(MIB)
        with stopped(node):
            rest = pool.submit(opened.read)
            with pytest.raises(TimeoutError):  # it asks, and is not answered
                rest.result(timeout=0.2)
            node.signal(signal.SIGKILL)
            assert read + rest.result(timeout=20) == content


def test_a_connection_killed_while_it_appends_adds_once(
    node: LoginNode, reach: Callable[..., LoginFiles], root: Path, pool: ThreadPoolExecutor
) -> None:
    storage, file = Storage(reach()), PurePosixPath(root, "file")
    storage.create(file)
    with Path(file).open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # so that it is in the middle of it
        adding = pool.submit(storage.append, file, 0, b"x" * MIB)
        until(lambda: waits_for_a_lock(node) or None)
        node.signal(signal.SIGKILL)
        until(lambda: waits_for_a_lock(node) or None)
    assert adding.result(timeout=20) == (MIB, True)
    assert Path(file).read_bytes() == b"x" * MIB
    assert storage.append(file, 0, b"x") == (MIB, False)


def test_an_append_that_is_made_once_more_knows_what_it_added_itself(
    node: LoginNode, reach: Callable[..., LoginFiles], root: Path, pool: ThreadPoolExecutor
) -> None:
    storage, file = Storage(reach()), PurePosixPath(root, "file")
    storage.create(file)
    (server,) = served_by(node)
    with stopped(node):
        adding = pool.submit(storage.append, file, 0, b"added")
        until(lambda: asked_bytes(server) or None)
        Path(file).write_bytes(b"added")  # as it would have, and then said nothing
        node.signal(signal.SIGKILL)
        assert adding.result(timeout=20) == (5, True)
    assert Path(file).read_bytes() == b"added"


def asked_bytes(server: int) -> int:
    """How much the program has on its stdin that it has not read."""
    with Path(f"/proc/{server}/fd/0").open("rb", buffering=0) as pipe:
        told = fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))
    return int.from_bytes(told, sys.byteorder)


def test_what_can_not_be_done_twice_is_left_unknown(
    node: LoginNode, reach: Callable[..., LoginFiles], root: Path
) -> None:
    storage = Storage(reach(timeout=2))
    storage.create(PurePosixPath(root, "file"))
    with stopped(node), pytest.raises(StorageUnreachable, match="move: it did not answer in time"):
        storage.move(PurePosixPath(root, "file"), PurePosixPath(root, "moved"))


def waits_for_a_lock(node: LoginNode) -> bool:
    """Whether the one that serves does: there may be none, or two for a moment."""
    match served_by(node):
        case [pid]:
            locks = Path("/proc/locks").read_text().splitlines()
            return "-> FLOCK" in "".join(line for line in locks if f" {pid} " in line)
    return False


def test_files_that_hang_there_are_given_up_in_time_and_asked_for_once_more(
    node: LoginNode, reach: Callable[..., LoginFiles], root: Path
) -> None:
    storage = Storage(reach(timeout=2))
    storage.create(PurePosixPath(root, "file"))
    with stopped(node):
        begin = time.monotonic()
        assert storage.is_plain(PurePosixPath(root, "file"))
        assert 2 <= time.monotonic() - begin < 20


def test_a_frozen_login_node_is_dialled_anew(
    node: LoginNode, reach: Callable[..., LoginFiles], root: Path
) -> None:
    storage = Storage(reach(timeout=2, dialled_for=2))
    storage.create(PurePosixPath(root, "file"))
    frozen = node.connections()
    node.signal(signal.SIGSTOP)
    try:
        begin = time.monotonic()
        assert storage.is_plain(PurePosixPath(root, "file"))
        assert time.monotonic() - begin < 20
    finally:
        processes.send(signal.SIGKILL, frozen)


# --- many at once ---


def test_many_threads_share_few_channels_of_one_connection(
    node: LoginNode, reach: Callable[..., LoginFiles], root: Path, pool: ThreadPoolExecutor
) -> None:
    storage = Storage(reach())
    before = node.logins()

    def grown(name: int) -> bytes:
        file = PurePosixPath(root, str(name))
        storage.create(file)
        for at in range(20):
            storage.append(file, at, b"%d" % name)
        with storage.open(file) as opened:
            return opened.read()

    assert list(pool.map(grown, range(8))) == [b"%d" % name * 20 for name in range(8)]
    assert node.logins() == before + 1
    assert 1 < len(served_by(node)) <= 4


def test_a_slow_operation_holds_no_other_up(
    reach: Callable[..., LoginFiles], root: Path, pool: ThreadPoolExecutor
) -> None:
    storage, file = Storage(reach()), PurePosixPath(root, "file")
    storage.create(file)
    with Path(file).open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        slow = pool.submit(storage.append, file, 0, b"x")
        assert storage.is_plain(file)
        assert not slow.done()
    assert slow.result(timeout=20) == (1, True)


def test_a_long_download_holds_no_look_up(
    reach: Callable[..., LoginFiles], root: Path, pool: ThreadPoolExecutor
) -> None:
    storage, file = Storage(reach()), PurePosixPath(root, "large")
    Path(file).write_bytes(bytes(100 * MIB))

    def fetched() -> int:
        with storage.open(file) as opened:
            return sum(len(piece) for piece in iter(lambda: opened.read(MIB), b""))

    downloads = [pool.submit(fetched) for _ in range(2)]
    looks = 0
    while not all(download.done() for download in downloads):
        assert storage.is_plain(file)
        looks += 1
    assert [download.result() for download in downloads] == [100 * MIB, 100 * MIB]
    assert looks > 10


def test_where_few_channels_are_opened_files_and_commands_take_turns(
    root: Path, pool: ThreadPoolExecutor
) -> None:
    with loginnode.running(sessions=2) as node:
        connection = Connection(node.login, timeout=20)
        storage = Storage(LoginFiles(connection, PurePosixPath(root), timeout=20))
        run = SshRunner(connection, timeout=20)
        asked = [pool.submit(storage.is_plain, PurePosixPath(root, "none")) for _ in range(40)]
        assert [one.result() for one in asked] == [False] * 40
        for _ in range(3):
            assert run(["echo", "there"]).stdout == "there\n"
            both = [
                pool.submit(run, ["sleep", "0.2"]),
                pool.submit(storage.info, PurePosixPath(root)),
            ]
            assert all(one.result() for one in both)
        connection.close()


# --- large files ---

LARGE = 300 * MIB
COURIER = """
import resource, sys
from pathlib import Path, PurePosixPath
from nias_bridge.slurm.files import LoginFiles
from nias_bridge.slurm.ssh import Connection, Login
from nias_bridge.storage import Storage

host, user, key, known, port, root, size = sys.argv[1:]
login = Login(host, user, Path(key), Path(known), int(port))
storage = Storage(LoginFiles(Connection(login), PurePosixPath(root)))
file = PurePosixPath(root, "large")
storage.create(file)
with storage.open(file) as opened:
    opened.read()
piece = bytes(range(256)) * 4096
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
at = 0
while at < int(size):
    at, _ = storage.append(file, at, piece)
with storage.open(file) as opened:
    while read := opened.read(1 << 20):
        assert read == piece
        at -= len(read)
assert at == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_file_goes_through_in_both_directions_in_little_memory(
    node: LoginNode, root: Path
) -> None:
    login = node.login
    words = [HOST, login.user, login.key, login.known_hosts, login.port, root, LARGE]
    done = subprocess.run(
        [sys.executable, "-c", COURIER, *map(str, words)],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert (root / "large").stat().st_size == LARGE
    assert int(done.stdout) * 1024 < 32 * MIB
