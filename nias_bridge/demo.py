"""The demonstration: a real Slurm, the bridge on it, and one project sent through its API."""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from nias_bridge import localcluster
from nias_bridge.assets import asset
from nias_bridge.localcluster import LocalCluster
from nias_bridge.node.words import counted, duration
from nias_bridge.site import (
    LOOK_SECONDS,
    Site,
    SiteError,
    check_port,
    has_person,
    running,
    said,
    service_user,
    set_up,
    wait_until_served,
)

EXAMPLE = "power-spectrum"
RUN_SECONDS = 600
RESEARCHER = "researcher@example.org"
PEOPLE = {
    "researcher": (RESEARCHER, ("--name", "Rosa Researcher")),
    "administrator": ("administrator@example.org", ("--name", "Ada Administrator", "--admin")),
}
_TOKEN = ("token", "add", RESEARCHER, "--name", "demonstration", "--days", "1")
LOG_LINES = 20
STOPPED_BY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def default_state() -> Path:
    """Where the demonstration keeps its files."""
    if os.geteuid() == 0:
        return Path("/var/lib/nias-bridge/demo")
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "nias-bridge" / "demo"


def run_demo(state: Path, *, port: int, leave: bool) -> None:
    """Everything from boot to results; then serve until Ctrl-C, unless `leave`.

    Stops on its way out whatever it started, and nothing else. Raises SiteError, ClusterError.
    """
    _say_missing()
    # SIGINT too: a shell starts what is in its background with that signal ignored.
    for number in STOPPED_BY:
        signal.signal(number, _interrupt)
    with _quiet_interrupt(), ExitStack() as stack:
        stack.enter_context(_alone(state))
        check_port(port)
        say("Booting a Slurm of two slots on this machine …")
        cluster = stack.enter_context(_slurm(state))
        site = set_up(state, port=port, slurm_conf=cluster.slurm_conf)
        parts = {name: stack.enter_context(running(site, name)) for name in ("serve", "poll")}
        people = _people(site)
        wait_until_served(site)
        came_back = _send_example(site.url, said(site, *_TOKEN))
        if leave:
            if not came_back:
                raise SiteError(
                    f"The run did not come back well; its log is in {state}/shared/runs."
                )
            return
        say("")
        say(f"Ready at {site.url}; these links sign in, once:")
        for who, link in people.items():
            say(f"  {who:21} {link}")
        say(f"SLURM_CONF={cluster.slurm_conf}")
        say("For sacct and sbatch in another terminal: export the line above.")
        say(f"From a computer elsewhere: ssh -L {port}:localhost:{port} to this one first.")
        say("Only this machine can reach the page. Ctrl-C stops it all.")
        while all(process.poll() is None for process in parts.values()):
            time.sleep(LOOK_SECONDS)
        ended = next(name for name, process in parts.items() if process.poll() is not None)
        raise SiteError(
            f"“nias-bridge {ended}” has ended unasked, so all was stopped; its words are in "
            f"{site.log(ended)}. Start the demonstration again: every run is kept."
        )


def _people(site: Site) -> dict[str, str]:
    """A link to sign in by for each of the demonstration's people, who are made where missing."""
    links = {}
    for who, (email, options) in PEOPLE.items():
        if not has_person(site, email):
            said(site, "user", "add", email, *options)
        links[who] = said(site, "user", "link", email)
    return links


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


def _send_example(url: str, token: str) -> bool:
    """Upload the example and say how it goes; True when its results came back."""

    def ask(path: str, body: bytes | None = None) -> bytes:
        return _ask(f"{url}/api/v1/runs{path}", token, body)

    run = json.loads(ask(f"?filename={EXAMPLE}.zip&again=1", example_zip()))
    page = f"{url}/runs/{run['id']}"
    say(f"  accepted              {EXAMPLE} as run {run['number']}: {page}")
    told: set[str] = set()
    deadline = time.monotonic() + RUN_SECONDS
    while not (run["ended"]):
        if time.monotonic() > deadline:
            raise SiteError(f"The run has not ended in {RUN_SECONDS} s; see {page}.")
        time.sleep(LOOK_SECONDS)
        run = json.loads(ask(f"/{run['id']}"))
        for line in _milestones(run):
            if line not in told:
                told.add(line)
                say(f"  {line}")
    say(f"  finished              {run['state']}, exit code {run['exit_code']}")
    if run["state"] != "COMPLETED":
        say(f"  {run['note'] or run['evidence']['message']}")
        for line in json.loads(ask(f"/{run['id']}/log"))["text"].splitlines()[-LOG_LINES:]:
            say(f"  | {line}")
        return False
    names = zipfile.ZipFile(io.BytesIO(ask(f"/{run['id']}/results.zip"))).namelist()
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
        yield f"environment {how:9} in {duration(seconds)}, {counted(count, 'package')}"
    if run["node"] and evidence["phase"] in ("running", "collecting", "finished"):
        yield f"running               on {run['node']}"


def _ask(url: str, token: str, body: bytes | None) -> bytes:
    request = urllib.request.Request(url, data=body)  # noqa: S310  # our own loopback address
    request.add_header("Authorization", f"Bearer {token}")
    if body is not None:
        request.add_header("Content-Type", "application/zip")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise SiteError(f"{url} answered {error.code}: {error.read(500).decode()}") from None


def _say_missing() -> None:
    missing = localcluster.missing_packages()
    if missing:
        raise SiteError(
            "These programs of the one-machine Slurm are missing. On Debian or Ubuntu:\n"
            f"  sudo apt-get install --no-install-recommends {' '.join(missing)}"
        )


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    try:
        state.mkdir(parents=True, exist_ok=True)
        opened = (state / "lock").open("w")
    except OSError as error:
        raise SiteError(
            f"{state} can't be used: {error.strerror}. Choose another folder with --state-dir."
        ) from None
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SiteError(
                f"A demonstration is running in {state} already: use its page, stop it, "
                "or choose another folder with --state-dir."
            ) from None
        yield


@contextmanager
def _slurm(state: Path) -> Iterator[LocalCluster]:
    """The Slurm of this state, stopped on the way out where a demonstration started it.

    That may have been an earlier one that was killed: its daemons' numbers are written down.
    """
    folder, ours = state / "slurm", state / "slurm-started"
    found = {str(daemon.pid) for daemon in localcluster.status(folder) if daemon.answering}
    told = ours.read_text().split() if ours.exists() else None  # empty: killed while it booted
    if found and (told is None or (told and not found & set(told))):
        yield localcluster.up(folder, slots=2, user=service_user())
        return
    try:
        ours.touch()
        cluster = localcluster.up(folder, slots=2, user=service_user())
        ours.write_text(" ".join(str(daemon.pid) for daemon in localcluster.status(folder)))
        yield cluster
    finally:
        localcluster.down(folder)
        ours.unlink(missing_ok=True)


@contextmanager
def _quiet_interrupt() -> Iterator[None]:
    """Ctrl-C is the ordinary way to end: no traceback."""
    try:
        yield
    except KeyboardInterrupt:
        say("\nStopped; what it kept is there for the next time.")
        raise SystemExit(0) from None


def _interrupt(*_: object) -> NoReturn:
    for number in STOPPED_BY:
        signal.signal(number, signal.SIG_IGN)  # a second one would leave half of it running
    raise KeyboardInterrupt
