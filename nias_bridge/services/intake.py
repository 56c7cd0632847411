"""An upload becomes a stored run; Slurm has no part in it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath

from nias_bridge.amounts import memory_bytes, time_limit_seconds
from nias_bridge.datasets import Mount
from nias_bridge.domain import Caution, Contents, NewRun, Program, Resources, Run, Scalar
from nias_bridge.errors import (
    BadProjectFile,
    BadRequest,
    BadRequirements,
    BadUpload,
    NotFound,
    NotPossible,
    ProjectExists,
    RequirementProblem,
)
from nias_bridge.naming import project_name, slug
from nias_bridge.node import archive, needs, projectfile, requirements, sources
from nias_bridge.services import datasets, foresight, held, identity, quotas, wishes
from nias_bridge.services.bridge import Bridge
from nias_bridge.settings import Settings

FILES_LISTED = 500
NEEDS_MAX_BYTES = 4 * 1024 * 1024  # of requirements.txt, or of what stands in its place
PROJECT_FILE_MAX_BYTES = 4 * 1024 * 1024  # of nias.toml, and of the table that it names
# What stands in for requirements.txt, as a note on the run.
_INSTEAD = {
    "": "no-requirements",
    needs.LOCK: "requirements-of-uv-lock",
    needs.PROJECT: "requirements-of-pyproject",
}
_AS_IT_IS = ("", needs.REQUIREMENTS)
ZIP_GONE = "The zip of this run is no longer on the shared storage; upload it again."
COUNT_BELOW = 100_000
_TOKEN_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # noqa: S105  # none that look alike


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """One file of the zip: path within the project, size in bytes."""

    path: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was found in a zip that can be run, once its problems (if any) are mended.

    At most FILES_LISTED files are listed; source is the file that says which packages it needs,
    text its lines as a requirements.txt has them, mended the same with every certain mend made,
    None where it has no problem; next_number is 1 for a project that is new. resources are what
    nias.toml says, datasets what it names; suggestion is what earlier runs say, limits what the
    site allows.
    """

    project: str
    contents: Contents
    files: tuple[FoundFile, ...]
    problems: tuple[RequirementProblem, ...]
    source: str
    text: str
    mended: str | None
    next_number: int
    resources: Resources
    program: Program
    sweep: projectfile.Sweep | None
    suggestion: wishes.Suggestion | None
    limits: wishes.Limits
    datasets: tuple[Mount, ...]


def judge(
    bridge: Bridge, part: PurePosixPath, filename: str, cautions: tuple[Caution, ...] | None = None
) -> Judged:
    """What is in this zip, read from its directory. Raises BadUpload.

    cautions: what was found when its code was read before, which takes a second or two. Raises
    NotAllowed where the caller has no account for her jobs.
    """
    owner, view = bridge.person.handle, bridge.store.cluster()
    identity.user_of(bridge, owner)
    with bridge.storage.open(part) as file:
        try:
            inventory = archive.judge(file, filename, limits(bridge.settings))
            said = wishes.read(
                lambda path: archive.read_member(file, inventory, path, PROJECT_FILE_MAX_BYTES),
                partial(wishes.limits_of, bridge.settings, view),
                bridge.settings.tasks_max,
            )
            needed = needs.read(
                lambda path: archive.read_member(file, inventory, path, NEEDS_MAX_BYTES),
                said.program.main,
            )
        except (archive.ArchiveError, needs.NeedsError) as error:
            raise BadUpload(str(error)) from None
        project = _project_name(inventory)
        lines, problems = requirements.parse(needed.text)
        if cautions is None:
            named = [*lines, *(problem.text for problem in problems)]
            cautions = foresight.cautions(bridge, file, inventory, named, said.program)
        size = file.info.size
    notes = []
    if needed.source != needs.REQUIREMENTS:
        notes.append(_INSTEAD.get(needed.source, "requirements-of-script"))
    if not inventory.has_output:
        notes.append("no-output")
    if inventory.ignored:
        notes.append("ignored-files")
    return Judged(
        project=project,
        contents=Contents(
            size=size,
            unpacked_size=inventory.unpacked_size,
            files=len(inventory.entries),
            requirements=tuple(line.partition(" --hash")[0] for line in lines),
            notes=tuple(notes),
            cautions=cautions,
        ),
        files=tuple(FoundFile(path=e.path, size=e.size) for e in inventory.entries[:FILES_LISTED]),
        problems=tuple(RequirementProblem(p.line, p.text, p.why, p.mend) for p in problems),
        source=needed.source,
        text=needed.text,
        mended=requirements.mend(needed.text) if problems else None,
        next_number=bridge.store.next_number(owner, project),
        resources=said.resources,
        program=said.program,
        sweep=said.sweep,
        suggestion=wishes.suggest(bridge, owner, project, said.resources),
        limits=wishes.limits_of(bridge.settings, view, said.resources.partition),
        datasets=_named_datasets(bridge, said.datasets),
    )


