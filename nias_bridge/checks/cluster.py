"""Points of Slurm: whether it answers, and what of its settings is in the bridge's way."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from importlib.metadata import version as version_of

from nias_bridge.amounts import time_limit_seconds
from nias_bridge.checks.clocks import graded_clock
from nias_bridge.checks.folder import probe_folder
from nias_bridge.checks.points import Finding, Point, fault, skipped, unknown, warning, well
from nias_bridge.checks.subject import Subject
from nias_bridge.domain import Resources
from nias_bridge.errors import Rejected, SettingsError, Unreachable
from nias_bridge.script import render_wish, slot_options
from nias_bridge.slurm import commands, values
from nias_bridge.slurm.configuration import AS_OF, config_argv, parse_config
from nias_bridge.slurm.native import PyslurmScheduler

OLDEST, NEWEST = (22, 5), (26, 5)  # that this was tried with
RECONFIGURE = "in slurm.conf, then `scontrol reconfigure`"
USABLE = ("IDLE", "MIXED", "ALLOCATED", "COMPLETING")
HURT = ("DRAIN", "DOWN", "FAIL", "NOT_RESPONDING", "MAINT")
KILL_WAIT_MIN = 10
NO_JOB = "nias-no-such-job"


def answers(subject: Subject) -> Finding:
    """slurmctld, by the commands."""
    try:
        config = subject.config
    except Unreachable as error:
        return fault(str(error), _reach_it(subject, str(error)))
    return well(f"slurmctld of “{config.get('ClusterName', '')}” answers")


def _reach_it(subject: Subject, said: str) -> str:
    """What to do where slurmctld does not answer; what the error says itself is enough for some."""
    settings = subject.settings
    if settings.ssh_host and "scontrol" not in said:
        return "docs/outside-the-cluster.md has a table of what such words mean"
    if "slurm_conf" in said or "slurm_bin" in said:
        return "set them to where Slurm is installed; without them Slurm's own defaults hold"
    conf = settings.slurm_conf or "Slurm's default slurm.conf"
    return (
        f"`systemctl status slurmctld` on its machine; is {conf} that cluster's, and does munge "
        "run here?"
    )


def versions(subject: Subject) -> Finding:
    """Slurm's, of its daemon and of the commands; and the bridge's."""
    theirs = subject.config.get("SLURM_VERSION", "")
    said = subject.run(["sinfo", "--version"]).stdout.split()
    here = said[-1] if said else ""
    seen = f"Slurm {theirs}, bridge {version_of('nias-bridge')}"
    if values.release(here) > values.release(theirs):
        return fault(
            f"slurmctld is {theirs}, the commands are {here}",
            "install commands of the same release, or an older one of the last two",
        )
    if not OLDEST <= values.release(theirs) <= NEWEST:
        return warning(f"{seen}: tried are 22.05 to 26.05", "tell us how it goes")
    return well(seen + (f", commands {here}" if here != theirs else ""))


def way(subject: Subject) -> Finding:
    """By what runs are submitted, and why."""
    settings = subject.settings
    if settings.ssh_host:
        return well(f"by its commands on {settings.ssh_host}")
    try:
        scheduler = subject.scheduler
    except SettingsError as error:
        return fault(str(error), "install the pyslurm of the cluster's release (README)")
    if isinstance(scheduler, PyslurmScheduler):
        return well(f"by pyslurm {version_of('pyslurm')}, else by its commands here")
    return well("by its commands here")


def accounting(subject: Subject) -> Finding:
    """How runs ended is read there."""
    kept_in = subject.config.get("AccountingStorageType", "")
    if kept_in != "accounting_storage/slurmdbd":
        return fault(
            f"AccountingStorageType is {kept_in or 'not set'}: how a job ended is written nowhere",
            "set up slurmdbd, and AccountingStorageType=accounting_storage/slurmdbd in slurm.conf",
        )
    began = time.monotonic()
    (argv,) = commands.accounting_argvs(since=datetime.now(UTC), names=[NO_JOB])
    try:
        commands.parse_accounting(subject.run(argv))
    except Unreachable as error:
        return fault(
            f"slurmdbd does not answer: {error}",
            "`systemctl status slurmdbd` and its database on their machine",
        )
    seconds = time.monotonic() - began
    if seconds > 2:
        return warning(
            f"sacct takes {seconds:.1f} s", "see slurmdbd's database: its buffer, its indexes"
        )
    return well(f"slurmdbd answers in {seconds:.1f} s")


def comments(subject: Subject) -> Finding:
    """Whose run a job is, for who looks into the accounting."""
    flags = subject.config.get("AccountingStoreFlags", "").split(",")
    if "job_comment" in flags:
        return well("AccountingStoreFlags has job_comment")
    return warning(
        "AccountingStoreFlags lacks job_comment: sacct does not tell whose run a job is",
        f"AccountingStoreFlags=job_comment {RECONFIGURE}",
    )


def start_delay(subject: Subject) -> Finding:
    """How long a small job waits where nothing is in its way."""
    told = _parameters(subject)
    delay = told.get("batch_sched_delay", "3")
    if delay == "0":
        return well("batch_sched_delay is 0")
    return warning(
        f"batch_sched_delay is {delay} s{'' if 'batch_sched_delay' in told else ', the default'}: "
        "an idle cluster starts a job that much later",
        f"SchedulerParameters=batch_sched_delay=0 {RECONFIGURE}",
    )


def kept_jobs(subject: Subject) -> Finding:
    """For how long slurmctld remembers an ended job."""
    seconds = _number(subject, "MinJobAge")
    if seconds is None or seconds == 0 or seconds >= 300:
        return well(f"MinJobAge is {seconds} s")
    poll = subject.settings.poll_interval
    grade = fault if seconds < 10 * poll else warning
    return grade(
        f"MinJobAge is {seconds} s: later, how a job ended is known by slurmdbd alone",
        f"MinJobAge=300 {RECONFIGURE}",
    )


def kill_wait(subject: Subject) -> Finding:
    """How long a job that is stopped has to collect its results."""
    seconds = _number(subject, "KillWait")
    if seconds is None or seconds >= KILL_WAIT_MIN:
        return well(f"KillWait is {seconds} s")
    return warning(
        f"KillWait is {seconds} s: what a cancelled run had written may not be collected",
        f"KillWait=30 {RECONFIGURE}",
    )


def figures(subject: Subject) -> Finding:
    """Memory and CPU time of runs."""
    gather = subject.config.get("JobAcctGatherType", "")
    if gather in ("", "jobacct_gather/none"):
        return warning(
            "JobAcctGatherType is none: no run has figures of its memory",
            f"JobAcctGatherType=jobacct_gather/cgroup (…/linux with cgroups 1) {RECONFIGURE}",
        )
    return well(f"JobAcctGatherType is {gather}")


def sweeps(subject: Subject) -> Finding:
    """How many tasks an array may have."""
    most, wanted = _number(subject, "MaxArraySize"), subject.settings.tasks_max
    if most is not None and most <= wanted:
        return fault(
            f"MaxArraySize is {most}, and tasks_max {wanted}: larger sweeps are rejected",
            f"tasks_max = {max(most - 1, 1)}, or MaxArraySize={wanted + 1} {RECONFIGURE}",
        )
    return well(f"MaxArraySize is {most}")


def partitions(subject: Subject) -> Finding:
    """Those that the settings name are there, take jobs, and let them run for `time`."""
    settings = subject.settings
    there = {partition.name: partition for partition in subject.scheduler.partitions()}
    named = {name for name in (settings.partition, *settings.partitions) if name}
    if absent := sorted(named - there.keys()):
        return fault(
            f"there is no partition {', '.join(absent)}, or it is hidden from this account",
            f"see `partition` and `partitions`; there are {', '.join(there) or 'none'}",
        )
    usual = settings.partition or next((p.name for p in there.values() if p.default), "")
    if not usual:
        return fault("no partition is the default", "set `partition`, or Default=YES in slurm.conf")
    if there[usual].state != "UP":
        return fault(
            f"the partition {usual} is {there[usual].state}",
            f"scontrol update PartitionName={usual} State=UP",
        )
    most, asked = there[usual].max_time, time_limit_seconds(settings.time)
    if most is not None and most < asked:
        return fault(
            f"the partition {usual} lets a job run for {most} s, and `time` asks for {asked} s",
            "set `time` to less, or MaxTime to more",
        )
    return well(f"runs go to {usual}, of {', '.join(there)}")


def slot(subject: Subject) -> Finding:
    """Slurm would take a run that asks for nothing of its own."""
    script = render_wish(Resources(), subject.settings)
    asked = " ".join(slot_options(Resources(), subject.settings))
    try:
        with probe_folder(subject) as folder:
            starts_at = subject.scheduler.estimate(folder.write(script))
    except Rejected as error:
        return fault(
            f"Slurm refuses a run as the settings have it ({asked}): {error}",
            "see partition, account, qos, slot_cpus, slot_memory and time",
        )
    if starts_at is None:
        return unknown("Slurm does not say when a run would start")
    minutes = max(0.0, starts_at.timestamp() - time.time()) / 60
    return well(f"a run would start {f'in {minutes:.0f} min' if minutes >= 1 else 'at once'}")


def nodes(subject: Subject) -> Finding:
    """How many can work."""
    there = subject.scheduler.nodes()
    hurt = [node for node in there if any(word in node.state for word in HURT)]
    words = "; ".join(
        f"{node.name} is {node.state} ({node.reason or 'no reason'})" for node in hurt[:5]
    )
    mend = "`sinfo -R` says why; then scontrol update NodeName=… State=RESUME"
    if len(hurt) == len(there):
        return fault(words or "there are no nodes", mend)
    return warning(words, mend) if hurt else well(f"{len(there)} can work")


def clock(subject: Subject) -> Finding:
    """slurmctld's against the gateway's."""
    if AS_OF not in subject.config:
        return unknown("slurmctld does not tell its time")
    before = time.time()  # that answer is of a while ago
    told = values.moment(parse_config(subject.run(config_argv())).get(AS_OF, ""))
    if told is None:
        return unknown("slurmctld does not tell its time")
    return graded_clock("slurmctld", told.timestamp(), before, time.time())


def hidden_jobs(subject: Subject) -> Finding:
    """Whether the bridge sees the jobs of others, where these are runs."""
    private = subject.config.get("PrivateData", "")
    if subject.settings.identity != "unix" or not re.search(r"\b(jobs|all)\b", private):
        return skipped("no runs are hidden from the bridge")
    return warning(
        f"PrivateData is {private}: the bridge sees other accounts' jobs as an operator alone",
        "sacctmgr modify user nias set adminlevel=Operator",
    )


def _parameters(subject: Subject) -> dict[str, str]:
    told = subject.config.get("SchedulerParameters", "")
    return {key: value for key, _, value in (part.partition("=") for part in told.split(","))}


def _number(subject: Subject, name: str) -> int | None:
    return values.count(subject.config.get(name, "").partition(" ")[0])


POINTS = (
    Point("slurmctld", answers),
    Point("versions", versions),
    Point("submission", way),
    Point("accounting", accounting),
    Point("comments", comments),
    Point("start of jobs", start_delay),
    Point("ended jobs", kept_jobs),
    Point("stopped jobs", kill_wait),
    Point("figures", figures),
    Point("sweeps", sweeps),
    Point("partitions", partitions),
    Point("a run's slot", slot),
    Point("nodes", nodes),
    Point("others' jobs", hidden_jobs),
    Point("clock", clock),
)
