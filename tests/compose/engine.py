"""A Docker engine with Compose and the base image: what is here, or one started for the tests.

`python engine.py COMMAND …` runs a command to which it answers, and so all that the command starts.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from nias_bridge import pipconfig
from nias_bridge.site import ENDS_WITH_US

IN_CI = os.environ.get("CI") == "true"
BASE = "debian:trixie-slim"
SUITE = BASE.partition(":")[2].removesuffix("-slim")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
START_SECONDS = 30
STOP_SECONDS = 30
PULL_SECONDS = 120
INSTALL_SECONDS = 300
GIB = 1024**3
# What images, their layers and volumes come to, with room.
IMAGES_BYTES = 6 * GIB


class NoEngine(Exception):
    """This machine can have no engine, Compose or base image; the message says why."""


@dataclass(frozen=True)
class Engine:
    """How the engine is called: variables of the environment for every `docker …`."""

    variables: Mapping[str, str]

    def run(
        self, *argv: str, seconds: float = 60, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """`docker ARGV`, its output as text. Where it fails, so does the test, with its words."""
        done = subprocess.run(
            ["docker", *argv],
            env={**os.environ, **self.variables, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check:
            told = f"docker {' '.join(argv)}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
            assert done.returncode == 0, told
        return done


@contextmanager
def engine(*, start: bool) -> Iterator[Engine]:
    """An engine that answers, with Compose and the base image. Raises NoEngine.

    start: whether what is missing may be started here, fetched and bootstrapped.
    """
    with ExitStack() as stack:
        found = Engine({})
        if not _answers(found):
            if not start:
                raise NoEngine("No Docker engine answers here.")
            folder = stack.enter_context(_folder())
            found = stack.enter_context(_started(folder))
        with ThreadPoolExecutor(2) as both:  # one waits for the network while the other computes
            made = both.submit(_base_made, found, stack, start)
            found = both.submit(_with_compose, found, stack, start).result()
            made.result()
        yield found


def _with_compose(engine: Engine, stack: ExitStack, start: bool) -> Engine:
    if _well(engine, "compose", "version"):
        return engine
    if not start:
        raise NoEngine("Docker has no “compose” here: install its plugin (version 2).")
    folder = stack.enter_context(_folder())
    _add_compose(folder)
    return Engine({**engine.variables, "DOCKER_CONFIG": str(folder)})


def _base_made(engine: Engine, stack: ExitStack, start: bool) -> None:
    if _well(engine, "image", "inspect", BASE) or _well(engine, "pull", "-q", BASE):
        return
    if not start:
        raise NoEngine(f"{BASE} can't be pulled here.")
    folder = stack.enter_context(_folder())
    _bootstrap(engine, folder)


def _answers(engine: Engine) -> bool:
    return shutil.which("docker") is not None and _well(engine, "version")


def _well(engine: Engine, *argv: str) -> bool:
    try:
        return engine.run(*argv, seconds=PULL_SECONDS, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder in memory where there is plenty of it, else on disk."""
    memory = Path("/dev/shm")
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    plenty = memory.is_dir() and min(shutil.disk_usage(memory).free, free) > 2 * IMAGES_BYTES
    made = Path(tempfile.mkdtemp(prefix="nias-docker-", dir=memory if plenty else "/var/tmp"))
    try:
        yield made
    finally:
        shutil.rmtree(made)


