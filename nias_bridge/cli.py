"""The administrator's command: nias-bridge …"""

from __future__ import annotations

import getpass
import logging
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import click

from nias_bridge import demo as demonstration
from nias_bridge import localcluster
from nias_bridge.amounts import memory_bytes
from nias_bridge.bootstrap import (
    open_bridge,
    open_connection,
    open_gateway,
    open_scheduler,
    open_subject,
)
from nias_bridge.checks import report
from nias_bridge.checks.examination import examine
from nias_bridge.checks.points import Grade, Result, exit_status, unknown
from nias_bridge.checks.subject import Wanted
from nias_bridge.errors import NiasError, SettingsError
from nias_bridge.identity.install import SUDOERS, install, script
from nias_bridge.node.words import counted
from nias_bridge.people import Caller, KeyKind, Role, Scope, Standing
from nias_bridge.poller import run_poller
from nias_bridge.services import (
    accounts,
    administration,
    environments,
    keys,
    provision,
    unixaccounts,
)
from nias_bridge.services import unclaimed as unclaimed_jobs
from nias_bridge.services.bridge import Bridge
from nias_bridge.settings import read_settings
from nias_bridge.site import SERVICE_USER, service_user
from nias_bridge.store import schema

STATE_DIR = click.Path(file_okay=False, path_type=Path, resolve_path=True)
SUDOERS_FILE = click.option(
    "--sudoers",
    type=click.Path(path_type=Path),
    default=SUDOERS,
    show_default=True,
    help="The file of sudo's rule.",
)
COLOURS = {
    Grade.WELL: "green",
    Grade.WARNING: "yellow",
    Grade.FAULT: "red",
    Grade.UNKNOWN: "magenta",
    Grade.SKIPPED: "bright_black",
}


class Told(click.Group):
    """Errors of the bridge are told as sentences, not as tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NiasError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=Told, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nias-bridge")
def main() -> None:
    """The front door to a lab's Slurm cluster: upload a zip, get its results back."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for library in ("alembic", "paramiko"):
        logging.getLogger(library).setLevel(logging.WARNING)


@main.command()
def serve() -> None:
    """Serve the pages and the API."""
    # A third of all that there is to import, and no other command has a use for it.
    from nias_bridge.http.serve import serve_app  # noqa: PLC0415

    serve_app(open_gateway(read_settings()))


@main.command()
def poll() -> None:
    """Take the runs to Slurm and back; one at a time does the work, others wait."""
    settings = read_settings()
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    connection = open_connection(settings)
    run_poller(open_bridge(settings, connection), open_scheduler(settings, connection), stop)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option("--no-job", is_flag=True, help="Submit no probe job: the nodes are not looked at.")
@click.option("--partitions", metavar="A,B", default="", help="A probe job in each.")
@click.option("--wait", default=60.0, show_default=True, help="Seconds for a probe job.")
@click.option("--mail-to", metavar="ADDRESS", default="", help="Send a mail to try with.")
def doctor(as_json: bool, no_job: bool, partitions: str, wait: float, mail_to: str) -> None:
    """Look at the site point by point, and say for each how to mend it.

    Exit status: 0 well, 1 faults, 2 something could not be looked at.
    """
    logging.getLogger().setLevel(logging.ERROR)
    names = tuple(filter(None, partitions.split(",")))
    wanted = Wanted(job=not no_job, partitions=names, wait=wait, mail_to=mail_to)
    try:
        results = examine(open_subject(read_settings(), wanted))
    except SettingsError as error:
        results = iter([Result("This machine", "settings", unknown(str(error)))])
    found: list[Result] = []
    if as_json:
        found.extend(results)
        click.echo(report.as_json(found))
    else:
        width = shutil.get_terminal_size().columns
        for line in report.lines(_kept(results, found), width, _painted):
            click.echo(line)
    sys.exit(exit_status(found))


def _kept(results: Iterable[Result], found: list[Result]) -> Iterator[Result]:
    for one in results:
        found.append(one)
        yield one


def _painted(text: str, grade: Grade) -> str:
    return click.style(text, fg=COLOURS[grade])


@main.group()
def db() -> None:
    """The database."""


@db.command()
def upgrade() -> None:
    """Bring the database to this version's schema; one that is there already stays as it is."""
    schema.upgrade(read_settings().database_url)


