"""pyslurm and the commands say the same of a cluster, and make the same job of a script."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import processes
import pytest
from ways import Ending, Way, real_one, until

from nias_bridge.domain import JobState, SlurmReport
from nias_bridge.errors import SubmissionUnclear, Unreachable
from nias_bridge.localcluster import LocalCluster
from nias_bridge.slurm import native
from nias_bridge.slurm.answers import Output
from nias_bridge.slurm.local import LocalRunner
from nias_bridge.slurm.native import PyslurmScheduler, beside, description

DIRECTIVES = (
    "--chdir=/tmp",
    "--output=/tmp/slurm-%j.out",
    "--nodes=1",
    "--ntasks=1",
    "--time=02:30:00",
    "--exclusive",
    "--cpus-per-task=1",
    "--mem=200M",
    "--partition=main",
    "--no-requeue",
    "--signal=B:USR1@30",
)
# What differs between two jobs of one script, whoever submits them.
OWN = re.compile(
    r"\b(JobId|ArrayJobId|JobName|Priority|JobState|Reason|\w+Time|LastSchedEval|NodeList|BatchHost"
    r"|AllocNode:Sid|Nodes|StdErr|StdOut|StdIn|RunTime|Scheduler|Command|WorkDir|Restarts)=(\S*)"
)


@pytest.fixture
def here(pyslurm: PyslurmScheduler, folder: Path) -> Iterator[Way]:
    place = folder / "beside"
    place.mkdir(exist_ok=True)
    yield real_one(place, pyslurm)


def test_pyslurm_fits_the_cluster_and_is_chosen(pyslurm: PyslurmScheduler) -> None:
    assert pyslurm.unfit() == ""


def test_where_slurm_is_of_another_release_pyslurm_is_not_taken(
    cluster: LocalCluster, pyslurm: PyslurmScheduler
) -> None:
    class Other(LocalRunner):
        def __call__(self, argv: object) -> Output:
            return Output(0, "SLURM_VERSION           = 17.11.2\n", "")

    other = beside(Other(conf=cluster.slurm_conf, timeout=15))
    assert "made for another Slurm than this cluster's 17.11.2" in other.unfit()
    other.worker.close()


def test_the_queue_and_the_nodes_are_told_alike(
    here: Way, pyslurm: PyslurmScheduler, cluster: LocalCluster
) -> None:
    crowd = [here.submit(f"nias-alike-{number}", Ending.NEVER) for number in range(4)]
    script = here.script("nias-alike-array", Ending.NEVER, "--array=0-5%2", "--time=UNLIMITED")
    array = pyslurm.submit(script, name="nias-alike-array", log=script.parent / "%a.out")
    try:

        def told(queue: list[SlurmReport]) -> list[SlurmReport]:
            # It counts on between two questions.
            return [r for r in queue if r.job_id in (*crowd, array)]

        def same() -> bool | None:
            by_pyslurm, by_command = told(pyslurm.queue()), told(pyslurm.by_command.queue())
            states = {report.state for report in by_command}
            settled = {JobState.RUNNING, JobState.PENDING} == states
            return (settled and by_pyslurm == by_command) or None

        until(same)
        assert pyslurm.nodes() == pyslurm.by_command.nodes()
    finally:
        for number, job_id in enumerate(crowd):
            pyslurm.cancel(job_id, name=f"nias-alike-{number}")
        pyslurm.cancel(array, name="nias-alike-array")


@pytest.mark.parametrize("extra", [(), ("--array=0-2%2", "--account=root"), ("--requeue",)])
def test_a_script_becomes_the_same_job_by_pyslurm_and_by_sbatch(
    here: Way, pyslurm: PyslurmScheduler, cluster: LocalCluster, extra: tuple[str, ...]
) -> None:
    run = LocalRunner(conf=cluster.slurm_conf, timeout=15)
    script = here.script("nias-twice", Ending.WELL, *DIRECTIVES, *extra)
    assert description(Path(script).read_text()) is not None
    shown, environments = [], []
    for way in (pyslurm, pyslurm.by_command):
        log = script.parent / f"{type(way).__name__}.out"
        job_id = way.submit(script, name="nias-twice", log=log)
        shown.append(OWN.sub(r"\1", run(["scontrol", "show", "job", str(job_id)]).stdout))
        here.record(job_id)
        until(lambda log=log: "done\n" in Path(log).read_text() or None)
        lines = Path(log).read_text().splitlines()
        environments.append({line.partition("=")[0] for line in lines})
    assert shown[0] == shown[1]
    assert environments[0] == environments[1]


def test_the_signal_before_the_time_limit_reaches_the_batch_shell(
    here: Way, pyslurm: PyslurmScheduler
) -> None:
    script = here.script("nias-signal", Ending.WELL, "--signal=B:USR1@50", "--time=1")
    body = "trap 'echo warned; exit 0' USR1\nsleep 600 &\nwait\n"
    Path(script).write_text(Path(script).read_text().replace(Ending.WELL, body))
    log = Path(script.parent / "out")
    job_id = pyslurm.submit(script, name="nias-signal", log=PurePosixPath(log))
    try:
        until(lambda: (log.exists() and "warned" in log.read_text()) or None, seconds=50)
    finally:
        pyslurm.cancel(job_id, name="nias-signal")


def test_a_frozen_slurmctld_leaves_a_submission_unclear_and_the_queue_unreachable(
    here: Way, cluster: LocalCluster
) -> None:
    impatient = beside(LocalRunner(conf=cluster.slurm_conf, timeout=1))
    impatient.queue()
    script = here.script("nias-frozen", Ending.WELL)
    pid = int((cluster.state / "pid/slurmctld.pid").read_text())
    processes.send(signal.SIGSTOP, [pid])
    begin = time.monotonic()
    try:
        with pytest.raises(SubmissionUnclear, match="no end within 1 s"):
            impatient.submit(script, name="nias-frozen", log=PurePosixPath("/dev/null"))
        with pytest.raises(Unreachable):
            impatient.queue()
    finally:
        os.kill(pid, signal.SIGCONT)
        impatient.worker.close()
    assert time.monotonic() - begin < 5


def test_slurm_that_is_not_there_is_unreachable(
    tmp_path: Path, cluster: LocalCluster, here: Way
) -> None:
    port = f"SlurmctldPort={cluster.slurmctld_port}"
    dead = tmp_path / "slurm.conf"
    dead.write_text(cluster.slurm_conf.read_text().replace(port, "SlurmctldPort=1"))
    gone = beside(LocalRunner(conf=dead, timeout=1))
    for ask in (gone.queue, gone.nodes):
        with pytest.raises(Unreachable):
            ask()
    script = here.script("nias-nobody", Ending.WELL)
    with pytest.raises((Unreachable, SubmissionUnclear)):
        gone.submit(script, name="nias-nobody", log=PurePosixPath("/dev/null"))
    gone.worker.close()


def test_where_pyslurm_ends_its_process_the_queue_is_asked_of_the_command(
    tmp_path: Path, cluster: LocalCluster, here: Way, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = here.submit("nias-by-the-command", Ending.WELL)
    lame = beside(LocalRunner(conf=cluster.slurm_conf, timeout=15))
    # Where it can't read its slurm.conf libslurm ends the process, at import already.
    broken = tmp_path / "broken.conf"
    broken.write_text("NoSuchOption=1\n")
    lame.worker.environment = {**lame.worker.environment, "SLURM_CONF": str(broken)}
    assert job_id in {report.job_id for report in lame.queue()}
    assert "pyslurm gave no answer (its process ended with status 1)" in caplog.text
    assert "pyslurm does not work here: its process ended" in lame.unfit()
    lame.worker.close()


def test_an_account_that_is_not_known_here_is_told_by_its_number() -> None:
    class Job:
        user_id = 4711

        @property
        def user_name(self) -> str:
            raise KeyError("getpwuid(): uid not found: 4711")

    assert native._user(Job()) == "4711"
