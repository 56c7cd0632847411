"""What people ask of their runs: show, list, log, files, results, cancel, run again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from nias_bridge.cluster import ClusterView
from nias_bridge.domain import FAILED_STATES, OPEN_STATES, Event, Filter, Page, Run
from nias_bridge.errors import NotAllowed, NotFound, NotPossible, StorageUnreachable
from nias_bridge.node import layout
from nias_bridge.paths import RunPaths
from nias_bridge.reach import Info, Opened
from nias_bridge.services import datasets, identity, intake
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.efficiency import Efficiency, efficiency
from nias_bridge.services.evidence import Evidence, Peak, peak_memory, read_evidence
from nias_bridge.services.lastwords import programs_words
from nias_bridge.services.manifest import LeftOut, OutputFile, read_manifest
from nias_bridge.storage import Storage
from nias_bridge.tasks import Task

LOG_PART_BYTES = 64 * 1024
TAIL_BYTES = 16 * 1024
POLLER_SILENT = timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """How a run is: its row, what the node says of it, and the datasets that it sees."""

    run: Run
    evidence: Evidence
    peak_memory: Peak | None
    efficiency: Efficiency | None
    results_ready: bool
    seen: tuple[datasets.Seen, ...]


@dataclass(frozen=True, kw_only=True)
class RunView(RunStatus):
    """All that a page shows of one run."""

    events: tuple[Event, ...]
    files: tuple[OutputFile, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, kw_only=True)
class LogPart:
    """A part of the log: offset and next_offset in bytes of the file, size its length now."""

    text: str
    offset: int
    next_offset: int
    size: int
    ended: bool


@dataclass(frozen=True, kw_only=True)
class Home:
    """What the first page shows: the cluster, what is under way, what ended last."""

    cluster: ClusterView
    open_runs: tuple[Run, ...]
    recent: tuple[Run, ...]


@dataclass(frozen=True, kw_only=True)
class Health:
    """What works: "" for well, else the problem in a sentence."""

    database: str = ""
    storage: str = ""
    slurm: str = ""
    accounting: str = ""
    poller: str = ""

    @property
    def well(self) -> bool:
        return not any(vars(self).values())


def show(bridge: Bridge, run_id: int) -> RunView:
    """One run with its evidence, history and files. Raises NotFound."""
    run = find(bridge, run_id)
    files, left_out = left_files(bridge.storage, bridge.paths.run(run))
    return RunView(
        **vars(status(bridge, run)),
        events=tuple(bridge.store.events(run.id)),
        files=files,
        left_out=left_out,
    )


def status(bridge: Bridge, run: Run) -> RunStatus:
    """How a run is, without its history and its files."""
    files = bridge.paths.run(run)
    evidence = read_evidence(bridge.storage, files)
    peak = peak_memory(run.report, evidence)
    return RunStatus(
        run=run,
        evidence=evidence,
        peak_memory=peak,
        efficiency=efficiency(run, bridge.settings, peak),
        results_ready=bridge.storage.is_plain(files.results),
        seen=datasets.seen(bridge, run),
    )


def marks(bridge: Bridge, run: Run) -> tuple[object, ...]:
    """What differs once the node has written more of a run, found without reading any of it."""
    files = bridge.paths.run(run)
    gone = tuple(seen.gone for seen in datasets.seen(bridge, run))
    watched = [files.progress, files.exit, files.results]
    if run.state.ended:
        watched += [files.manifest, files.log]  # the last words are in the diagnosis
        if task := telling_task(bridge, run):
            told = files.task(task.index)
            watched += [told.exit, told.log]
    return (gone, *map(_mark, bridge.storage.infos(watched)))


def find(bridge: Bridge, run_id: int) -> Run:
    """One run that the caller may see. Raises NotFound, for another's just as for none."""
    run = bridge.store.run(run_id)
    if not bridge.who.may_see(run):
        raise NotFound(f"There is no run {run_id}.")
    return run


def find_own(bridge: Bridge, run_id: int) -> Run:
    """One run that the caller may change: her own, or for an administrator anybody's.

    Raises NotFound; NotAllowed for one that she may only look at.
    """
    run = find(bridge, run_id)
    if not (bridge.who.owns(run) or bridge.who.administers):
        raise NotAllowed("You may look at this run, but only its owner may change it.")
    return run


