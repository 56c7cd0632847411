"""The researcher's command: nias …"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nias_bridge import terminal
from nias_bridge.errors import NiasError
from nias_bridge.node.words import counted

# ruff: noqa: PLC0415  # what a command alone needs is imported there: --help answers at once

if TYPE_CHECKING:
    from nias_bridge.client import Client, Refused, Run, Version, Warned
    from nias_bridge.project.check import Found

EXISTING = click.Path(exists=True, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
OFFERED = 30  # runs whose names completion knows


def _names(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    try:
        found = {run.project for run in itertools.islice(_client().runs(), OFFERED)}
    except NiasError:
        return []
    return sorted(name for name in found if name.startswith(begun))


RUN = click.argument("run", shell_complete=_names)
FOLLOWING = terminal.options(
    click.option("--wait", is_flag=True, help="Wait for its end, and exit as its code did."),
    click.option("--download", type=FOLDER, metavar="FOLDER", help="Wait; save its files there."),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nias-bridge")
def main() -> None:
    """Run Python projects on the lab's cluster.

    A RUN is a project's name (its newest run), NAME/NUMBER, or the id that “submit” tells.
    """


main.command_class = terminal.Command


@main.command()
@click.option("--url", help="The gateway's address; asked for where it is not given.")
@click.option("--with-token", is_flag=True, help="Read the token from standard input.")
def login(url: str | None, with_token: bool, as_json: bool) -> None:
    """Keep the gateway's address and a token.

    Tokens are made on your account's page there.
    """
    from nias_bridge.client import Client
    from nias_bridge.client import login as kept

    url = kept.address(url or click.prompt("Address of the gateway", err=True))
    if with_token:
        token = sys.stdin.readline().strip()
    else:
        token = click.prompt(f"Token, made at {url}/account", hide_input=True, err=True).strip()
    Client(url, token).gateway.get("runs", {"per_page": 1})
    new = kept.Login(url, token)
    file = kept.keep(new)
    if new.in_the_clear:
        click.echo("Careful: by http your token crosses the network for all to read.", err=True)
    terminal.tell({"url": url, "kept": str(file)}, as_json, [f"Logged in at {url}."])


@main.command()
@click.argument("source", type=EXISTING, default=".")
@click.option("--python", default="", help="Whose packages to pin; the active environment's.")
def init(source: Path, python: str, as_json: bool) -> None:
    """Make a project of a folder or a notebook.

    SOURCE gets what it lacks of code.py, requirements.txt and output/.
    """
    from nias_bridge.project.beginning import begin

    begun = begin(source, python)
    told = {**asdict(begun), "folder": str(begun.folder)}
    lines = [f"{begun.folder}: made {', '.join(begun.made) or 'nothing, all is there'}."]
    lines += [f"  {line}" for line in begun.requirements]
    lines += [
        f"No package is known for “import {module}”: add its line to requirements.txt, or its file "
        "to the project."
        for module in begun.unknown
    ]
    terminal.tell(told, as_json, lines)


@main.command()
@click.argument("project", type=EXISTING, default=".")
def check(project: Path, as_json: bool) -> None:
    """Tell what PROJECT would be refused for.

    … or warned of. Nothing is sent.
    """
    from nias_bridge.project.check import check as judged
    from nias_bridge.project.packing import packed

    with packed(project) as file:
        verdict = judged(file)
    lines = [*_found("refused", verdict.problems), *_found("warning", verdict.warnings)]
    if verdict.good:
        size = f"{counted(verdict.files, 'file')}, {verdict.unpacked_bytes:,} bytes"
        packages = counted(len(verdict.requirements), "requirement")
        lines.append(f"{verdict.project} can be submitted: {size}, {packages}.")
    terminal.tell({**asdict(verdict), "good": verdict.good}, as_json, lines)
    sys.exit(0 if verdict.good else terminal.REFUSED)


@main.command()
@click.argument("project", type=EXISTING, default=".")
@click.option("--time", help="Time limit, as Slurm writes it: 30 (minutes) or 02:00:00.")
@click.option("--memory", help="Memory: 500M or 8G.")
@click.option("--cpus", type=click.IntRange(1), help="How many CPUs.")
@click.option("--gpus", type=click.IntRange(0), help="How many GPUs.")
@click.option("--partition", help="Slurm's partition; else the site's usual one.")
@click.option(
    "--dataset", "datasets", multiple=True, help="To be seen at $NIAS_DATA: NAME or OWNER/NAME."
)
@click.option("--again", is_flag=True, help="As a new run, where the project is there already.")
@click.option("--mend", is_flag=True, help="Mend lines of requirements.txt where that is certain.")
@click.option("--add", is_flag=True, help="Add packages that the code imports and it lacks.")
@FOLLOWING
def submit(
    project: Path,
    wait: bool,
    download: Path | None,
    as_json: bool,
    datasets: tuple[str, ...],
    **asked: Any,
) -> None:
    """Send a project and have it run.

    PROJECT is its folder, or its zip.
    """
    from nias_bridge.client import Refused

    client = _client()
    try:
        with terminal.progress("Sending") as told:
            run = client.submit(project, told=told, datasets=datasets or None, **asked)
    except Refused as error:
        if as_json or not (way := _way_round(error)):
            raise
        raise terminal.Failed(f"{error} {way}", terminal.REFUSED, None) from None
    _follow(run, wait, download, as_json)


@main.command("list")
@click.argument("text", default="")
@click.option("--state", default="", help="Slurm's words: RUNNING,PENDING.")
@click.option("-n", "--number", type=click.IntRange(1), default=20, help="How many at most.")
def list_runs(text: str, state: str, number: int, as_json: bool) -> None:
    """List your runs, newest first.

    With TEXT: those that have it in their project's name.
    """
    runs = list(itertools.islice(_client().runs(text, states=state), number))
    rows = [
        (str(run.id), run.project, str(run.number), run.state, f"{run.created_at:%Y-%m-%d %H:%M}")
        for run in runs
    ]
    header = ("ID", "PROJECT", "RUN", "STATE", "SENT (UTC)")
    terminal.tell([run.told for run in runs], as_json, terminal.table([header, *rows]))


@main.command()
@RUN
def show(run: str, as_json: bool) -> None:
    """Tell how a run is."""
    found = _client().run(run)
    terminal.tell(found.told, as_json, list(_described(found)))


@main.command()
@RUN
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--task", type=click.IntRange(0), help="Of a sweep, the task with this index.")
def log(run: str, follow: bool, task: int | None, as_json: bool) -> None:
    """Print what a run printed.

    As JSON, a line for each part.
    """
    found = _client().run(run)
    if found.tasks and task is None:
        raise click.UsageError(f"{_name(found)} is a sweep: name a task, --task 0 for one.")
    for part in found.log(follow=follow, task=task):
        click.echo(json.dumps({"text": part}) if as_json else part, nl=as_json)


@main.command()
@RUN
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A folder, or a file ….zip to be made."
)
def results(run: str, output: Path | None, as_json: bool) -> None:
    """Save what a run left in output/.

    Without -o in a folder named as project and run.
    """
    found = _client().run(run)
    files = _saved(found, output or Path(f"{found.project}-{found.number}"))
    terminal.tell([str(file) for file in files], as_json, [str(file) for file in files])


@main.command()
@RUN
def cancel(run: str, as_json: bool) -> None:
    """Ask for a run to be cancelled."""
    found = _client().run(run).cancel()
    line = f"{_name(found)} is {found.state}; it will be cancelled."
    terminal.tell(found.told, as_json, [line])


@main.command()
@RUN
@click.option("--exactly", is_flag=True, help="With the very packages that it had.")
@FOLLOWING
def again(run: str, exactly: bool, wait: bool, download: Path | None, as_json: bool) -> None:
    """Run the same zip once more, as a new run."""
    _follow(_client().run(run).again(exactly=exactly), wait, download, as_json)


@main.group()
def datasets() -> None:
    """Data that is sent once, for any number of runs to read."""


datasets.command_class = terminal.Command


@datasets.command("put")
@click.argument("source", type=EXISTING)
@click.option("--name", default="", help="How it is called; its file's or folder's name.")
def put_dataset(source: Path, name: str, as_json: bool) -> None:
    """Send a file, a folder or a zip.

    A name that is there already gets a new version. What broke off goes on when it is called anew.
    """
    client = _client()
    with terminal.progresses("Reading", "Sending") as (reading, told):
        made = client.datasets.put(source, name, reading=reading, told=told)
    newest = made.newest
    lines = [f"{made.name}: {_content(newest)}."] if newest else []
    terminal.tell(made.told, as_json, lines)


@datasets.command("list")
def list_datasets(as_json: bool) -> None:
    """List yours, and those that are shared with you."""
    found = list(_client().datasets)
    rows = [
        (
            f"{each.owner}/{each.name}",
            each.newest.sha256[:12] if each.newest else "being unpacked",
            str(each.newest.files) if each.newest else "",
            f"{each.newest.size:,}" if each.newest else "",
            str(each.runs),
        )
        for each in found
    ]
    header = ("NAME", "VERSION", "FILES", "BYTES", "RUNS")
    terminal.tell([each.told for each in found], as_json, terminal.table([header, *rows]))


@datasets.command("rm")
@click.argument("name")
@click.option("--version", default="", help="Only the version whose hash begins so.")
@click.option("--yes", is_flag=True, help="Ask nothing.")
def remove_dataset(name: str, version: str, yes: bool, as_json: bool) -> None:
    """Delete a dataset, or a version of it.

    Runs that saw it keep its name and hash. One that a run still sees is not deleted.
    """
    found = _client().datasets.get(name)
    what = f"{found.owner}/{found.name}" + (f"@{version}" if version else "")
    if not yes:
        click.confirm(f"Delete {what}?", abort=True, err=True)
    found.delete(version)
    terminal.tell({"deleted": what}, as_json, [f"{what} is deleted."])


def _way_round(error: Refused) -> str:
    """The option by which the gateway would have taken the project, as a sentence; "" for none."""
    if error.kind == "project-exists":
        return f"With --again it is run {error.problem['next_number']}."
    return "With --mend these lines are mended." if error.problem.get("mendable") else ""


def _found(word: str, found: Iterable[Found]) -> Iterator[str]:
    for each in found:
        yield f"{word}: {each.sentence}"
        if each.mend is not None:
            yield f"  write {each.mend}" if each.mend else "  leave the line out"


def _warning(told: Warned) -> Found:
    from nias_bridge.project import check

    if told.kind == "missing":
        return check.missing(told.path, told.line, told.text, told.package)
    return check.foreign(told.path, told.line, told.text)


def _content(version: Version) -> str:
    return f"{counted(version.files, 'file')}, {version.size:,} bytes, version {version.sha256}"


def _client() -> Client:
    from nias_bridge.client import Client

    return Client()


def _follow(run: Run, wait: bool, download: Path | None, as_json: bool) -> None:
    # With --wait or --download this ends the program, with the status of the run.
    if not as_json:
        click.echo(f"{_name(run)}: {run.state}. Its id is {run.id}; {run.page}")
        for line in _found("warning", map(_warning, run.warnings)):
            click.echo(line, err=True)
    if not wait and download is None:
        if as_json:
            terminal.tell(run.told, as_json, [])
        return
    run = terminal.waited(run)
    terminal.tell(run.told, as_json, list(_described(run)))
    if download is not None and (run.tasks or run.told["results_ready"]):
        for file in _saved(run, download):
            click.echo(file, err=as_json)
    sys.exit(terminal.exit_status(run))


def _saved(run: Run, target: Path) -> list[Path]:
    with terminal.progress("Fetching") as told:
        if target.suffix.lower() == ".zip":
            return [run.files.save_zip(target, told)]
        return run.files.save(target, told)


def _described(run: Run) -> Iterator[str]:
    yield f"{_name(run)}: {run.state}"
    if run.note or run.reason not in ("", "None"):
        yield run.note or f"Slurm's reason: {run.reason}"
    if run.diagnosis:
        yield run.diagnosis.sentence
        yield run.diagnosis.hint
    elif message := run.told["evidence"]["message"]:
        yield message
    rows = [("id", str(run.id)), ("sent", f"{run.created_at:%Y-%m-%d %H:%M:%S} UTC")]
    if run.job_id is not None:
        rows.append(("job", f"{run.job_id} {run.node}".strip()))
    if run.tasks:
        rows.append(("tasks", str(run.tasks)))
    if run.exit_code is not None:
        rows.append(("exit code", str(run.exit_code)))
    if run.accounting:
        rows.append(("took", f"{run.accounting.elapsed_seconds:g} s"))
    if run.peak_memory is not None:
        rows.append(("memory", f"{run.peak_memory / 1024**2:,.0f} MB at its peak"))
    rows.append(("page", run.page))
    yield from terminal.table(rows)


def _name(run: Run) -> str:
    return f"{run.project}, run {run.number}"
