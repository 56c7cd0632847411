"""A project that somebody gave to sbatch herself: a run in a folder of hers, like any other."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Optional

from . import archive, catalogue, claim, files, layout, projectfile, run
from .stopping import StopSignals

_USAGE_STATUS = 2
# What is never part of a project: others' copies of packages, and what tools keep for themselves.
_LEFT_OUT = frozenset(
    [
        *(".git", ".hg", ".svn", "__pycache__", ".venv", ".tox", ".ipynb_checkpoints"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache"),
    ]
)
_FILE_MAX_BYTES = 16 * 1024 * 1024  # of nias.toml, and of the table that it names


class Refused(Exception):
    """This can't be run; one sentence for who gave it to sbatch."""


class Given(NamedTuple):
    """What sbatch was given: a folder or a zip, from where, and which tasks of an array.

    words: all that stood behind the script's name, which should be the project alone; task: this
    one's index, None where the job is no array.
    """

    words: tuple[str, ...]
    project: Path
    submitted_from: Path
    job_id: int
    task: Optional[int]
    tasks: tuple[str, ...]

    @property
    def submission(self) -> dict[str, Any]:
        """What tells this submission from an earlier one whose job had the same id."""
        return {"project": str(self.project), "job_id": self.job_id, "tasks": list(self.tasks)}

    @property
    def job(self) -> str:
        """The job's id as Slurm writes it."""
        return str(self.job_id) if self.task is None else f"{self.job_id}_{self.task}"


def main(arguments: Sequence[str]) -> int:
    """Run the project that sbatch was given; returns the job's exit status."""
    if len(arguments) < 3 or (arguments[0], arguments[2]) != ("--shared", "--"):
        print(run.USAGE, file=sys.stderr)
        return _USAGE_STATUS
    shared = Path(arguments[1])
    signals = StopSignals()
    signals.listen()
    try:
        given = _given(arguments[3:], os.environ)
        job = _job(shared, given, os.environ)
        _log_into(job, shared, given)
    except (Refused, OSError) as error:
        run.say(f"This can't be run: {error}.")
        return _USAGE_STATUS
    try:
        command = _command(job, given)
        taken = claim.claim(job)
    except (Refused, projectfile.ProjectFileError, archive.ArchiveError, OSError) as error:
        sentence = f"This can't be run: {str(error).rstrip('.')}."
        run.say(sentence)
        ending = run.Ending("archive", sentence)
        run.write_exit(run.Course(job, [archive.CODE]), ending, None, run.site_of(shared))
        return ending.status
    if taken:
        run.say(taken)
        return layout.ALREADY_RUN
    return run.supervise(job, command, signals, lambda: _hand_back(job, given))


def _given(words: Sequence[str], variables: Mapping[str, str]) -> Given:
    job_id = variables.get("SLURM_ARRAY_JOB_ID") or variables.get("SLURM_JOB_ID", "")
    if not job_id.isdigit():
        raise Refused("it is no job; give this script to sbatch")
    start = Path(variables.get("SLURM_SUBMIT_DIR") or Path.cwd())
    index = variables.get("SLURM_ARRAY_TASK_ID", "")
    names = ("SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_COUNT")
    return Given(
        words=tuple(words),
        project=Path(os.path.normpath(start / words[0])) if words else Path(),
        submitted_from=start,
        job_id=int(job_id),
        task=int(index) if index.isdigit() else None,
        tasks=tuple(variables.get(name, "") for name in names) if index.isdigit() else (),
    )


def _job(shared: Path, given: Given, variables: Mapping[str, str]) -> claim.Job:
    user = variables.get("SLURM_JOB_USER") or pwd.getpwuid(os.geteuid()).pw_name
    restarts = int(variables.get("SLURM_RESTART_COUNT") or 0)
    inner = "." if given.task is None else layout.TASK_FOLDER.format(given.task)

    def is_free(folder: Path) -> bool:
        told = files.read_json(folder / layout.SUBMISSION)
        claimed = files.read_json(folder / inner / layout.CLAIMS / layout.BY_SBATCH / "job")
        mine = claimed is None or restarts > 0 or not _is_older(claimed, given)
        return mine and told in (None, given.submission)

    home = _own_folder(shared / layout.SBATCH, user, lambda _: True)
    folder = _own_folder(home, str(given.job_id), is_free)
    if not (folder / layout.SUBMISSION).exists():
        files.write_json(folder / layout.SUBMISSION, given.submission)
    work = folder / inner
    work.mkdir(parents=True, exist_ok=True)
    return claim.Job(
        run=folder,
        work=work,
        shared=shared,
        token=layout.BY_SBATCH,
        job_id=given.job_id,
        node=variables.get("SLURMD_NODENAME") or os.uname().nodename,
        restarts=restarts,
        task=given.task,
        home=home,
    )