@contextmanager
def _started(folder: Path) -> Iterator[Engine]:
    """An engine of our own in a folder; on the way out all that it ran has ended."""
    missing = [name for name in ("dockerd", "iptables") if not _which(name)]
    if missing:
        raise NoEngine(
            f"There is no {' and no '.join(missing)}: apt-get install docker.io iptables"
        )
    if os.geteuid() != 0:
        raise NoEngine("Only root can start a Docker engine, and none answers here.")
    socket, log = folder / "docker.sock", folder / "log"
    argv = [
        *ENDS_WITH_US,
        *("dockerd", f"--host=unix://{socket}", f"--pidfile={folder}/pid"),
        *(f"--data-root={folder}/data", f"--exec-root={folder}/exec"),
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv,
            env={**os.environ, "PATH": f"{_firewall(folder)}:{_path()}"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    mine = Engine({"DOCKER_HOST": f"unix://{socket}"})
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(mine):
            if process.poll() is not None or time.monotonic() > deadline:
                told = "\n".join(log.read_text(errors="replace").splitlines()[-3:])
                raise NoEngine(f"dockerd did not come up: {told}")
            time.sleep(0.1)
        yield mine
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        _unmount(folder)


def _which(name: str) -> str | None:
    return shutil.which(name, path=_path())


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _firewall(folder: Path) -> Path:
    """A folder for PATH, whose iptables is the kind that this kernel knows."""
    chosen = folder / "bin"
    chosen.mkdir()
    for kind in ("iptables", "iptables-legacy"):
        program = _which(kind)
        if program and _ends_well([program, "--table=nat", "--list-rules"]):
            (chosen / "iptables").symlink_to(program)
            return chosen
    raise NoEngine("This kernel has no network address translation (iptables --table=nat).")


def _ends_well(argv: Sequence[str]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def _unmount(folder: Path) -> None:
    """What an engine that was killed left mounted must not be deleted through."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)


def _add_compose(folder: Path) -> None:
    """Debian's Compose, which is one program, as a plugin: folder is the client's configuration."""
    _apt(folder, "update")
    _apt(folder, "download", "docker-compose")
    (package,) = folder.glob("docker-compose_*.deb")
    _install(["dpkg", "-x", package.name, "unpacked"], folder)
    (plugin,) = folder.glob("unpacked/**/cli-plugins/docker-compose")
    (folder / "cli-plugins").mkdir()
    plugin.rename(folder / "cli-plugins" / plugin.name)


def _bootstrap(engine: Engine, folder: Path) -> None:
    """The base image, made of packages."""
    if not _which("debootstrap"):
        raise NoEngine(f"{BASE} can't be pulled here, and there is no debootstrap to make it with.")
    root = folder / "root"
    _install(["debootstrap", "--variant=minbase", SUITE, str(root), _mirror()], folder)
    for left_over in root.glob("var/cache/apt/archives/*.deb"):
        left_over.unlink()
    archive = folder / "base.tar"
    _install(["tar", "--directory", str(root), "--create", "--file", str(archive), "."], folder)
    engine.run("import", str(archive), BASE)


def _apt(folder: Path, *words: str) -> None:
    """apt-get for the release of the base image, whichever this machine has."""
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {_mirror()} {SUITE} main\n")
    (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    options = [
        f"Dir::Etc::SourceList={sources}",
        "Dir::Etc::SourceParts=/dev/null",
        f"Dir::State::Lists={folder}/lists",
        f"Dir::Cache={folder}",
        "APT::Sandbox::User=root",
    ]
    _install(["apt-get", *(f"--option={option}" for option in options), *words], folder)


def _mirror() -> str:
    """Where this machine has its Debian packages from."""
    if not _which("apt-get"):
        raise NoEngine("What is missing here can only be fetched by Debian's apt.")
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT) $(LABEL)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"^(\S+) main Debian$", told, re.MULTILINE)
    if not found:
        raise NoEngine("apt knows no archive of Debian here: run apt-get update first.")
    return found[1]


def _install(argv: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        argv,
        cwd=folder,
        env={**os.environ, "PATH": _path()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        told = "\n".join(done.stdout.splitlines()[-3:])
        raise NoEngine(f"{argv[0]} failed: {told}")


def authorities() -> list[Path]:
    """Certificates that this machine trusts beside those that everybody does."""
    own = sorted(Path("/usr/local/share/ca-certificates").rglob("*.crt"))
    if own:
        return own
    named = pipconfig.told().get("PIP_CERT")
    return [Path(named)] if named and Path(named).is_file() else []


def indexes() -> dict[str, str]:
    """The package indexes of this machine that a container can reach as well."""
    told = pipconfig.told()
    return {
        name: told[name]
        for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
        if told.get(name, "").startswith(("http://", "https://"))
    }


def main(argv: Sequence[str]) -> int:
    """Run a command to which the engine answers; in CI one is started where there is none."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(engine(start=IN_CI)).variables
        except NoEngine:  # the tests tell what that means to them
            found = {}
        # Ctrl-C reaches the command too, which is to tidy up before the engine goes.
        signal.signal(signal.SIGINT, lambda *_: None)
        return subprocess.run(argv, env={**os.environ, **found}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
