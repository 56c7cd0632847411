"""A run as an RO-Crate 1.1: its zip, code, packages, log and results, and how they belong together.

It is put together while it is sent, and follows the Process Run Crate profile.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote

from nias_bridge.domain import JobState, Run
from nias_bridge.errors import NotFound, NotPossible
from nias_bridge.node import layout, zipreader
from nias_bridge.services import desk, intake, sweeps, zipstream
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.record import node_files, record

METADATA = "ro-crate-metadata.json"
CRATE = "https://w3id.org/ro/crate/1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
OUTPUT = "output/"
DESCRIBED_MAX = 5000  # files of output/ that are described one by one; all are in the crate
_FILES_MAX = 200_000
# What lies in the run's folder: its name there, its name in the crate, and what it is.
_KEPT = (
    (layout.ARCHIVE, "input/project.zip", "The project as it was uploaded"),
    (layout.LOCK, "requirements.lock", "The packages that were installed, with their SHA-256"),
    (layout.SCRIPT, "job.sbatch", "The script of the job"),
    (layout.LOG, "log.txt", "What the code said while it ran"),
)
_INPUTS = frozenset({"input/project.zip", "requirements.lock"})

Json = dict[str, Any]


@dataclass(frozen=True)
class _File:
    """A file of the crate: its bytes, and what is said of it."""

    part: zipstream.Part
    about: str = ""
    sha256: str | None = None

    def described(self, **more: Any) -> Json:
        kind, _ = mimetypes.guess_type(self.part.name)
        told = {
            "@id": quote(self.part.name),
            "@type": "File",
            "name": self.part.name,
            "description": self.about,
            "contentSize": str(self.part.size),
            "encodingFormat": kind or "application/octet-stream",
            "sha256": self.sha256,
            **more,
        }
        return {key: value for key, value in told.items() if value}


def parts(bridge: Bridge, run: Run) -> list[zipstream.Part]:
    """The files of the crate, its metadata first. Raises NotPossible before the run's end."""
    if not run.state.ended:
        raise NotPossible("A run can be packed as an RO-Crate once it has ended.")
    told = record(bridge, run.id)
    at = run.changed_at.timestamp()
    kept = list(_kept(bridge, run, at))
    code = _code(bridge, run, at)
    run_json = _File(
        zipstream.text("run.json", _as_json(told), at),
        "The record of the run, as NIAS bridge has it",
    )
    outputs = list(_outputs(bridge, run, told, at))
    metadata = _metadata(run, told, [*kept, run_json], code, outputs)
    first = zipstream.text(METADATA, _as_json(metadata), at)
    folder = [zipstream.text(OUTPUT, b"", at)] if outputs else []
    files = [*([code] if code else []), *kept, run_json]
    return [first, *(f.part for f in files), *folder, *(f.part for f in outputs)]


def _kept(bridge: Bridge, run: Run, at: float) -> Iterator[_File]:
    whole, node = bridge.paths.run(run).folder, node_files(bridge, run).folder
    for name, called, about in _KEPT:
        folder = node if name == layout.LOCK else whole
        try:
            with bridge.storage.open_beneath(folder, name) as file:
                size = file.info.size
        except NotFound:
            continue
        part = zipstream.file(called, size, at, partial(bridge.storage.open_beneath, folder, name))
        yield _File(part, about, run.contents.sha256 if name == layout.ARCHIVE else None)


def _code(bridge: Bridge, run: Run, at: float) -> _File | None:
    source = intake.sources_of(bridge, run).get(run.program.main)
    if not source:
        return None
    part = zipstream.text(f"code/{run.program.main}", source.encode(), at)
    return _File(part, "What was run, as it is in the project")


def _outputs(bridge: Bridge, run: Run, told: Json, at: float) -> Iterator[_File]:
    if run.tasks:
        with suppress(NotFound):
            for part in sweeps.results(bridge, run.id)[1]:
                yield _File(replace(part, name=f"{OUTPUT}{part.name}"))
        return

    def opened() -> Any:
        return desk.results(bridge, run.id)

    hashes = {file["path"]: file["sha256"] for file in told["outputs"]["files"]}
    try:
        with opened() as results:
            found = zipreader.members(results, _FILES_MAX)
    except NotFound:
        return
    except zipreader.ZipError as error:
        raise NotPossible(f"The results of this run can't be read: {error}") from None
    for member in found:
        name = member.raw_name.decode("utf-8", "replace")
        if not _leads_out(name):
            part = zipstream.member(f"{OUTPUT}{name}", member, at, opened)
            yield _File(part, sha256=hashes.get(name))


