"""Runs in any state without a Slurm: rows in a real store, files as a node would leave them."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from client import zipped
from databases import sqlite_database
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from flask.testing import FlaskClient

from nias_bridge.cluster import ClusterView, NodeReport, PartitionReport
from nias_bridge.datasets import Dataset
from nias_bridge.domain import (
    JobState,
    Native,
    Run,
    SlurmReport,
    Unclaimed,
)
from nias_bridge.node import layout, soundness
from nias_bridge.paths import SharedPaths
from nias_bridge.people import Caller, KeyKind, NewPerson, Role, Scope, Standing
from nias_bridge.services import deliveries, held, intake, keys
from nias_bridge.services.bridge import Bridge
from nias_bridge.settings import Settings
from nias_bridge.slurm.getent import Getent
from nias_bridge.slurm.local import LocalRunner
from nias_bridge.storage import mounted
from nias_bridge.store import open_store

MIB = 1024**2
GIB = 1024**3


def make_bridge(folder: Path, **settings: Any) -> Bridge:
    """A bridge with a database and shared storage of its own, under `folder`."""
    url = sqlite_database(folder / "nias.db")
    made = Settings(
        **{
            "shared_root": folder / "shared",
            "database_url": url,
            "secret_key": "for tests only, and long enough for it",
            **settings,
        }
    )
    (folder / "shared" / layout.UPLOADS).mkdir(parents=True)
    (folder / "shared" / layout.DATASETS / layout.CONTENT).mkdir(parents=True)
    storage, root = mounted(folder / "shared")
    paths = SharedPaths(root, PurePosixPath("/shared"))
    accounts = Getent(LocalRunner())
    bridge = Bridge(
        settings=made, paths=paths, storage=storage, store=open_store(url), accounts=accounts
    )
    return as_person(bridge, "lab")


def here(bridge: Bridge) -> Any:
    """The bridge's paths as files of this machine, for what a node would write there."""
    return replace(bridge.paths, root=Path(bridge.paths.root))


def arrived(bridge: Bridge, content: bytes) -> PurePosixPath:
    """A body as it has been streamed to shared storage."""
    part = held.new_part(bridge)
    Path(part).write_bytes(content)
    return part


def as_person(bridge: Bridge, handle: str, role: Role = Role.RESEARCHER) -> Bridge:
    """The bridge asked by this person, who is made where missing, with all that she may."""
    people = bridge.store.people
    person = people.find(handle=handle)
    if person is None:
        new = NewPerson(
            handle=handle,
            email=f"{handle}@lab.org",
            name=handle.title(),
            role=role,
            standing=Standing.ACTIVE,
        )
        person = people.add(new, at=datetime.now(UTC))
    who = Caller(person=person, scope=Scope.ADMIN, via="a test", sees=people.sees(person.id))
    return replace(bridge, who=who)


def token(bridge: Bridge, scope: Scope = Scope.ADMIN) -> dict[str, str]:
    """The header of a request by a new token of the bridge's caller."""
    _, secret = keys.give(
        bridge, KeyKind.TOKEN, timedelta(days=1), person_id=bridge.person.id, scope=scope
    )
    return {"Authorization": f"Bearer {secret}"}


def cookie(app: Flask, bridge: Bridge, minutes_ago: float = 0) -> dict[str, str]:
    """The cookie of a browser in which the bridge's caller has signed in: its name and value."""
    secret = keys.open_session(bridge, bridge.person, agent="a test's browser", remember=False)
    proven = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    carried = {"key": secret, "proven": proven.timestamp()}
    signer = SecureCookieSessionInterface().get_signing_serializer(app)
    return {"name": app.config["SESSION_COOKIE_NAME"], "value": signer.dumps(carried)}


def program(app: Flask, bridge: Bridge) -> FlaskClient:
    """A program that sends a token of the bridge's caller with every request."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = token(bridge)["Authorization"]
    return client


def add(bridge: Bridge, project: str, *, again: bool = False, requirements: str = "") -> Run:
    """A run as it is just after the upload."""
    files = {"code.py": "print(1)\n", "requirements.txt": requirements, "output/.keep": ""}
    part = arrived(bridge, zipped(project, files))
    return intake.receive(bridge, part, f"{project}.zip", again=again)


def dataset(bridge: Bridge, name: str, files: Mapping[str, str | bytes]) -> Dataset:
    """A dataset of the bridge's caller, unpacked, with one more version of these files."""
    made = deliveries.put(bridge, arrived(bridge, zipped(name, files)), f"{name}.zip", name)
    deliveries.deliver(bridge)
    return bridge.store.datasets.get(made.id)


