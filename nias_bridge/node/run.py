"""Supervise one job on its node, from the claim to exit.json."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Optional

from . import (
    after,
    alive,
    archive,
    claim,
    collect,
    elsewhere,
    environment,
    facts,
    files,
    given,
    layout,
    metrics,
    program,
    sandbox,
    soundness,
)
from .preview import TOOLS
from .stopping import TIME_LIMIT, TOLD_TO_STOP, Stopped, StopSignals
from .words import counted, duration

USAGE = """usage: nias-node.py run --folder RUN --shared SHARED --name JOBNAME --token TOKEN
                         [-- CODE.PY [ARGUMENT …]]
       nias-node.py sbatch --shared SHARED -- PROJECT"""
_OPTIONS = {"--folder", "--shared", "--name", "--token"}
LIMITS = archive.Limits(unpacked_bytes=100 * 1000**3, files=200_000, ratio=10_000)
_FAILED = 1
_LAST_BYTES = 16 * 1024
MISSED = r"(?m)^(?:ImportError|ModuleNotFoundError)\b"
LACKING = (
    "The environment had lost files that belong to its packages. It is built anew for the next "
    "run: run this again."
)
UNCONFINED = (
    "{why} on the node {node}, and code that can't be confined is not run. The administrator can "
    'make bubblewrap work there (README: On your own cluster), or set sandbox = "off".'
)


class Ending(NamedTuple):
    """How the job ended: one word, a sentence for the researcher, and the last words of whoever
    failed. exit_code and signal are the program's, None where it did not end by itself."""

    reason: str
    message: str = ""
    details: str = ""
    exit_code: Optional[int] = None
    signal: Optional[int] = None

    @property
    def status(self) -> int:
        """The exit status of the job itself."""
        if self.reason in (TOLD_TO_STOP, TIME_LIMIT):
            return 128 + signal.SIGTERM
        if self.signal is not None:
            return 128 + self.signal
        return _FAILED if self.exit_code is None else self.exit_code


class Course:
    """What is known of the job so far; written to progress.json at every phase.

    command: the file of the project that is run, and its arguments; made: its environment; max_rss:
    the most memory that a process of the job had by its program's end, in bytes.
    """

    def __init__(self, job: claim.Job, command: Sequence[str]) -> None:
        self.job = job
        self.command = command
        self.started = time.time()
        self.timings: dict[str, float] = {}
        self.made: Optional[environment.Environment] = None
        self.elsewhere: Sequence[str] = ()
        self.max_rss: Optional[int] = None

    @property
    def environment(self) -> Optional[dict[str, Any]]:
        """What is told of the environment."""
        return self.made and {
            "key": self.made.key,
            "built": self.made.built,
            "seconds": round(self.made.seconds, 4),
            "packages": self.made.packages,
        }

    def enter(self, phase: str) -> None:
        """Tell that a phase begins. Progress is only news: a full disk must not end the job."""
        with suppress(OSError):
            files.write_json(
                self.job.work / layout.PROGRESS,
                {
                    "phase": phase,
                    "since": time.time(),
                    "job_id": self.job.job_id,
                    "node": self.job.node,
                    "timings": self.timings,
                    "environment": self.environment,
                },
            )

    @contextmanager
    def timed(self, phase: str, name: str) -> Iterator[None]:
        """A phase, and how long it took under `name`, in seconds."""
        self.enter(phase)
        started = time.monotonic()
        try:
            yield
        finally:
            self.timings[name] = round(time.monotonic() - started, 4)


def main(arguments: Sequence[str]) -> int:
    """The command of the node program; returns the job's exit status."""
    if arguments[:1] == ["sbatch"]:
        from . import sbatched  # noqa: PLC0415  # what the bridge submits has no use for it

        return sbatched.main(arguments[1:])
    if arguments[:1] == ["probe"]:
        from . import probe  # noqa: PLC0415  # a run has no use for it

        return probe.main(arguments[1:])
    ours, command = _parted(list(arguments))
    options = dict(zip(ours[1::2], ours[2::2]))  # Python 3.9 lacks strict
    if ours[:1] != ["run"] or set(options) != _OPTIONS:
        print(USAGE, file=sys.stderr)
        return 2
    signals = StopSignals()
    signals.listen()
    job = claim.this_job(
        Path(options["--folder"]).absolute(),
        Path(options["--shared"]).absolute(),
        options["--name"],
        options["--token"],
        os.environ,
    )
    try:
        taken = claim.claim(job)
    except OSError as error:
        say(f"The run's folder can't be written to: {error}.")
        return _FAILED
    if taken:
        say(taken)
        return layout.ALREADY_RUN
    return supervise(job, command, signals)