def runs(bridge: Bridge, wanted: Filter) -> Page:
    """A page of runs, newest first."""
    return bridge.store.runs(wanted)


def log(bridge: Bridge, run_id: int, offset: int, limit: int = LOG_PART_BYTES) -> LogPart:
    """The log from `offset`, at most `limit` bytes; a negative offset means the last `limit`.

    A character that is only half written yet is left for the next part. Raises NotFound.
    """
    run = find(bridge, run_id)
    files = bridge.paths.run(run)
    ended = run.state.ended
    return log_part(bridge.storage, files.folder, files.log_name, offset, limit, ended=ended)


def log_part(
    storage: Storage,
    folder: PurePosixPath,
    name: str,
    offset: int,
    limit: int,
    *,
    ended: bool,
) -> LogPart:
    """A part of a log by its name in a run's folder, as `log` gives it; `ended`: nothing is going
    to be added. The code may have put a link or a pipe in its place: that is no log."""
    try:
        opened = storage.open_beneath(folder, name)
    except NotFound:
        return LogPart(text="", offset=0, next_offset=0, size=0, ended=ended)
    with opened:
        size = opened.seek(0, 2)
        start = max(0, size - limit) if offset < 0 else min(offset, size)
        opened.seek(start)
        data = opened.read(limit)
    if not (ended and start + len(data) >= size):
        data = data[: len(data) - _half_character(data)]
    return LogPart(
        text=data.decode(errors="replace"),
        offset=start,
        next_offset=start + len(data),
        size=size,
        ended=ended,
    )


def whole_log(bridge: Bridge, run_id: int) -> Opened:
    """The log, opened. Raises NotFound, also where there is none yet."""
    files = bridge.paths.run(find(bridge, run_id))
    try:
        return bridge.storage.open_beneath(files.folder, files.log.name)
    except NotFound:
        raise NotFound("This run has no log yet: it begins when the run starts.") from None


def last_words(bridge: Bridge, run: Run, lines: int = 15) -> str:
    """The last lines of what the code said, without colours and the node's own."""
    said = programs_words(tail(bridge, run)).splitlines()
    return "\n".join(said[-lines:]).strip("\n")


def tail(bridge: Bridge, run: Run) -> str:
    """The end of the log."""
    return log(bridge, run.id, -1, limit=TAIL_BYTES).text


def task_tail(bridge: Bridge, run: Run, index: int) -> str:
    """The end of the log of a task that has ended."""
    files = bridge.paths.run(run)
    name = files.task(index).log.name
    return log_part(bridge.storage, files.folder, name, -1, TAIL_BYTES, ended=True).text


def telling_task(bridge: Bridge, run: Run) -> Task | None:
    """Of a sweep that did not end well the first task that ended as all of it did."""
    if not run.tasks or run.state not in FAILED_STATES:
        return None
    return next(iter(bridge.store.tasks(run.id, frozenset({run.state}))), None)


def output_file(bridge: Bridge, run_id: int, path: str) -> Opened:
    """A file of the output, opened for reading. Raises NotFound.

    Only what the manifest (or, before it is there, the folder) lists; never through a link out.
    """
    return open_listed(bridge.storage, bridge.paths.run(find(bridge, run_id)), path)


def open_listed(storage: Storage, files: RunPaths, path: str) -> Opened:
    """As `output_file`, of any place where a job left output."""
    listed, _ = left_files(storage, files)
    if not any(file.path == path for file in listed):
        raise NotFound(f"This run has no output file “{path}”.")
    # From the run's own folder: the code may have put a link in the place of output/ itself.
    return storage.open_beneath(files.folder, f"{_output_inside(files)}/{path}")


def lock(bridge: Bridge, run_id: int) -> Opened:
    """The packages that a run had, with their hashes, as pip reads them. Raises NotFound."""
    run = find(bridge, run_id)
    return bridge.storage.open_beneath(bridge.paths.run(run).folder, layout.LOCK)


def results(bridge: Bridge, run_id: int) -> Opened:
    """The zip of the results, opened. Raises NotFound, NotPossible while it is not there."""
    run = find(bridge, run_id)
    files = bridge.paths.run(run)
    try:
        return bridge.storage.open_beneath(files.folder, files.results.name)
    except NotFound:
        if run.removed_at:
            raise NotFound("The results of this run were removed.") from None
        if run.state.ended:
            raise NotFound("This run left no results.") from None
        raise NotPossible("The results are not there yet: the run has not ended.") from None


