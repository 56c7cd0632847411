"""How the command `nias` speaks: sentences or JSON, progress, and exit statuses for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from nias_bridge.errors import NiasError

# ruff: noqa: PLC0415  # rich and the client take longer to import than --help and completion take

if TYPE_CHECKING:
    from nias_bridge.client import Run
    from nias_bridge.client.gateway import Told

# Exit statuses where the run's own code does not say it. 2 is wrong usage.
REFUSED, NO_ANSWER, ENDED_OTHERWISE, NOT_ALLOWED, INTERRUPTED = 65, 69, 75, 77, 130
# … of a run that did not end by its own code, as shells know them.
_ENDS = {
    "COMPLETED": 0,
    "REJECTED": REFUSED,
    "TIMEOUT": 124,
    "OUT_OF_MEMORY": 137,
    "CANCELLED": 143,
}


class Failed(click.ClickException):
    """A sentence on standard error, or as JSON all that is known of what went wrong."""

    def __init__(self, sentence: str, status: int, problem: Mapping[str, Any] | None) -> None:
        super().__init__(sentence)
        self.status = status
        self.problem = problem

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click has it on the class
        return self.status

    def show(self, file: IO[Any] | None = None) -> None:
        if self.problem is None:
            super().show(file)
        else:
            click.echo(json.dumps(self.problem), file=file, err=True)


class Command(click.Command):
    """A command with --json, whose errors are told as sentences and not as tracebacks."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.params.append(
            click.Option(["--json", "as_json"], is_flag=True, help="Answer in JSON, for programs.")
        )

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a console may not know a letter of a log
                stream.reconfigure(errors="replace")
        try:
            return super().invoke(ctx)
        except NiasError as error:
            status, problem = _failure(error)
            told = problem if ctx.params["as_json"] else None
            raise Failed(str(error), status, told) from None
        except OSError as error:
            if error.filename is None:
                raise  # not of a file: click knows a reader that went away
            sentence = f"{error.filename}: {error.strerror}."
            told = {"detail": sentence} if ctx.params["as_json"] else None
            raise Failed(sentence, REFUSED, told) from None


def tell(content: object, as_json: bool, sentences: Sequence[str]) -> None:
    """Print one or the other. JSON in ASCII, of which no encoding of a pipe can lose a letter."""
    for line in [json.dumps(content)] if as_json else sentences:
        click.echo(line)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


@contextmanager
def progress(what: str) -> Iterator[Told]:
    """A bar on standard error, where that is a terminal, for an upload or a download."""
    with progresses(what) as (told,):
        yield told


@contextmanager
def progresses(*what: str) -> Iterator[tuple[Told, ...]]:
    """As `progress`, for what comes one after the other; each bar is there once it has begun."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:

        def bar(name: str) -> Told:
            task = bars.add_task(name, total=None, visible=len(what) == 1)
            return lambda done, whole: bars.update(task, completed=done, total=whole, visible=True)

        yield tuple(bar(name) for name in what)


def waited(run: Run) -> Run:
    """The run once it has ended; each of its states is told on standard error meanwhile."""
    from rich.console import Console

    name = f"{run.project}, run {run.number}"
    told: list[str] = []

    def seen(now: Run) -> None:
        if now.state not in told[-1:]:
            told.append(now.state)
            status.update(f"{name}: {now.state}")
            if not console.is_terminal:
                click.echo(f"{name}: {now.state}", err=True)

    console = Console(stderr=True, highlight=False)
    with console.status(f"{name}: {run.state}") as status:
        try:
            return run.wait(seen=seen)
        except KeyboardInterrupt:
            sentence = f"The run goes on. Look with “nias show {run.id}”."
            raise Failed(sentence, INTERRUPTED, None) from None


def exit_status(run: Run) -> int:
    """What a shell is told of a run that ended: its code's own status where it has one."""
    if run.state != "FAILED":
        return _ENDS.get(run.state, ENDED_OTHERWISE)
    if run.exit_code:
        return run.exit_code
    signal = run.accounting.signal if run.accounting else None
    return 128 + signal if signal else 1


def _failure(error: NiasError) -> tuple[int, dict[str, Any]]:
    from nias_bridge.client import NoAnswer, NotLoggedIn, Refused

    problem = {"detail": str(error)}
    match error:
        case Refused():
            return NOT_ALLOWED if error.status in (401, 403) else REFUSED, error.problem
        case NoAnswer():
            return NO_ANSWER, problem
        case NotLoggedIn():
            return NOT_ALLOWED, problem
    return REFUSED, problem


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def options(*each: Decorator) -> Decorator:
    """Several options as one decorator, in the order of --help."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(each):
            function = option(function)
        return function

    return decorate