def move(bridge: Bridge, run: Run, *states: JobState, **report: Any) -> Run:
    """The run taken along these states, with Slurm's report in the last of them."""
    now = datetime.now(UTC)
    for place, state in enumerate(states, start=1):
        changes: dict[str, Any] = {}
        if state == JobState.SUBMITTING:
            changes = {"submissions": run.submissions + 1}
        elif run.job_id is None and state not in (JobState.STAGED, JobState.REJECTED):
            changes = {"job_id": 1000 + run.id, "submitted_at": now}
        job_id = changes.get("job_id", run.job_id)
        if place == len(states) and (report or job_id is not None):
            told = run.report or SlurmReport(
                job_id=job_id or 0, name=run.job_name, state=state, submitted_at=now
            )
            changes["report"] = replace(told, state=state, **report)
        run = bridge.store.move(run, state, at=now, **changes)
    return run


SUBMITTED = (JobState.STAGED, JobState.SUBMITTING, JobState.PENDING)
STARTED = (*SUBMITTED, JobState.RUNNING)


def tell(bridge: Bridge, run: Run, **progress: Any) -> None:
    """What the node writes in progress.json."""
    now = datetime.now(UTC).timestamp()
    files = here(bridge).run(run)
    files.progress.write_text(json.dumps({"since": now, "node": "slot1", **progress}))


def say(bridge: Bridge, run: Run, text: str) -> None:
    """Text at the end of the run's log."""
    with here(bridge).run(run).log.open("a", encoding="utf-8") as log:
        log.write(text)


def leave(bridge: Bridge, run: Run, outputs: Mapping[str, bytes], **exit_json: Any) -> None:
    """What the node leaves at the end: output/, its manifest and zip, exit.json."""
    files = here(bridge).run(run)
    packed = io.BytesIO()
    listed = []
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in outputs.items():
            target = files.output / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            archive.writestr(name, content)
            digest = hashlib.sha256(content).hexdigest()
            listed.append({"path": name, "size": len(content), "sha256": digest})
    files.manifest.write_text(json.dumps({"files": listed, "left_out": []}))
    files.results.write_bytes(packed.getvalue())
    files.exit.write_text(json.dumps({"exit_code": 0, "reason": "finished", **exit_json}))


def picture(width: int = 480, height: int = 200) -> bytes:
    """A PNG of a falling line."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b""
    for y in range(height):
        shade = [0 if abs(x * height // width - y) < 3 else 255 for x in range(width)]
        rows += b"\0" + bytes(shade)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def completed(bridge: Bridge, project: str = "power-spectrum", **how: Any) -> Run:
    """A run that went well, with a picture and a table."""
    run = add(bridge, project, requirements="numpy==2.3.0\nscipy==1.16.0\n", **how)
    now = datetime.now(UTC)
    run = move(
        bridge,
        run,
        *STARTED,
        JobState.COMPLETED,
        nodes="slot1",
        started_at=now,
        ended_at=now + timedelta(seconds=4),
        elapsed=4,
        time_limit=3600,
        cpu_time=3.2,
        cpus=1,
        max_rss=184 * MIB,
        memory_asked=8 * GIB,
        exit_code=0,
    )
    say(bridge, run, "[nias] environment reused in 0.01 s\n60000 samples\npeak at 50.0 Hz\n")
    outputs = {"spectrum.csv": b"hertz,power\n50,1\n", "spectrum.png": picture(), "a/b.json": b"{}"}
    tell(
        bridge,
        run,
        phase="finished",
        timings={"unpack": 0.02, "environment": 0.01, "code": 2.41, "collect": 0.05},
        environment={"key": "k", "built": False, "seconds": 0.01, "packages": 2},
    )
    leave(bridge, run, outputs)
    return run


def failed(bridge: Bridge, project: str = "emg-onset") -> Run:
    """A run whose code raised."""
    run = move(
        bridge,
        add(bridge, project),
        *STARTED,
        JobState.FAILED,
        nodes="slot2",
        started_at=datetime.now(UTC),
        elapsed=1,
        exit_code=1,
    )
    words = 'Traceback (most recent call last):\n  File "code.py", line 3, in <module>\n'
    say(bridge, run, f"[nias] code.py starts\nreading\n{words}KeyError: 'channel_7'\n")
    leave(
        bridge,
        run,
        {},
        exit_code=1,
        message="code.py ended with exit code 1.",
        timings={"environment": 0.2, "code": 0.6},
    )
    return run


def running(bridge: Bridge, project: str = "sleep-stages") -> Run:
    """A run whose code is at work."""
    now = datetime.now(UTC)
    run = move(
        bridge,
        add(bridge, project),
        *STARTED,
        nodes="slot1",
        started_at=now,
        cpus=2,
        memory_asked=8 * GIB,
        cpu_time=16.0,
        max_rss=2 * GIB,
        measured_at=now + timedelta(seconds=10),
    )
    timings = {"unpack": 0.02, "environment": 0.3}
    tell(bridge, run, phase="running", timings=timings, environment=None)
    say(bridge, run, "[nias] code.py starts\nepoch 1\n")
    return run


def pending(bridge: Bridge, project: str = "Análise EMG 2") -> Run:
    """A run that waits in Slurm's queue."""
    return move(
        bridge,
        add(bridge, project),
        *SUBMITTED,
        reason="Resources",
        place=2,
        expected_start=datetime.now(UTC) + timedelta(minutes=12, seconds=55),
    )