@main.command("install-shared")
def install_shared() -> None:
    """Put on shared storage what the nodes need: the node program, uv, the site's settings."""
    bridge = open_bridge(read_settings())
    provision.install(bridge)
    click.echo(f"{bridge.paths.bin} is up to date.")


@main.command("install-run-as")
@click.option("--gateway", default=SERVICE_USER, show_default=True, help="Who serve and poll are.")
@SUDOERS_FILE
def install_run_as(gateway: str, sudoers: Path) -> None:
    """As root, for identity = "unix": put the program that runs jobs as others in place, and sudo's
    rule for it."""
    settings = read_settings()
    if settings.ssh_host:
        raise SettingsError(
            f"Slurm's commands are run on {settings.ssh_host}: as root there, run the script that "
            "`nias-bridge print-run-as` prints."
        )
    install(settings, gateway, sudoers)
    click.echo(f"{settings.run_as} is in place; {sudoers} lets {gateway} call it.")


@main.command("print-run-as")
@SUDOERS_FILE
def print_run_as(sudoers: Path) -> None:
    """Print the Python script that puts them in place on a login node, run as root there."""
    settings = read_settings()
    click.echo(script(settings, settings.ssh_user, sudoers), nl=False)


@main.command()
def unclaimed() -> None:
    """Jobs by plain sbatch that wait for somebody to be linked to their account on the cluster."""
    for job in unclaimed_jobs.jobs(_at_the_command_line()):
        told = job.report
        click.echo(
            f"{told.job_id:<10}  {job.native.user:16}  {told.submitted_at:%Y-%m-%d %H:%M}"
            f"  {job.project}"
        )


@main.group()
def user() -> None:
    """The people who have accounts."""


@user.command("add")
@click.argument("email")
@click.option("--name", default="", help="Her name; without it, what stands before the @.")
@click.option("--admin", is_flag=True, help="She administers the site.")
@click.option("--unix-account", default="", help="Her account on the cluster, to be linked.")
def user_add(email: str, name: str, admin: bool, unix_account: str) -> None:
    """Make an account, and print a link by which its owner sets her password."""
    bridge = _at_the_command_line()
    if unix_account:
        unixaccounts.check(bridge.accounts, unix_account)
    role = Role.ADMINISTRATOR if admin else Role.RESEARCHER
    person = accounts.add_person(bridge, email, name, role=role, standing=Standing.ACTIVE)
    if unix_account:
        administration.link_unix_account(bridge, person.id, unix_account)
    secret = keys.give_link(bridge, KeyKind.PASSWORD, person)
    click.echo(f"{person.handle} <{person.email}> is {person.role}. Good once, within a day:")
    click.echo(f"{bridge.settings.url}/password/{secret}")


@user.command("link")
@click.argument("email")
def user_link(email: str) -> None:
    """Print a link that signs somebody in, once."""
    bridge = _at_the_command_line()
    secret = keys.give_link(bridge, KeyKind.SIGN_IN, accounts.person_of(bridge, email))
    click.echo(f"{bridge.settings.url}/sign-in/{secret}")


@user.command("account")
@click.argument("email")
@click.argument("account", default="")
def user_account(email: str, account: str) -> None:
    """Link somebody to her account on the cluster, or, where none is named, to none."""
    bridge = _at_the_command_line()
    person = accounts.person_of(bridge, email)
    administration.link_unix_account(bridge, person.id, account)


@user.command("list")
def user_list() -> None:
    """Everybody who has an account."""
    for person in _at_the_command_line().store.people.all():
        click.echo(
            f"{person.handle:32}  {person.role:13}  {person.standing:8}  {person.email}"
            f"  {person.name}"
        )


@main.group()
def token() -> None:
    """API tokens."""


@token.command("add")
@click.argument("email")
@click.option(
    "--scope",
    type=click.Choice([*map(str, Scope)]),
    default="submit",
    show_default=True,
    help="How far it reaches.",
)
@click.option(
    "--name", default="command line", show_default=True, help="By which its owner knows it."
)
@click.option("--days", default=90, show_default=True, help="How long it is good.")
def token_add(email: str, scope: str, name: str, days: int) -> None:
    """Print a token that acts for this person: Authorization: Bearer …"""
    bridge = _at_the_command_line()
    person = accounts.person_of(bridge, email)
    _, secret = keys.token_for(bridge, person, name, Scope(scope), days)
    click.echo(secret)