def _leads_out(name: str) -> bool:
    return name.startswith("/") or "\\" in name or ".." in name.split("/")


def _metadata(
    run: Run, told: Json, kept: list[_File], code: _File | None, outputs: list[_File]
) -> Json:
    described = [file.described() for file in kept]
    results = [file.described() for file in outputs[:DESCRIBED_MAX]]
    output = {
        "@id": OUTPUT,
        "@type": "Dataset",
        "name": "Results",
        "description": f"What the run left in output/: {len(outputs)} files",
        "hasPart": _references(results),
    }
    program = _program(run, told, code)
    contained = [*described, *([program] if code else []), *([output] if outputs else [])]
    entities: list[Json] = [
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "conformsTo": {"@id": CRATE},
            "about": {"@id": "./"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": _title(run),
            "description": f"One execution of the project “{run.project}” on a Slurm cluster: its "
            "input, code, packages, log and results.",
            "datePublished": _second(run.changed_at),
            "author": {"@id": "#owner"},
            "license": {"@id": "#license"},
            "conformsTo": {"@id": PROFILE},
            "hasPart": _references(contained),
            "mentions": {"@id": "#run"},
        },
        {
            "@id": "#license",
            "@type": "CreativeWork",
            "name": "No licence stated",
            "description": "Whoever publishes this crate is to say here on which terms.",
        },
        {
            "@id": PROFILE,
            "@type": "CreativeWork",
            "name": "Process Run Crate",
            "version": "0.5",
        },
        _action(run, told, program, [file["@id"] for file in described], outputs),
        *_seen(told),
        {"@id": "#owner", "@type": "Person", "name": run.owner},
        {"@id": "#python", "@type": "ComputerLanguage", "name": "Python", **_version(told)},
        *([] if code else [program]),
        *contained,
        *results,
    ]
    return {
        "@context": [f"{CRATE}/context", {"sha256": "https://schema.org/sha256"}],
        "@graph": entities,
    }


def _program(run: Run, told: Json, code: _File | None) -> Json:
    about: Json = {
        "name": f"{run.project}: {run.program.main}",
        "version": run.contents.sha256,
        "programmingLanguage": {"@id": "#python"},
        "runtimePlatform": " ".join(filter(None, (told["python"] and "Python", told["python"]))),
        "softwareRequirements": {"@id": "requirements.lock"},
    }
    if told["requirements"]["lock"] is None:
        del about["softwareRequirements"]
    if code:
        return code.described(**{"@type": ["File", "SoftwareSourceCode"], **about})
    return {"@id": "#program", "@type": "SoftwareApplication", **about}


def _action(run: Run, told: Json, program: Json, kept: list[str], outputs: list[_File]) -> Json:
    well = run.state is JobState.COMPLETED
    action = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": _title(run),
        "description": f"Slurm job {run.job_id} on {told['node']} ended as {run.state.value}"
        if run.job_id
        else f"It ended as {run.state.value} before Slurm had it",
        "instrument": {"@id": program["@id"]},
        "agent": {"@id": "#owner"},
        "object": [
            *({"@id": name} for name in kept if name in _INPUTS),
            *_references(_seen(told)),
        ],
        "result": {"@id": OUTPUT} if outputs else None,
        "startTime": _second(run.report.started_at) if run.report else None,
        "endTime": _second((run.report and run.report.ended_at) or run.changed_at),
        "actionStatus": f"http://schema.org/{'Completed' if well else 'Failed'}ActionStatus",
        "error": "" if well else told["message"] or run.note or run.state.value,
    }
    return {key: value for key, value in action.items() if value}


def _seen(told: Json) -> list[Json]:
    """The datasets that it saw: named by their bytes, which are not in the crate."""
    return [
        {
            "@id": f"#sha256-{seen['sha256']}",
            "@type": "CreativeWork",
            "name": f"{seen['owner']}/{seen['name']}",
            "description": "A dataset that the code read, as the site kept it",
            "sha256": seen["sha256"],
        }
        for seen in told["datasets"]
    ]


def _second(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None


def _title(run: Run) -> str:
    return f"{run.project}, run {run.number}"


def _version(told: Json) -> Json:
    return {"version": told["python"]} if told["python"] else {}


def _references(entities: list[Json]) -> list[Json]:
    return [{"@id": entity["@id"]} for entity in entities]


def _as_json(content: Json) -> bytes:
    return json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8", "replace")
