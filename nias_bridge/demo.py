"""The demonstration: a real Slurm, the bridge on it, and one project sent through its API."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from nias_bridge import localcluster
from nias_bridge.assets import asset
from nias_bridge.errors import NiasError

SERVICE_USER = "nias"
EXAMPLE = "power-spectrum"
START_SECONDS = 30
RUN_SECONDS = 600
LOOK_SECONDS = 0.1


class DemoError(NiasError):
    """The demonstration can't go on; the message says why and what to do."""


def default_state() -> Path:
    """Where the demonstration keeps its files."""
    if os.geteuid() == 0:
        return Path("/var/lib/nias-bridge/demo")
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "nias-bridge" / "demo"


def service_user() -> str | None:
    """The account of the gateway and its jobs: made where missing as root; None: our own."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(SERVICE_USER)
    except KeyError:
        subprocess.run(
            [
                *("useradd", "--system", "--user-group", "--no-create-home"),
                *("--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", SERVICE_USER),
            ],
            check=True,
        )
    return SERVICE_USER


def run_demo(state: Path, *, port: int, leave: bool) -> None:
    """Everything from boot to results; then serve until Ctrl-C, unless `leave`.

    Stops on its way out whatever it started, and nothing else. Raises DemoError, ClusterError.
    """
    _say_missing()
    user = service_user()
    _make_folder(state, user)
    signal.signal(signal.SIGTERM, _interrupt)
    with _quiet_interrupt(), ExitStack() as stack:
        stack.enter_context(_alone(state))
        _check_port(port)
        was_up = any(daemon.answering for daemon in localcluster.status(state / "slurm"))
        if not was_up:
            stack.callback(localcluster.down, state / "slurm")
        say("Booting a Slurm of two slots on this machine …")
        cluster = localcluster.up(state / "slurm", slots=2, user=user)
        config = _configure(state, cluster.slurm_conf, port, user)
        run = _as_user(config, user)
        subprocess.run(**run("db", "upgrade"), check=True, timeout=START_SECONDS)
        for name in ("serve", "poll"):
            stack.enter_context(_running(state / f"{name}.log", run(name)))
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, state / "serve.log")
        came_back = _send_example(url)
        if leave:
            if not came_back:
                raise DemoError(f"The run did not come back well; see {state}/poll.log.")
            return
        say("")
        say(f"Ready at {url}")
        say(f"SLURM_CONF={cluster.slurm_conf}")
        say("For sacct and sbatch in another terminal: export the line above.")
        say("Only this machine can reach the page: there is no login yet. Ctrl-C stops it all.")
        signal.pause()


def say(line: str) -> None:
    """One line for the person, at once."""
    click.echo(line)
    sys.stdout.flush()


def example_zip() -> bytes:
    """The example project, zipped as a researcher would."""
    root = asset("examples") / EXAMPLE
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(root.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                packed.write(file, Path(EXAMPLE, file.relative_to(root)))
    return body.getvalue()


def _send_example(url: str) -> bool:
    """Upload the example and say how it goes; True when its results came back."""
    run = _ask(f"{url}/api/v1/runs?filename={EXAMPLE}.zip&again=1", example_zip())
    page = f"{url}/runs/{run['id']}"
    say(f"  accepted              {EXAMPLE} as run {run['number']}: {page}")
    told: set[str] = set()
    deadline = time.monotonic() + RUN_SECONDS
    while not (run["ended"]):
        if time.monotonic() > deadline:
            raise DemoError(f"The run has not ended in {RUN_SECONDS} s; see {page}.")
        time.sleep(LOOK_SECONDS)
        run = _ask(f"{url}/api/v1/runs/{run['id']}")
        for line in _milestones(run):
            if line not in told:
                told.add(line)
                say(f"  {line}")
    say(f"  finished              {run['state']}, exit code {run['exit_code']}")
    if run["state"] != "COMPLETED":
        say(f"  {run['note'] or run['evidence']['message']}")
        return False
    results = f"{url}/api/v1/runs/{run['id']}/results.zip"
    with urllib.request.urlopen(results, timeout=60) as got:  # noqa: S310  # loopback
        names = zipfile.ZipFile(io.BytesIO(got.read())).namelist()
    say(f"  files returned        {', '.join(names)}")
    return bool(names)


def _milestones(run: dict[str, Any]) -> Iterator[str]:
    evidence = run["evidence"]
    if run["job_id"]:
        yield f"queued                as Slurm job {run['job_id']}"
    if evidence["phase"] == "environment":
        yield "building environment  of requirements.txt"
    environment = evidence["environment"]
    if environment:
        how = "built" if environment["built"] else "reused"
        seconds, count = environment["seconds"], environment["packages"]
        yield f"environment {how:9} in {seconds:.2f} s, {count} packages"
    if evidence["phase"] in ("running", "collecting", "finished"):
        yield f"running               on {evidence['node'] or run['node']}"


def _ask(url: str, body: bytes | None = None) -> dict[str, Any]:
    request = urllib.request.Request(url, data=body)  # noqa: S310  # our own loopback address
    if body is not None:
        request.add_header("Content-Type", "application/zip")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        raise DemoError(f"{url} answered {error.code}: {error.read(500).decode()}") from None


def _say_missing() -> None:
    missing = localcluster.missing_packages()
    if missing:
        raise DemoError(
            "These programs of the one-machine Slurm are missing. On Debian or Ubuntu:\n"
            f"  sudo apt-get install --no-install-recommends {' '.join(missing)}"
        )


def _make_folder(state: Path, user: str | None) -> None:
    try:
        state.mkdir(parents=True, exist_ok=True)
        (state / "shared").mkdir(exist_ok=True)
        (state / "db").mkdir(mode=0o700, exist_ok=True)
        if user:
            for folder in (state / "shared", state / "db"):
                shutil.chown(folder, user, user)
    except OSError as error:
        raise DemoError(
            f"{state} can't be used: {error.strerror}. Choose another folder with --state-dir."
        ) from None


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(
                f"A demonstration is running in {state} already: use its page, stop it, "
                "or choose another folder with --state-dir."
            ) from None
        yield


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DemoError(
                f"Port {port} can't be used ({error.strerror}): choose another with --port."
            ) from None


def _configure(state: Path, slurm_conf: Path, port: int, user: str | None) -> Path:
    """The bridge's own settings file; the secret key is made once and kept."""
    key = state / "secret-key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_text(secrets.token_urlsafe(48), encoding="ascii")
    config = state / "nias-bridge.toml"
    config.touch(mode=0o640)
    settings = {
        "shared_root": state / "shared",
        "database_url": f"sqlite:///{state}/db/nias.db",
        "secret_key": key.read_text(encoding="ascii"),
        "slurm_conf": slurm_conf,
        "port": port,
    }
    lines = (
        f"{name} = {json.dumps(value if isinstance(value, int) else str(value))}\n"
        for name, value in settings.items()
    )
    config.write_text("".join(lines), encoding="utf-8")
    if user:
        shutil.chown(config, group=user)
    return config


