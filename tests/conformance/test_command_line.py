"""What only a real Slurm has a say in: places, logs, and its daemons being away."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path, PurePosixPath

import pytest
from ways import Ending, Way, until

from nias_bridge.domain import JobState
from nias_bridge.errors import SubmissionUnclear, Unreachable
from nias_bridge.localcluster import LocalCluster
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.slurm.local import LocalRunner


def test_waiting_jobs_know_their_place_and_why_they_wait(real: Way) -> None:
    ids = [real.submit(f"nias-crowd-{number}", Ending.NEVER) for number in range(4)]
    try:

        def places() -> list[int] | None:
            queue = {r.job_id: r for r in real.scheduler.queue()}
            waiting = [queue[i] for i in ids if queue[i].state is JobState.PENDING]
            if len(waiting) != 2 or not all(report.reason for report in waiting):
                return None
            return [report.place or 0 for report in waiting]

        assert until(places) == [1, 2]
    finally:
        for number, job_id in enumerate(ids):
            real.scheduler.cancel(job_id, name=f"nias-crowd-{number}")


def test_the_log_has_what_the_job_said_but_nothing_of_the_gateways_environment(
    real: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIAS_BRIDGE_SECRET_KEY", "not for jobs")
    job_id = real.submit("nias-says", Ending.WELL)
    real.queued_as(job_id, JobState.COMPLETED)
    said = (real.where("nias-says") / "slurm.out").read_text()
    assert f"SLURM_JOB_ID={job_id}" in said
    assert said.endswith("done\n")
    assert "not for jobs" not in said


def test_slurm_that_is_not_there_is_unreachable_within_the_deadline(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    dead = tmp_path / "slurm.conf"
    port = f"SlurmctldPort={cluster.slurmctld_port}"
    text = cluster.slurm_conf.read_text()
    assert port in text
    dead.write_text(text.replace(port, "SlurmctldPort=1"))
    scheduler = CliScheduler(LocalRunner(conf=dead, timeout=0.5))
    begin = time.monotonic()
    with pytest.raises(Unreachable):
        scheduler.queue()
    with pytest.raises(Unreachable):
        scheduler.nodes()
    with pytest.raises(Unreachable):
        scheduler.partitions()
    with pytest.raises(Unreachable):
        scheduler.cancel(1, name="nias-x")
    script = tmp_path / "job.sbatch"
    script.write_text("#!/bin/sh\n")
    # Cut off before it could say that it had not been heard.
    with pytest.raises(SubmissionUnclear):
        scheduler.submit(PurePosixPath(script), name="nias-x", log=PurePosixPath("/dev/null"))
    assert time.monotonic() - begin < 20, "five commands, each of which would try for 10 s and more"


def test_a_partition_that_is_made_meanwhile_is_told_with_its_limits(
    cluster: LocalCluster, real: Way
) -> None:
    def scontrol(*words: str) -> None:
        conf = {"PATH": os.environ["PATH"], "SLURM_CONF": str(cluster.slurm_conf)}
        subprocess.run(["scontrol", *words], env=conf, check=True)

    scontrol("create", "PartitionName=long", "Nodes=ALL", "MaxTime=2-00:00:00", "DefaultTime=30")
    try:
        made = next(each for each in real.scheduler.partitions() if each.name == "long")
        assert (made.state, made.default) == ("UP", False)
        assert (made.max_time, made.default_time) == (2 * 86400, 1800)
        assert all(node.partitions == ("main", "long") for node in real.scheduler.nodes())
    finally:
        scontrol("delete", "PartitionName=long")


def test_accounting_that_is_not_there_is_unreachable_and_not_empty(
    cluster: LocalCluster, tmp_path: Path, real: Way
) -> None:
    dead = tmp_path / "slurm.conf"
    port = f"AccountingStoragePort={cluster.slurmdbd_port}"
    text = cluster.slurm_conf.read_text()
    assert port in text
    dead.write_text(text.replace(port, "AccountingStoragePort=1"))
    scheduler = CliScheduler(LocalRunner(conf=dead, timeout=5))
    with pytest.raises(Unreachable, match="Problem talking to the database"):
        scheduler.accounting(since=real.since, job_ids=[1])