def _named_datasets(bridge: Bridge, words: Sequence[str]) -> tuple[Mount, ...]:
    try:
        return datasets.resolve(bridge, words)
    except (BadRequest, NotPossible) as error:
        told = f"{projectfile.FILE}: job.datasets is {', '.join(words)}; {error}"
        raise BadProjectFile((told,)) from None


def receive(
    bridge: Bridge,
    part: PurePosixPath,
    filename: str,
    *,
    again: bool = False,
    mend: bool = False,
    add: bool = False,
    resources: Resources | None = None,
    seen: Sequence[str] | None = None,
) -> Run:
    """Accept a streamed zip as a run. On any error the part is removed: nothing is kept.

    add: with the packages in its requirements that the code imports and they lack; seen: the
    datasets that it is to see, None for those that nias.toml names. Raises
    BadUpload, BadRequirements (unless `mend` and every problem has a mend), ProjectExists
    (unless `again`), BadRequest, OverQuota.
    """
    try:
        judged = judge(bridge, part, filename)
        return _accept(
            bridge, part, judged, again=again, mend=mend, add=add, resources=resources, seen=seen
        )
    finally:
        bridge.storage.remove(part)


def hold(bridge: Bridge, part: PurePosixPath, filename: str) -> str:
    """Judge a streamed zip and keep it until its owner has seen what is in it; returns its id.

    Raises BadUpload, OverQuota.
    """
    try:
        keep(bridge, part, filename)
    except BaseException:
        bridge.storage.remove(part)
        raise
    return part.stem


def keep(bridge: Bridge, part: PurePosixPath, filename: str) -> None:
    """As `hold`, but the zip stays where it is whatever is wrong."""
    contents = judge(bridge, part, filename).contents
    quotas.check(bridge, contents)
    held.keep(bridge, part, filename, contents.cautions)


def look_at_held(bridge: Bridge, upload_id: str) -> Judged:
    """What is in a held upload. Raises NotFound."""
    return _judge_held(bridge, held.find(bridge, upload_id))


def receive_held(
    bridge: Bridge,
    upload_id: str,
    *,
    again: bool = False,
    mend: bool = False,
    add: bool = False,
    resources: Resources | None = None,
    seen: Sequence[str] | None = None,
) -> Run:
    """Accept a held upload as a run. Raises as `receive` does, but keeps the upload then."""
    there = held.find(bridge, upload_id)
    judged = _judge_held(bridge, there)
    run = _accept(
        bridge, there.part, judged, again=again, mend=mend, add=add, resources=resources, seen=seen
    )
    held.forget(bridge, upload_id)
    return run


def _judge_held(bridge: Bridge, there: held.Held) -> Judged:
    try:
        return judge(bridge, there.part, there.filename, there.cautions)
    except FileNotFoundError:  # it became a run, or was dropped, just now
        raise NotFound(held.GONE) from None


def sources_of(bridge: Bridge, run: Run) -> dict[str, str]:
    """The Python modules in a run's zip by their paths, as many as are read; {} without the zip."""
    try:
        with bridge.storage.open(bridge.paths.run(run).archive) as file:
            inventory = archive.judge(file, f"{run.project}.zip", limits(bridge.settings))
            return sources.read(file, inventory)
    except (archive.ArchiveError, OSError):
        return {}


def check_resources(asked: Resources) -> None:
    """Raises BadRequest for a time, memory or count that Slurm could not mean."""
    checks: dict[str, Callable[[], object]] = {
        "time": lambda: asked.time is None or time_limit_seconds(asked.time),
        "memory": lambda: asked.memory is None or memory_bytes(asked.memory),
        "cpus": lambda: _positive(asked.cpus),
        "gpus": lambda: _positive(asked.gpus, least=0),
        "partition": lambda: _word(asked.partition),
    }
    for field, check in checks.items():
        try:
            check()
        except ValueError as error:
            raise BadRequest(f"{field}: {error}.", field) from None


def new_token() -> str:
    """A short random word, to find a job again whose id never came back."""
    return "".join(secrets.choice(_TOKEN_LETTERS) for _ in range(10))