def _is_older(claimed: Mapping[str, Any], given: Given) -> bool:
    """Whether an earlier job that had our id took this: Slurm can also have started us twice."""
    asked = ["squeue", "--noheader", f"--jobs={given.job}", "--Format=SubmitTime"]
    variables = {**os.environ, "SLURM_TIME_FORMAT": "%s"}
    try:
        told = subprocess.run(asked, env=variables, capture_output=True, timeout=30, check=True)
        return float(told.stdout) > float(claimed["at"])
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        return False


def _own_folder(parent: Path, name: str, is_free: Callable[[Path], bool]) -> Path:
    """The first folder of this name, or with a number behind it, that is ours and free.

    Anybody may make folders in the sticky `parent`: one that is another's is left alone.
    """
    for numbered in layout.numbered(name):
        folder = parent / numbered
        with suppress(FileExistsError):
            folder.mkdir(mode=0o770)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            continue
        if status.st_gid != parent.stat().st_gid:
            raise Refused(f"{folder} is not of the bridge's group, which is to read it")
        if is_free(folder):
            return folder
    raise Refused(f"all folders for {name} in {parent} are another's; ask the administrator")


def _log_into(job: claim.Job, shared: Path, given: Given) -> None:
    """From here on the run's folder has the log, wherever Slurm began it.

    Where she asked for no other file, there is a link to it where sbatch would have put it.
    """
    index = given.task
    log = job.run / (layout.LOG if index is None else layout.TASK_LOG.replace("%a", str(index)))
    begun = Path(os.readlink("/proc/self/fd/1"))  # noqa: PTH115
    if begun == log:  # we were called anew, under another Python
        return
    usual = begun.parent == shared / layout.SBATCH and begun.name.startswith("slurm-")
    if not usual:
        run.say(f"The log of this run is {log}.")
    if usual and not log.exists():
        begun.rename(log)
        os.fchmod(1, 0o660)
    else:
        opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o660)
        os.dup2(opened, 1)
        os.close(opened)
    os.dup2(1, 2)
    if usual:
        with suppress(OSError):
            begun.unlink()  # a requeued job's, who began it anew
        with suppress(OSError):
            (given.submitted_from / f"slurm-{given.job}.out").symlink_to(log)


def _command(job: claim.Job, given: Given) -> list[str]:
    """What is run of the project, once it is in the run's folder as a zip."""
    if len(given.words) != 1:
        raise Refused(_wanted(given.words))
    packed = job.run / layout.ARCHIVE
    if not packed.exists():
        _pack(given.project, packed)
    site = run.site_of(job.shared)
    limits = run.LIMITS._replace(**site.get("limits", {}))
    with packed.open("rb") as zipped:
        inventory = archive.judge(zipped, packed.name, limits)

        def read(path: str) -> Optional[bytes]:
            return archive.read_member(zipped, inventory, path, _FILE_MAX_BYTES)

        text = read(projectfile.FILE)
        if text is None:
            return [archive.CODE]
        said = projectfile.read(text.decode("utf-8", "replace"), read)
    asked = said.job
    if asked.datasets:
        _choose(job, asked.datasets)
    if asked.python:
        _under(asked.python, site.get("pythons", {}), job.shared, given)
    if any((asked.time, asked.memory, asked.cpus, asked.gpus, asked.partition)):
        run.say(f"What {projectfile.FILE} asks of Slurm is for uploads: here sbatch's options are.")
    if said.sweep:
        _sweep(job, len(said.sweep.tasks), said.sweep.tasks)
    return [asked.main, *asked.args]


def _wanted(words: Sequence[str]) -> str:
    told = f"was given {' '.join(words)}" if words else "was given nothing"
    return (
        f"{layout.LOGIN_SCRIPT} {told}, and takes one project: "
        f"sbatch [OPTION ...] {layout.LOGIN_SCRIPT} PROJECT"
    )


def _sweep(job: claim.Job, count: int, tasks: Sequence[Mapping[str, Any]]) -> None:
    if job.task is None:
        raise Refused(
            f"it is a sweep of {count} tasks: call sbatch with --array=0-{count - 1} "
            "before the script's name."
        )
    files.write_json(job.run / layout.SWEEP, list(tasks))


