"""Jobs that reached Slurm by plain sbatch become runs of whoever has their Unix account.

What Slurm itself recorded says whose a job is and that it is one of these; files only say how the
project is called and what is in it, and only those that belong to that account.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import PurePosixPath

from nias_bridge.datasets import Mount
from nias_bridge.domain import (
    SBATCH_JOB_NAME,
    Contents,
    Native,
    NewRun,
    Program,
    Resources,
    Run,
    SlurmReport,
    Unclaimed,
)
from nias_bridge.errors import BadProjectFile, NotPossible, Unreachable
from nias_bridge.naming import NAME_MAX, project_name, slug
from nias_bridge.node import archive, layout, needs, requirements
from nias_bridge.ports import Scheduler
from nias_bridge.reach import Info
from nias_bridge.services import datasets, intake, wishes
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.evidence import read_json
from nias_bridge.storage import Storage

log = logging.getLogger(__name__)

CLOCKS_APART = timedelta(hours=1)  # the gateway's, the cluster's and the storage's differ by less
UNTOLD_MAX = timedelta(seconds=15)  # after which a job is taken in without its project's name
TASKS_ASKED = 100  # of an array, whether they have ended without having chosen datasets
HINTS_MAX = 1000  # folders that are asked about in one search

# A submission by plain sbatch: its job id, its user, and when it was submitted first.
Key = tuple[int, str, datetime]


def look(
    bridge: Bridge,
    scheduler: Scheduler,
    queue: Sequence[SlurmReport],
    seen: Collection[Key],
    now: datetime,
) -> set[Key]:
    """Adopt the newcomers in squeue's answer; returns which of it have been looked at now.

    seen: what was returned the last time. Who has been linked to an account meanwhile gets the
    jobs that waited for it. Raises Unreachable.
    """
    for job in bridge.store.unclaimed.all():
        _adopt(bridge, job)
    there = _submissions(bridge, queue)
    new = {key: reports for key, reports in there.items() if key not in seen}
    left = _take_in(bridge, scheduler, _unknown(bridge, new), now) if new else set()
    return set(there) - left


def search(bridge: Bridge, scheduler: Scheduler, now: datetime) -> None:
    """Adopt what squeue never told when it was asked: the accounting has it. Raises Unreachable.

    A job that its owner gave another name is found by its folder, and then known by its record.
    Of those that nobody claims the sizes are seen to as well.
    """
    unclaimed = bridge.store.unclaimed
    since = max(unclaimed.since(), unclaimed.looked_at() - CLOCKS_APART)
    records = scheduler.accounting(since=since, names=[SBATCH_JOB_NAME])
    hinted = _hints(bridge, unclaimed.looked_at() - CLOCKS_APART)
    if hinted:
        records += scheduler.accounting(since=unclaimed.since(), job_ids=hinted)
    found = _submissions(bridge, records)
    if found:
        _take_in(bridge, scheduler, _unknown(bridge, found), now)
    for job in unclaimed.all():
        if job.size is None and (size := _zip_size(bridge, job)) is not None:
            unclaimed.keep(replace(job, size=size))
    unclaimed.look(now)


def settle(bridge: Bridge, run: Run) -> Run:
    """Find out where a run by plain sbatch works, and what is in its zip. Raises Stale."""
    if run.native is None:
        return run
    if not run.native.folder:
        others = {r.native.folder for r in bridge.store.adopted([run.job_id or 0]) if r.native}
        folder = ""
        with suppress(Unreachable):  # whose folder it is can't be told now
            folder = _folder(bridge, run.native.user, run.job_id, run.submitted_at, others)
        if not folder:
            return run
        run = bridge.store.update(run, native=replace(run.native, folder=folder))
    if not run.contents.size:
        with suppress(OSError, archive.ArchiveError, needs.NeedsError):
            contents, program, mounts = _contents(bridge, run)
            if mounts and not run.datasets:
                with suppress(NotPossible):  # it was deleted in these seconds
                    run = bridge.store.see(run, mounts)
            run = bridge.store.update(run, contents=contents, program=program)
    return run


def _zip_size(bridge: Bridge, job: Unclaimed) -> int | None:
    """Bytes of the zip that a job works on; None where there is none that can be seen."""
    with suppress(OSError, Unreachable):
        at = job.report.submitted_at
        if folder := _folder(bridge, job.native.user, job.report.job_id, at, ()):
            with bridge.storage.open(bridge.paths.sbatch / folder / layout.ARCHIVE) as file:
                return file.info.size
    return None


def _submissions(bridge: Bridge, reports: Iterable[SlurmReport]) -> dict[Key, list[SlurmReport]]:
    """The jobs among these that were given to sbatch with our script, all tasks of each together.

    Our script's working directory is what Slurm recorded of them; those from before the bridge was
    there are not among them.
    """
    place = str(bridge.paths.sbatch_on_cluster)
    found: dict[tuple[int, str, str], list[SlurmReport]] = {}
    for report in reports:
        if report.workdir == place and report.user and report.submitted_at:
            found.setdefault((report.job_id, report.user, report.name), []).append(report)
    if not found:
        return {}
    since = bridge.store.unclaimed.since()
    submissions = {}
    for (job_id, user, _), told in found.items():
        first = min(report.submitted_at for report in told if report.submitted_at)
        if first >= since.replace(microsecond=0):
            submissions[job_id, user, first] = told
    return submissions


def _unknown(
    bridge: Bridge, submissions: dict[Key, list[SlurmReport]]
) -> dict[Key, list[SlurmReport]]:
    """Those that are neither runs nor unclaimed yet. A requeued job has another time, and is."""
    ids = {job_id for job_id, _, _ in submissions}
    known = [
        (run.job_id, run.native.user, run.submitted_at, run.state.ended)
        for run in bridge.store.adopted(ids)
        if run.native
    ]
    known += [
        (job.report.job_id, job.native.user, job.report.submitted_at, False)
        for job in bridge.store.unclaimed.all()
    ]

    def is_known(key: Key, reports: list[SlurmReport]) -> bool:
        requeued = any(report.restarts for report in reports)
        return any(
            (job_id, user) == key[:2] and (at == key[2] or (requeued and not ended))
            for job_id, user, at, ended in known
        )

    return {key: told for key, told in submissions.items() if not is_known(key, told)}


def _take_in(
    bridge: Bridge, scheduler: Scheduler, new: dict[Key, list[SlurmReport]], now: datetime
) -> set[Key]:
    """Returns those that are too young for Slurm to tell what they are of."""
    left: set[Key] = set()
    if not new:
        return left
    commands = scheduler.commands(sorted({job_id for job_id, _, _ in new}))
    arrays = [key[0] for key, told in new.items() if any(report.array_tasks for report in told)]
    # squeue forgets the tasks that ended some minutes ago.
    records = (
        scheduler.accounting(since=min(at for *_, at in new), job_ids=arrays) if arrays else []
    )
    for key, told in new.items():
        job_id, user, at = key
        project = _project(bridge, commands.get(job_id), user, job_id, at)
        waits = now - at < UNTOLD_MAX and not all(report.state.ended for report in told)
        if project == "" and waits:
            left.add(key)
            continue
        if project is None:
            log.info("Job %d of %s is in our folder, but by another script.", job_id, user)
            continue
        same = [r for r in records if (r.job_id, r.user) == (job_id, user)]
        tasks = sorted({index for report in chain(told, same) for index in report.array_tasks})
        job = Unclaimed(
            native=Native(user=user, job_name=told[0].name),
            project=project or SBATCH_JOB_NAME,
            report=replace(told[0], submitted_at=at),
            tasks=tuple(tasks),
        )
        if not _adopt(bridge, job):
            log.info("Job %d waits: nobody is linked to the account %s.", job_id, user)
            bridge.store.unclaimed.keep(job)
    return left


def _adopt(bridge: Bridge, job: Unclaimed) -> bool:
    """Make it a run of the person who is linked to its account; False where nobody is."""
    person = bridge.store.people.find(unix_account=job.native.user)
    submitted_at = job.report.submitted_at
    if person is None or submitted_at is None:
        return False
    new = NewRun(
        owner=person.handle,
        project=job.project,
        slug=slug(job.project),
        token=job.token,
        resources=Resources(),
        contents=Contents(size=0, unpacked_size=0, files=0),
        created_at=submitted_at,
    )
    run = bridge.store.adopt(new, job)
    if run:
        log.info("Job %d of %s is run %d now.", job.report.job_id, job.native.user, run.id)
        bridge.note("run adopted", run_id=run.id, detail=f"{job.native.user}: {job.report.job_id}")
    return True


def _project(
    bridge: Bridge, command: str | None, user: str, job_id: int, at: datetime
) -> str | None:
    """How the project is called; None for a job of another script, "" where that is not told yet.

    By the script's argument as Slurm has it, which does not know of quotes. Where it has none, or
    forgot the job, the account's own file tells. Raises Unreachable.
    """
    if command is not None:
        _, ours, given = command.partition(f"/{layout.LOGIN_SCRIPT}")
        if not ours:
            return None
        if given.strip():
            return _as_name(given)
    folder = _folder(bridge, user, job_id, at, ())
    if not folder:
        return ""
    told = read_json(bridge.storage, bridge.paths.sbatch / folder / layout.SUBMISSION)
    return _as_name(str(told.get("project", "")))


def _as_name(path: str) -> str:
    name = PurePosixPath(path.strip()).name
    name = name[: -len(".zip")] if name.casefold().endswith(".zip") else name
    plain = re.sub(r"[^\w ._-]+", "-", name).strip(" .-")[:NAME_MAX].strip(" .-")
    for tried in (name, plain):
        with suppress(ValueError):
            return project_name(tried)
    return SBATCH_JOB_NAME


def _folder(
    bridge: Bridge,
    user: str,
    job_id: int | None,
    submitted_at: datetime | None,
    others: Collection[str],
) -> str:
    """Where this job works, below the folder of all such runs: "" while it is not there.

    Anybody may make folders there: only the account's own are looked into, and of those of one job
    id the newest is taken, which no other run has. Raises Unreachable.
    """
    uid = bridge.accounts.uid(user)
    if uid is None:
        return ""
    newest = ""
    for home, _ in _own_folders(bridge.storage, bridge.paths.sbatch, user, uid):
        for folder, info in _own_folders(bridge.storage, home, str(job_id), uid):
            inside = str(folder.relative_to(bridge.paths.sbatch))
            changed = datetime.fromtimestamp(info.modified, UTC)
            if inside not in others and submitted_at and changed > submitted_at - CLOCKS_APART:
                newest = inside
    return newest


def _own_folders(
    storage: Storage, parent: PurePosixPath, name: str, uid: int
) -> Iterator[tuple[PurePosixPath, Info]]:
    for numbered in layout.numbered(name):
        (info,) = storage.infos([parent / numbered])
        if info is None:
            return
        if info.folder and info.uid == uid:
            yield parent / numbered, info


def _hints(bridge: Bridge, since: datetime) -> list[int]:
    """Job ids that are names of folders which came lately, and of which no run is known."""
    ids: set[int] = set()
    storage, sbatch = bridge.storage, bridge.paths.sbatch
    with suppress(OSError):
        for home, info in storage.entries(sbatch).items():
            if not info.folder or info.modified < since.timestamp():
                continue
            with suppress(OSError):
                words = (name.partition(".")[0] for name in storage.entries(sbatch / home))
                ids.update(int(word) for word in words if word.isascii() and word.isdigit())
    known = {run.job_id for run in bridge.store.adopted(ids)}
    known |= {job.report.job_id for job in bridge.store.unclaimed.all()}
    return sorted(ids - known)[-HINTS_MAX:]


def _contents(bridge: Bridge, run: Run) -> tuple[Contents, Program, tuple[Mount, ...]]:
    """What is in a run's zip, and the datasets that it sees. Raises ArchiveError, NeedsError;
    OSError also while the job has not decided yet which these are."""
    packed = bridge.paths.run(run).archive
    words: tuple[str, ...] = ()
    with bridge.storage.open(packed) as file:
        inventory = archive.judge(file, f"{run.project}.zip", intake.limits(bridge.settings))
        read = partial(archive.read_member, file, inventory, limit=intake.PROJECT_FILE_MAX_BYTES)
        program = Program()
        with suppress(BadProjectFile):
            said = wishes.read(read, lambda _: wishes.Limits(), bridge.settings.tasks_max)
            program, words = said.program, said.datasets
        mounts = _mounts(bridge, run) if words else ()
        lines, _ = requirements.parse(needs.read(read, program.main).text)
        contents = Contents(
            size=file.info.size,
            unpacked_size=inventory.unpacked_size,
            files=len(inventory.entries),
            sha256=bridge.storage.sha256(packed),
            requirements=tuple(line.partition(" --hash")[0] for line in lines),
        )
    return contents, program, mounts


def _mounts(bridge: Bridge, run: Run) -> tuple[Mount, ...]:
    """The versions that a job chose, as far as its owner may use them: the file is her account's.

    Raises FileNotFoundError while there is no word of them.
    """
    files = bridge.paths.run(run)
    tasks = bridge.store.tasks(run.id)[:TASKS_ASKED] if run.tasks else []
    exits = [files.exit, *(files.task(task.index).exit for task in tasks)]
    chose, *ended = bridge.storage.infos([files.seen, *exits])
    if not chose:
        if not any(ended):
            raise FileNotFoundError(str(files.seen))
        return ()
    person = bridge.store.people.find(handle=run.owner)
    told = read_json(bridge.storage, files.seen)
    return datasets.chosen(bridge, person, told) if person else ()