def _as_user(config: Path, user: str | None) -> Callable[..., dict[str, Any]]:
    """How to call `nias-bridge …` as the service user: keyword arguments of subprocess.Popen."""
    environment = {**os.environ, "NIAS_BRIDGE_CONFIG": str(config), "LANG": "C.UTF-8"}
    identity: dict[str, Any] = {}
    if user:
        environment.update(HOME="/nonexistent", USER=user, LOGNAME=user)
        identity = {"user": user, "group": user, "extra_groups": []}

    def call(*words: str) -> dict[str, Any]:
        return {
            "args": [sys.executable, "-m", "nias_bridge.cli", *words],
            "env": environment,
            "cwd": "/",
            "stdin": subprocess.DEVNULL,
            **identity,
        }

    try:
        subprocess.run(**call("--version"), check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        raise DemoError(
            f"The account {user or 'of yours'} can't run {sys.executable} with nias_bridge in it. "
            "Install nias-bridge in a virtual environment that it can read."
        ) from None
    return call


@contextmanager
def _running(log: Path, call: dict[str, Any]) -> Iterator[None]:
    """A process of ours, in a session of its own so that Ctrl-C is ours to pass on."""
    with log.open("ab") as out:
        process = subprocess.Popen(**call, stdout=out, stderr=out, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            _ask(f"{url}/api/v1/health")
            return
        except DemoError:
            return  # it answers; whether all is well with it is for the page to say
        except OSError:
            if time.monotonic() > deadline:
                words = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
                raise DemoError(f"The gateway did not come up; its last words:\n{words}") from None
            time.sleep(LOOK_SECONDS)


@contextmanager
def _quiet_interrupt() -> Iterator[None]:
    """Ctrl-C is the ordinary way to end: no traceback."""
    try:
        yield
    except KeyboardInterrupt:
        say("\nStopped; what it kept is there for the next time.")
        raise SystemExit(0) from None


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