def _choose(job: claim.Job, words: Sequence[str]) -> None:
    """Settle which versions the run sees: the first of its tasks does, for all of them and for
    whatever is begun anew. Raises Refused."""
    seen = job.run / layout.SEEN
    with (job.run / layout.SUBMISSION).open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if seen.exists():
            return
        me, listed = _catalogue(job.shared / layout.DATASETS / layout.CATALOGUES)

        def named(name: str) -> list[catalogue.Listed]:
            return [each for each in listed if each.name.casefold() == name.casefold()]

        try:
            meant = catalogue.resolve(words, me, named)
        except catalogue.NotMeant as error:
            told = ", ".join(words)
            raise Refused(f"{projectfile.FILE}: job.datasets is {told}; {error}") from None
        files.write_json(seen, {each.name: each.sha256 for each in meant})
    run.say(f"Datasets: {', '.join(each.word for each in meant)}.")


def _catalogue(place: Path) -> tuple[str, list[catalogue.Listed]]:
    """What this account's words may mean, and to whom. Raises Refused."""
    account = pwd.getpwuid(os.geteuid()).pw_name
    try:
        return catalogue.read((place / layout.CATALOGUE.format(account)).read_text("utf-8"))
    except (OSError, ValueError) as error:
        why = _why_none(place, account, error)
        raise Refused(f"{projectfile.FILE} names datasets, and {why}") from None


def _why_none(place: Path, account: str, error: Exception) -> str:
    if not os.path.isdir(place):  # noqa: PTH112  # also where it is closed to us
        return (
            "the site's shared storage has no ACLs by which a job by plain sbatch could see them: "
            "use the bridge's pages, or “nias submit”"
        )
    if isinstance(error, FileNotFoundError):
        return f"the bridge has linked nobody to the account {account}: ask the administrator to"
    return f"what the account {account} may see can't be read ({error})"


def _under(version: str, pythons: Mapping[str, str], shared: Path, given: Given) -> None:
    """Begin anew under the Python of this version, where we are not. Raises Refused."""
    wanted = pythons.get(version)
    if wanted is None:
        raise Refused(f"{projectfile.FILE} asks for Python {version}, which this site lacks.")
    path = shutil.which(wanted)
    if path is None:
        raise Refused(f"Python {version} ({wanted}) is not on this node.")
    if Path(path).resolve() != Path(sys.executable).resolve():
        program = str(shared / layout.BIN / layout.NODE_PROGRAM)
        arguments = ["sbatch", "--shared", str(shared), "--", str(given.project)]
        os.execv(path, [path, "-I", "-S", program, *arguments])  # noqa: S606


def _pack(project: Path, target: Path) -> None:
    """Put the project into the run's folder as a zip. Raises Refused, OSError."""
    if project.is_dir():
        with files.written_by_rename(target) as file:
            _zip(project, file)
    elif zipfile.is_zipfile(project):
        with files.written_by_rename(target) as copy, project.open("rb") as file:
            shutil.copyfileobj(file, copy)
    else:
        what = "neither a folder nor a zip" if project.exists() else "not there, seen from the node"
        raise Refused(f"{project} is {what}.")


def _zip(project: Path, target: Any) -> None:
    with zipfile.ZipFile(
        target, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False
    ) as packed:
        output = zipfile.ZipInfo(f"{project.name}/{layout.OUTPUT}/")
        output.external_attr = (stat.S_IFDIR | 0o755) << 16
        packed.writestr(output, b"")
        for file in _files_of(project):
            packed.write(file, f"{project.name}/{file.relative_to(project).as_posix()}")


def _files_of(project: Path) -> Iterator[Path]:
    """What an upload of this folder would have: not what is in output/ from an earlier run."""
    for folder, inner, names in os.walk(project):
        top = Path(folder)
        kept = [
            name
            for name in sorted(inner)
            if name not in _LEFT_OUT and not (top / name / "pyvenv.cfg").exists()
        ]
        if top == project:
            kept = [name for name in kept if name != layout.OUTPUT]
        inner[:] = kept
        for name in sorted(names):
            is_log = top == project and name.startswith("slurm-")
            if not is_log and (top / name).is_file():
                yield top / name


def _hand_back(job: claim.Job, given: Given) -> None:
    """Say where the results are; those of a folder are put beside it too."""
    results = job.work / layout.RESULTS
    if not results.exists():
        return
    run.say(f"The results are in {results}.")
    if not given.project.is_dir():
        return
    beside = given.project.with_name(f"{given.project.name}-{layout.OUTPUT}-{given.job_id}")
    target = beside if given.task is None else beside / str(given.task)
    before = os.umask(0o027)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(results) as packed:
            packed.extractall(target)
    except OSError as error:
        run.say(f"They could not be copied to {target}: {error}.")
    else:
        run.say(f"They are in {target} as well.")
    finally:
        os.umask(before)