def repeat(
    bridge: Bridge,
    run: Run,
    *,
    resources: Resources | None = None,
    requirements: Sequence[str] | None = None,
    lock: str | None = None,
    tasks: Sequence[Mapping[str, Scalar]] | None = None,
) -> Run:
    """A new run of the same zip, asking for the same but for what is given here.

    lock: what is to be installed, to the last byte. Raises OverQuota, NotFound where its zip is
    gone, NotPossible where a dataset that the run saw is not to be had any more.
    """
    identity.user_of(bridge, bridge.person.handle)
    quotas.check(bridge, run.contents)
    mounts = datasets.again(bridge, run.datasets)
    if tasks is None:
        tasks = [task.parameters for task in bridge.store.tasks(run.id)] if run.tasks else ()
    contents = run.contents
    if requirements is not None:
        still = tuple(each for each in contents.cautions if each.package not in requirements)
        contents = replace(contents, requirements=tuple(requirements), cautions=still)
    old = bridge.paths.run(run)

    def place(new: Run) -> None:
        files, storage = bridge.paths.run(new), bridge.storage
        storage.make_folder(files.folder)
        storage.remove(files.archive, files.mended_requirements)
        for source, target in (
            (old.archive, files.archive),
            (old.mended_requirements, files.mended_requirements),
        ):
            storage.take(source, target)
        if not storage.is_plain(files.archive):  # removed since it was looked at
            raise NotFound(ZIP_GONE)
        if lock is not None:
            storage.write(files.exact_lock, lock)
        if requirements is not None:
            # In place of the link: the file of the run before it stays as it is.
            storage.write(files.mended_requirements, "".join(f"{line}\n" for line in requirements))

    new = _new_run(bridge, run.project, contents, resources or run.resources, run.program)
    new = replace(new, tasks=tuple(tasks), max_parallel=run.max_parallel, datasets=mounts)
    return _add(bridge, new, again=True, place=place)


def _accept(
    bridge: Bridge,
    part: PurePosixPath,
    judged: Judged,
    *,
    again: bool,
    mend: bool,
    add: bool,
    resources: Resources | None,
    seen: Sequence[str] | None,
) -> Run:
    quotas.check(bridge, judged.contents)
    mounts = judged.datasets if seen is None else datasets.resolve(bridge, seen)
    asked = resources or Resources()
    check_resources(asked)
    asked = wishes.settle(bridge.settings, bridge.store.cluster(), asked, judged.resources)
    contents, mended = judged.contents, judged.mended
    if judged.problems and not (mend and all(p.mend is not None for p in judged.problems)):
        raise BadRequirements(judged.problems, judged.source)
    if add and contents.lacking:
        mended = "\n".join([(mended or judged.text).rstrip("\n"), *contents.lacking, ""]).lstrip()
        left = tuple(each for each in contents.cautions if not each.package)
        contents = replace(contents, cautions=left)
    if mended is not None:
        contents = replace(contents, requirements=tuple(requirements.parse(mended)[0]))
    # What another file says is written out, because an older Python on a node can't read TOML.
    settled = judged.text if mended is None and judged.source not in _AS_IT_IS else mended
    if judged.next_number > 1 and not again:
        raise ProjectExists(judged.project, judged.next_number)
    # An accepted upload survives a power cut: its bytes are on disk before its row is.
    contents = replace(contents, sha256=bridge.storage.seal(part))

    def place(run: Run) -> None:
        # The folder can be there already: a crash between this and the commit left it.
        files, storage = bridge.paths.run(run), bridge.storage
        storage.make_folder(files.folder)
        if settled is not None:
            storage.write(files.mended_requirements, settled)
        storage.move(part, files.archive)

    new = _new_run(bridge, judged.project, contents, asked, judged.program)
    new = replace(new, datasets=mounts)
    if judged.sweep:
        new = replace(new, tasks=judged.sweep.tasks, max_parallel=judged.sweep.max_parallel)
    return _add(bridge, new, again=again, place=place)


def _add(bridge: Bridge, new: NewRun, *, again: bool, place: Callable[[Run], None]) -> Run:
    admission = quotas.for_run(bridge, new.contents)
    run = bridge.store.add_run(new, again=again, place=place, key=bridge.key, admission=admission)
    bridge.note("run submitted", run_id=run.id, detail=f"{run.project} {run.number}")
    return run


def _new_run(
    bridge: Bridge,
    project: str,
    contents: Contents,
    asked: Resources,
    program: Program,
) -> NewRun:
    return NewRun(
        owner=bridge.person.handle,
        project=project,
        slug=slug(project),
        token=new_token(),
        resources=asked,
        contents=contents,
        program=program,
        created_at=datetime.now(UTC),
    )


def limits(settings: Settings) -> archive.Limits:
    """What a zip may hold."""
    return archive.Limits(
        unpacked_bytes=settings.unpacked_max_bytes,
        files=settings.unpacked_max_files,
        ratio=settings.unpacked_max_ratio,
    )


def _positive(count: int | None, *, least: int = 1) -> None:
    if count is not None and not least <= count < COUNT_BELOW:
        raise ValueError(f"a count is from {least} to {COUNT_BELOW - 1:,}")


def _word(text: str | None) -> None:
    if text is not None and not projectfile.PARTITION.fullmatch(text):
        raise ValueError("a name has only letters, digits and . _ -, and no dash first")


def _project_name(inventory: archive.Inventory) -> str:
    try:
        return project_name(inventory.name)
    except ValueError as error:
        raise BadUpload(
            f"The project's name “{inventory.name}” {error}. Rename the folder and zip it again."
        ) from None