def unclaimed(
    bridge: Bridge,
    account: str,
    project: str,
    *,
    job_id: int,
    at: datetime,
    tasks: tuple[int, ...] = (),
) -> Unclaimed:
    """A job by plain sbatch of an account that nobody is linked to."""
    told = SlurmReport(
        job_id=job_id, name="nias", state=JobState.COMPLETED, user=account, submitted_at=at
    )
    native = Native(user=account, job_name="nias")
    job = Unclaimed(native=native, project=project, report=told, tasks=tasks)
    bridge.store.unclaimed.keep(job)
    return job


def swept(bridge: Bridge) -> Run:
    """A sweep of four tasks, three of which have ended with a picture and a number."""
    toml = '[sweep]\ngrid = { cutoff = [10, 20], window = ["hann", "boxcar"] }\n'
    part = arrived(bridge, zipped("filter-bank", {"code.py": "", "nias.toml": toml}))
    run = move(bridge, intake.receive(bridge, part, "filter-bank.zip"), *STARTED)
    for index, rms in enumerate((10.5, 2.0, 30.0)):
        end_task(bridge, run, index, rms=rms)
    return run


def swept_widely(bridge: Bridge, tasks: int) -> Run:
    """A sweep of so many tasks; all but the last ten have ended, with two numbers each."""
    toml = f"[sweep]\ngrid = {{ cutoff = {list(range(tasks))} }}\n"
    part = arrived(bridge, zipped("filter-bank", {"code.py": "", "nias.toml": toml}))
    run = move(bridge, intake.receive(bridge, part, "filter-bank.zip"), *STARTED)
    now = datetime.now(UTC)
    ended = [
        replace(
            task,
            state=JobState.COMPLETED,
            report=SlurmReport(
                job_id=run.job_id or 1,
                name=run.job_name,
                state=JobState.COMPLETED,
                nodes="slot1",
                started_at=now,
                ended_at=now + timedelta(seconds=3),
                elapsed=3,
                max_rss=100 * MIB,
                exit_code=0,
                array_tasks=(task.index,),
            ),
            metrics={"rms": task.index * 37 % tasks / 4, "snr": task.index / 7},
        )
        for task in bridge.store.tasks(run.id)[:-10]
    ]
    bridge.store.save_tasks(ended)
    return run


def end_task(bridge: Bridge, run: Run, index: int, **metrics: float) -> None:
    """A task of a sweep has ended well, and left a picture."""
    now = datetime.now(UTC)
    report = SlurmReport(
        job_id=run.job_id or 1,
        name=run.job_name,
        state=JobState.COMPLETED,
        started_at=now,
        ended_at=now + timedelta(seconds=3),
        elapsed=3,
        exit_code=0,
        array_tasks=(index,),
    )
    task = replace(
        bridge.store.task(run.id, index),
        state=JobState.COMPLETED,
        report=report,
        metrics=metrics,
    )
    bridge.store.save_tasks([task])
    files = here(bridge).run(run).task(index)
    files.output.mkdir(parents=True)
    (files.output / "response.png").write_bytes(picture())
    listed = [{"path": "response.png", "size": 1000, "sha256": None}]
    files.manifest.write_text(json.dumps({"files": listed, "left_out": []}))
    files.log.write_text("filtering\n")


def environment(bridge: Bridge, key: str, *requirements: str, owner: str = "") -> Path:
    """An environment as a node publishes it, but for its packages."""
    place = here(bridge).environments
    folder = place / layout.PRIVATE / owner / key if owner else place / key
    folder.mkdir(parents=True)
    told = {"requirements": requirements, "python": "3.11.2", "bytes": 300_000_000}
    built_at = datetime.now(UTC).timestamp()
    (folder / soundness.RECORD).write_text(json.dumps({**told, "built_at": built_at}))
    return folder


def show_cluster(bridge: Bridge, **view: Any) -> None:
    """Two nodes, one of them busy."""
    nodes = tuple(
        NodeReport(
            name=f"slot{n}",
            state="MIXED" if n == 1 else "IDLE",
            cpus=2,
            cpus_used=1 if n == 1 else 0,
            memory=8 * GIB,
            memory_used=2 * GIB if n == 1 else 0,
        )
        for n in (1, 2)
    )
    told = {"at": datetime.now(UTC), "nodes": nodes, "running": 1, "pending": 1, **view}
    bridge.store.save_cluster(ClusterView(**told))


def show_partitions(bridge: Bridge) -> None:
    """One node in two partitions: main, and short, which allows ten minutes."""
    node = NodeReport(
        name="n1", state="IDLE", cpus=4, cpus_used=0, memory=8 * GIB, memory_used=0,
        gpus=0, partitions=("main", "short"),
    )  # fmt: skip
    partitions = (
        PartitionReport(name="main", state="UP", default=True),
        PartitionReport(name="short", state="UP", max_time=600),
    )
    show_cluster(bridge, nodes=(node,), partitions=partitions)
