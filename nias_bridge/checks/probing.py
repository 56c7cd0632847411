"""A small job goes the way that runs go, and tells of its node."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from nias_bridge.checks.folder import ProbeFolder, probe_folder
from nias_bridge.checks.points import Facts, Finding, fault, unknown, warning, well
from nias_bridge.checks.subject import Subject
from nias_bridge.errors import NiasError, Rejected, SubmissionUnclear, TryLater, Unreachable
from nias_bridge.script import render_probe
from nias_bridge.slurm.configuration import JobView, job_argv, parse_job

LOOK_SECONDS = 0.3
SEEN_SECONDS = 20.0  # that the gateway may take to see what a node wrote
SEEN_LATE = 5.0
NO_SHARED = (
    "mount what is {root} here there too, by the same account (its number), and set "
    "shared_root_on_cluster where the path differs"
)

REFUSED = (
    "see `partition`, `account` and `qos` in the settings, and whether Slurm's accounting knows "
    "the bridge's account (`sacctmgr show assoc`)"
)

# What the script's exit codes say (sbatch_templates/probe.sbatch.j2): what was seen, and the mend.
EXITS = {
    64: ("{node} has no folder {folder}, or may not enter it", NO_SHARED),
    65: ("{node} has another folder at {folder} than the gateway has", NO_SHARED),
    66: (
        "{node} can't write to {folder}",
        "mount the shared storage for writing on the nodes, and give the bridge's account the same "
        "number there as here",
    ),
    67: (
        "{node} has no Python of 3.9 or newer, neither “{python}” nor python3",
        "install one on the nodes, or set `python` to its path",
    ),
}
# Why a job may wait (squeue's Reason, how it begins), and what then helps.
REASONS = (
    ("Resources", "all that could run it is busy: ask again later, or with a longer --wait"),
    ("Priority", "others go first: ask again later, or with a longer --wait"),
    ("Partition", "the partition takes no such job: `scontrol show partition` says why"),
    ("ReqNodeNotAvail", "nodes are down or kept for others: `sinfo -R` says why"),
    ("Nodes_required", "nodes are down or kept for others: `sinfo -R` says why"),
    ("Assoc", "a limit of the account holds it: `sacctmgr show assoc` has the limits"),
    ("QOS", "a limit of the quality of service holds it: `sacctmgr show qos` has the limits"),
    ("Invalid", "the account or quality of service is not known: see `account` and `qos`"),
    ("", "Slurm has not looked at it in that time: see the points of Slurm above"),
)


@dataclass(frozen=True)
class Probed:
    """What became of one probe job: the finding of the job itself, and what its node told.

    asked_at, told_at: this clock, when it last did not run yet and when its report was there.
    """

    partition: str
    finding: Finding
    facts: Facts | None = None
    asked_at: float = 0.0
    told_at: float = 0.0


def probe(subject: Subject, partition: str) -> Probed:
    """Submit one job and wait for it. Never raises NiasError or OSError: the finding tells."""
    try:
        with probe_folder(subject) as folder:
            return _probe(subject, partition, folder)
    except Rejected as error:
        return Probed(partition, fault(f"Slurm refuses the job: {error}", REFUSED))
    except TryLater as error:
        return Probed(
            partition, fault(f"Slurm does not take the job now: {error}", _mend(subject, error))
        )
    except (Unreachable, SubmissionUnclear) as error:
        return Probed(partition, unknown(f"Slurm gives no answer: {error}"))
    except NiasError as error:
        return Probed(partition, unknown(str(error)))
    except OSError as error:
        why = error.strerror or str(error)
        seen = f"nothing can be left for the job on {subject.paths.root}: {why}"
        return Probed(partition, unknown(seen))


def _probe(subject: Subject, partition: str, folder: ProbeFolder) -> Probed:
    settings = subject.settings
    asked = {
        "token": folder.token,
        "pythons": sorted({settings.python, *settings.pythons.values()}),
        "sandbox": settings.sandbox == "required",
        "locked": subject.mounted,
        "build_variables": dict(settings.build_variables),
    }
    text = render_probe(folder.on_cluster, folder.token, partition, subject.paths, settings)
    script = folder.put(text, asked)
    name = f"nias-doctor-{folder.token}"
    # The log is nobody's: Slurm starts no job whose log it can't open, and that is to be told.
    job_id = subject.scheduler.submit(script, name=name, log=PurePosixPath("/dev/null"))
    probed: Probed | None = None
    try:
        probed = _watched(subject, partition, folder, job_id)
        return probed
    finally:
        if probed is None or probed.facts is None:
            with suppress(NiasError):
                subject.scheduler.cancel(job_id, name=name)


def _watched(subject: Subject, partition: str, folder: ProbeFolder, job_id: int) -> Probed:
    began = asked_at = time.time()
    ended_at: float | None = None
    while True:
        looked_at = time.time()
        told = folder.report()
        job = parse_job(subject.run(job_argv(job_id)))
        now = time.time()
        if told:
            late = now - ended_at if ended_at else 0.0
            return Probed(
                partition, _came(job, job_id, asked_at - began, late), told, asked_at, now
            )
        if job.waits:
            asked_at = looked_at
        if job.ended:
            ended_at = ended_at or now
            if job.exit_code or job.state != "COMPLETED" or now > ended_at + SEEN_SECONDS:
                return Probed(partition, _silent(subject, job, folder))
        elif now > began + subject.wanted.wait:
            return Probed(partition, _late(job, job_id, subject.wanted.wait))
        time.sleep(LOOK_SECONDS)


def _came(job: JobView, job_id: int, waited: float, late: float) -> Finding:
    seen = f"job {job_id} ran on {job.node} after {waited:.0f} s"
    if late < SEEN_LATE:
        return well(seen)
    return warning(
        f"{seen}; what it wrote was seen here {late:.0f} s later",
        "mount the storage here with lookupcache=positive and short times (docs/production.md)",
    )


def _silent(subject: Subject, job: JobView, folder: ProbeFolder) -> Finding:
    known = {
        "node": job.node or "the node",
        "folder": folder.on_cluster,
        "root": subject.paths.root,
        "python": subject.settings.python,
    }
    if told := EXITS.get(job.exit_code or 0):
        seen, mend = told
        return fault(seen.format(**known), mend.format(**known))
    if job.state == "COMPLETED":
        seen = f"what {job.node} wrote is not seen here in {SEEN_SECONDS:.0f} s"
        return fault(seen, NO_SHARED.format(**known))
    last = folder.said()
    seen = (
        f"the job ended {job.state} on {job.node or 'no node'} ({last or job.reason or 'no word'})"
    )
    return fault(seen, f"look into slurmd's log on {job.node or 'the node'} and slurmctld's")


def _late(job: JobView, job_id: int, seconds: float) -> Finding:
    if not job.waits:
        seen = f"job {job_id} runs on {job.node} and has told nothing in {seconds:.0f} s"
        return unknown(seen, "ask again with a longer --wait; does the node's storage hang?")
    reason = job.reason or "None"
    mend = next(mend for begins, mend in REASONS if reason.startswith(begins))
    return unknown(f"job {job_id} did not start in {seconds:.0f} s: {job.state}, {reason}", mend)


def _mend(subject: Subject, error: TryLater) -> str:
    if "unable to open file" in str(error).casefold():
        return NO_SHARED.format(root=subject.paths.root)
    return "ask again later; `scontrol show partition` and `sinfo` say more"