def _at_the_command_line() -> Bridge:
    """The bridge, asked by whoever may read its settings: what is done is noted as such."""
    by = f"command line of {getpass.getuser()}"
    return replace(open_bridge(read_settings()), who=Caller(via=by))


@main.group()
def env() -> None:
    """The environments that runs share."""


@env.command("list")
def env_list() -> None:
    """All of them, the least recently used first."""
    there = environments.kept(open_bridge(read_settings()))
    for one in there:
        _tell(one)
    size = sum(one.size for one in there)
    click.echo(f"{counted(len(there), 'environment')}, {_megabytes(size)}")


@env.command("prune")
@click.option("--to", "size", help="Keep this much, as “20G”; else the site's setting.")
def env_prune(size: str | None) -> None:
    """Remove the least recently used past a size; never one in use."""
    settings = read_settings()
    try:
        most = settings.environments_max_bytes
        if size:
            most = memory_bytes(size) if size != "0" else 0
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--to") from None
    removed = environments.prune(open_bridge(settings), most)
    for one in removed:
        _tell(one)
    click.echo(f"{len(removed)} removed, {_megabytes(sum(one.size for one in removed))}")


def _tell(one: environments.KeptEnvironment) -> None:
    asked = " ".join(line.partition(" --hash")[0] for line in one.requirements) or "nothing"
    words = [f"of {one.owner}"] * bool(one.owner) + ["in use"] * one.in_use
    click.echo(
        f"{one.key}  {_megabytes(one.size):>9}  Python {one.python:8}"
        f"  built {one.built_at:%Y-%m-%d}  used {one.used_at:%Y-%m-%d %H:%M}"
        f"  {textwrap.shorten(asked, 60, placeholder=' …')}"
        + "".join(f"  ({word})" for word in words + ["broken"] * one.broken)
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


@main.group()
def cluster() -> None:
    """A real Slurm on this one machine, to try things with."""


@cluster.command()
@click.option("--state-dir", type=STATE_DIR, default=None, help="Where it keeps its files.")
@click.option(
    "--slots",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="How many jobs run at once.",
)
def up(state_dir: Path | None, slots: int) -> None:
    """Start it, or what of it is not running."""
    state = state_dir or demonstration.default_state() / "slurm"
    user = service_user()
    started = localcluster.up(state, slots=slots, user=user)
    click.echo(f"Slurm is up: {', '.join(started.nodes)}.")
    click.echo(f"SLURM_CONF={started.slurm_conf}")


@cluster.command()
@click.option("--state-dir", type=STATE_DIR, default=None, help="Where it keeps its files.")
def status(state_dir: Path | None) -> None:
    """Say which of its daemons run and answer."""
    daemons = localcluster.status(state_dir or demonstration.default_state() / "slurm")
    for daemon in daemons:
        said = f"pid {daemon.pid}" if daemon.answering else daemon.problem or "not running"
        click.echo(f"{daemon.name:12} {'up' if daemon.answering else 'down':5} {said}")
    if not daemons or not all(daemon.answering for daemon in daemons):
        sys.exit(1)


@cluster.command()
@click.option("--state-dir", type=STATE_DIR, default=None, help="Where it keeps its files.")
def down(state_dir: Path | None) -> None:
    """Stop it; jobs and accounting are kept for the next start."""
    localcluster.down(state_dir or demonstration.default_state() / "slurm")


@main.command()
@click.option("--exit", "leave", is_flag=True, help="Stop once the results came back.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8080,
    show_default=True,
    help="Where the pages are, on loopback.",
)
@click.option("--state-dir", type=STATE_DIR, default=None, help="Where it keeps its files.")
def demo(leave: bool, port: int, state_dir: Path | None) -> None:
    """Boot a Slurm, serve the bridge, send it the example project, and keep serving."""
    logging.getLogger().setLevel(logging.WARNING)
    os.umask(0o022)
    demonstration.run_demo(state_dir or demonstration.default_state(), port=port, leave=leave)


if __name__ == "__main__":
    main()