def _parted(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and behind the -- what to run."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :] or [archive.CODE]


def supervise(
    job: claim.Job,
    command: Sequence[str],
    signals: StopSignals,
    hand_back: Callable[[], None] = lambda: None,
) -> int:
    """Run a claimed job to its end, and write how it ended.

    hand_back: what else is to be done with the results, before previews are made of them.
    """
    with alive.saying_so(job.claim):
        return _supervise(job, command, signals, hand_back)


def _supervise(
    job: claim.Job, command: Sequence[str], signals: StopSignals, hand_back: Callable[[], None]
) -> int:
    course = Course(job, command)
    site = site_of(job.shared)
    ending = _ending_of(course, site, signals)
    collected = None
    if ending.reason != "archive" and (job.work / layout.PROJECT).exists():
        try:
            tools = environment.lent(job.shared, given.wish(job, site, TOOLS))
            with course.timed("collecting", "collect"), tools:
                collected = collect.collect(job.work, time_is_up=signals.time_is_up)
            say(_told(collected))
        except Exception as error:
            sentence = f"The results could not be collected: {_words(error)}."
            say(sentence)
            if ending.status:
                ending = ending._replace(message=f"{ending.message} {sentence}")
            else:
                ending = Ending("internal", sentence)
    write_exit(course, ending, collected, site)
    hand_back()
    if site.get("previews") and collected and collected.files:
        took = course.timings.get("code", 0.0)
        wish = given.wish(job, site, TOOLS)
        after.make_previews(job, wish, signals, say, reason=ending.reason, took=took)
    if course.made and ending.reason == "finished":
        after.complete(job.shared, course.made, sandbox.walls(site), signals, say)
    if ending.reason == TIME_LIMIT and job.job_id is not None:
        # Slurm is to end the job itself, so that the accounting says TIMEOUT.
        while not signals.ending_now:
            time.sleep(0.2)
    return ending.status


def site_of(shared: Path) -> dict[str, Any]:
    """What the site wants of its jobs, or as much of it as this account may read."""
    found = (files.read_json(shared / layout.BIN / n) for n in (layout.SITE, layout.SITE_FOR_ALL))
    return next((site for site in found if isinstance(site, dict)), {})


def say(sentence: str) -> None:
    """Write a line of our own to the job's log. A log that can't be written to ends nothing."""
    with suppress(OSError):
        os.write(1, f"{_line_break()}[nias] {sentence}\n".encode())


def _last_words() -> str:
    with suppress(OSError), open("/proc/self/fd/1", "rb") as log:  # noqa: PTH123
        log.seek(max(0, os.fstat(1).st_size - _LAST_BYTES))
        return log.read(_LAST_BYTES).decode(errors="replace")
    return ""


def _line_break() -> str:
    # What the program wrote last may lack its line end.
    with suppress(OSError), open("/proc/self/fd/1", "rb") as log:  # noqa: PTH123
        if os.fstat(1).st_size and log.seek(-1, os.SEEK_END) >= 0:
            return "" if log.read(1) == b"\n" else "\n"
    return ""


def _ending_of(course: Course, site: Mapping[str, Any], signals: StopSignals) -> Ending:
    try:
        return _work(course, site, signals)
    except Stopped as stopped:
        sentence = {
            TIME_LIMIT: "The time limit came near: the program was stopped.",
            TOLD_TO_STOP: "The job was told to stop: the program was stopped.",
        }[stopped.reason]
        say(sentence)
        return Ending(stopped.reason, sentence)
    except archive.ArchiveError as error:
        say(str(error))
        return Ending("archive", str(error))
    except environment.BuildFailed as error:
        say(f"{error}\n{error.details}".rstrip())
        return Ending("environment", str(error), error.details)
    except sandbox.Refused as refused:
        sentence = UNCONFINED.format(why=refused, node=course.job.node)
        say(f"{sentence}\n{refused.details}".rstrip())
        return Ending("sandbox", sentence, refused.details)
    except Exception as error:
        sentence = f"The job could not be run: {_words(error)}."
        say(sentence)
        return Ending("internal", sentence, "" if isinstance(error, OSError) else _trace())


def _trace() -> str:
    import traceback  # noqa: PLC0415  # it takes milliseconds that hardly any job needs

    return traceback.format_exc()


def _work(course: Course, site: Mapping[str, Any], signals: StopSignals) -> Ending:
    job = course.job
    project = job.work / layout.PROJECT
    with course.timed("unpacking", "unpack"), signals.breaking_off():
        shutil.rmtree(project, ignore_errors=True)
        limits = LIMITS._replace(**site.get("limits", {}))
        archive.unpack(job.run / layout.ARCHIVE, project, limits, layout.ARCHIVE)
        wish = given.wish(job, site, given.wanted(job, project, course.command[0], say))
    with course.timed("environment", "environment"), signals.breaking_off():
        made = _obtained(job, wish)
        with suppress(OSError):
            files.write_text(job.work / layout.LOCK, made.lock)
    course.made = made
    say(f"Environment {'built' if made.built else 'reused'} in {duration(made.seconds)} "
        f"({counted(made.packages, 'package')}).")  # fmt: skip
    with course.timed("running", "code"), program.private_folder(str(job.job_id)) as private:
        say(f"{course.command[0]} starts.")
        walls = sandbox.walls(site).around(
            hidden=[job.shared], readable=[made.folder], private=private
        )
        walls, data = given.with_datasets(job, walls, private)
        variables = {
            **program.variables(made, project, walls, private, site.get("run_variables", {})),
            "NIAS_RUN": "/".join(job.run.parts[-3:]),
            **data,
            **given.of_task(job),
        }
        try:
            command = [str(made.python), *course.command]
            code = program.run(project, command, variables, walls, signals)
        finally:
            course.max_rss = _peak_memory()
            # progress.json was written just before: what is newer is the program's.
            course.elsewhere = elsewhere.written_since(project, job.work / layout.PROGRESS)
    name = course.command[0]
    ending = _finished(name, code)
    if code > 0 and re.search(MISSED, _last_words()) and soundness.doubt(made.folder):
        say(LACKING)
        ending = ending._replace(message=f"{ending.message} {LACKING}")
    say(f"{name} {_how(code)} after {course.timings['code']:.1f} s.")
    return ending


def _peak_memory() -> int:
    # Slurm looks every second or so: the kernel alone knows the peak of what was over sooner.
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def _obtained(job: claim.Job, wish: environment.Wish) -> environment.Environment:
    exactly = job.run / layout.EXACT_LOCK
    if exactly.is_file():
        return environment.obtain_again(job.shared, wish, exactly.read_text("utf-8"), say)
    return environment.obtain(job.shared, wish, say)


def _finished(name: str, code: int) -> Ending:
    if code == 0:
        return Ending("finished", exit_code=0)
    sentence = f"{name} {_how(code)}."
    if code < 0:
        return Ending("finished", sentence, signal=-code)
    return Ending("finished", sentence, exit_code=code)


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"was ended by signal {-code}"


def _told(collected: collect.Collected) -> str:
    left = f"; {collected.left_out} left out (see manifest.json)" if collected.left_out else ""
    size = counted(collected.size, "byte")
    return f"{counted(collected.files, 'file')} collected from output/ ({size}){left}."


def write_exit(
    course: Course,
    ending: Ending,
    collected: Optional[collect.Collected],
    site: Mapping[str, Any],
) -> None:
    """Write how the job ended."""
    told = {
        "job_id": course.job.job_id,
        "token": course.job.token,
        **ending._asdict(),
        "timings": course.timings,
        "environment": course.environment,
        "collected": collected._asdict() if collected else None,
        "metrics": metrics.read(course.job.work / layout.PROJECT / layout.OUTPUT),
        "elsewhere": list(course.elsewhere),
        "max_rss": course.max_rss,
        **facts.facts(course.job, site),
        "started": course.started,
        "ended": time.time(),
    }
    try:
        files.write_json(course.job.work / layout.EXIT, told)
    except OSError as error:
        say(f"How the job ended could not be written down: {_words(error)}.")
    course.enter("finished")


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f' ({error.filename})' if error.filename else ''}"
    return f"{type(error).__name__}: {error}"