def cancel(bridge: Bridge, run_id: int) -> Run:
    """Ask for a run to be cancelled; the poller sees to it. Raises NotFound, NotPossible."""
    run = find_own(bridge, run_id)
    if run.state.ended:
        raise NotPossible(f"This run has ended already ({run.state}).")
    identity.refuse_to_cancel(bridge, run)
    bridge.note("run cancelled", run_id=run.id)
    return bridge.store.ask_cancel(run.id, at=datetime.now(UTC))


def pin(bridge: Bridge, run_id: int, pinned: bool) -> Run:
    """Say that a run is to be kept for good, or is no longer. Raises NotFound."""
    run = find_own(bridge, run_id)
    bridge.note("run pinned" if pinned else "run unpinned", run_id=run.id)
    return bridge.store.pin(run.id, pinned)


def again(bridge: Bridge, run_id: int) -> Run:
    """Run the same zip once more, as a new run. Raises NotFound."""
    return intake.repeat(bridge, with_archive(bridge, run_id))


def with_archive(bridge: Bridge, run_id: int) -> Run:
    """One run of the caller's own whose zip is still there.

    Raises NotFound, NotAllowed, NotPossible.
    """
    run = find(bridge, run_id)
    if not bridge.who.owns(run):
        raise NotAllowed("Only the owner of a run can run it again.")
    if run.removed_at:
        raise NotFound(
            f"The files of this run were removed on {run.removed_at:%d %B %Y}, its zip among them: "
            "upload the project again."
        )
    if run.native and run.tasks:
        raise NotPossible(
            "The numbers of this array's tasks were given to sbatch: give them to it once more."
        )
    if not bridge.storage.is_plain(bridge.paths.run(run).archive):
        raise NotFound(intake.ZIP_GONE)
    return run


def home(bridge: Bridge) -> Home:
    """What is under way, and how the cluster is."""
    own = frozenset({bridge.person.handle})
    return Home(
        cluster=bridge.store.cluster(),
        open_runs=bridge.store.runs(Filter(owners=own, states=OPEN_STATES, per_page=100)).runs,
        recent=bridge.store.runs(Filter(owners=own, per_page=5)).runs,
    )


def health(bridge: Bridge) -> Health:
    """Database, storage, Slurm, its accounting and the poller, told apart. Asks Slurm nothing."""
    storage = _storage_problem(bridge)
    try:
        cluster = bridge.store.cluster()
    except Exception as error:  # whatever the driver raises, the database is what does not work
        problem = f"The database does not answer: {type(error).__name__}."
        return Health(database=problem, storage=storage)
    poller = ""
    if cluster.at is None:
        poller = "The poller has not run yet: start it with `nias-bridge poll`."
    elif datetime.now(UTC) - cluster.at > POLLER_SILENT:
        poller = f"The poller has been silent since {cluster.at:%Y-%m-%d %H:%M} UTC."
    return Health(
        storage=storage, slurm=cluster.problem, accounting=cluster.accounting, poller=poller
    )


def _storage_problem(bridge: Bridge) -> str:
    folder = bridge.paths.uploads
    try:
        space = bridge.storage.space(folder)
    except StorageUnreachable as error:
        return str(error)
    except OSError:
        return f"{folder} is not there: is the shared storage mounted?"
    if not space.writable:
        return f"{folder} can't be written to: is the shared storage mounted read-only?"
    return ""


def left_files(
    storage: Storage, files: RunPaths
) -> tuple[tuple[OutputFile, ...], tuple[LeftOut, ...]]:
    """What a job left in output/, and what of it was not collected."""
    collected = read_manifest(storage, files.manifest)
    if collected is not None:
        return collected
    listed = (
        OutputFile(path=path, size=size)
        for path, size in storage.listing(files.folder, _output_inside(files))
        if PurePosixPath(path).name not in layout.NO_RESULTS
    )
    return tuple(listed), ()


def _mark(info: Info | None) -> tuple[int, ...] | None:
    return info and (info.inode, info.size, info.modified_ns)


def _output_inside(files: RunPaths) -> str:
    return str(files.output.relative_to(files.folder))


def _half_character(data: bytes) -> int:
    """How many bytes at the end belong to a UTF-8 character whose rest is not there yet."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if back < length else 0
        if byte < 0x80:
            return 0
    return 0
