"""Records what Slurm's commands print, for the tests of the parsers: run once per Slurm version.

    SLURM_CONF=…/slurm.conf python tests/conformance/record.py

It needs a cluster of the one-machine kind that may be played with, and its account; Python alone
is enough, so that both run in a chroot of the Debian release that has the Slurm. The jobs it
submits are of every kind that prints differently; it writes recorded/slurm-VERSION/NAME.txt.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from nias_bridge.domain import SlurmReport
from nias_bridge.slurm import cluster, commands, configuration
from nias_bridge.slurm.answers import Output
from nias_bridge.slurm.local import LocalRunner

HERE = Path(__file__).resolve().parent
SPIN = """python3 -c 'import time
block, end = bytearray(50 << 20), time.time() + 4
while time.time() < end: pass'"""
MINUTE = 60.0
# The lines of scontrol show config that anything reads: the others tell of the machine.
SETTINGS = (
    *("Configuration data as of", "AccountingStorageType", "AccountingStoreFlags", "ClusterName"),
    *("JobAcctGather", "KillWait", "MaxArraySize", "MinJobAge", "PrivateData"),
    *("SchedulerParameters", "SelectTypeParameters", "SLURM_VERSION"),
)


def main() -> None:
    run = LocalRunner(conf=Path(os.environ["SLURM_CONF"]))
    since = datetime.now(UTC) - timedelta(seconds=1)
    folder = Path(tempfile.mkdtemp(prefix="a|b é-", dir="/tmp"))
    version = run(["sinfo", "--version"]).stdout.split()[-1]
    target = HERE / "recorded" / f"slurm-{'.'.join(version.split('.')[:2])}"
    target.mkdir(parents=True, exist_ok=True)

    def submit(name: str, body: str, *directives: str) -> int:
        script = folder / "job.sbatch"
        lines = ["#!/bin/sh", *(f"#SBATCH {directive}" for directive in directives), body]
        script.write_text("\n".join(lines) + "\n")
        argv = commands.submit_argv(
            PurePosixPath(script), name=name, log=PurePosixPath("/dev/null")
        )
        return commands.parse_submit(run(argv))

    def save(name: str, output: Output) -> None:
        text = output.stdout or output.stderr
        (target / f"{name}.txt").write_text(text.replace(str(folder), "/shared/a|b é"))

    ids = {
        "completed": submit("nias-completed", SPIN),
        "failed": submit("nias-failed", "exit 3"),
        "swept": submit("nias-swept", "exit $SLURM_ARRAY_TASK_ID", "--array=0-2%2"),
    }
    wait(lambda: states(run, ids) == {"COMPLETED", "FAILED"})
    ids["running"] = submit("a|name\twith é", "sleep 600", "--time=00:05:00", "--requeue")
    ids["unlimited"] = submit("nias-unlimited", "sleep 600", "--time=UNLIMITED")
    wait(lambda: states(run, {i: ids[i] for i in ("running", "unlimited")}) == {"RUNNING"})
    subprocess.run(["scontrol", "requeue", str(ids["running"])], check=True)
    # Its first attempt's credential must expire before the next one starts.
    wait(lambda: accounting(run, since, ids).count(f"\x1f{ids['running']}.batch\x1f") == 2)
    ids["next"] = submit("nias-next", "sleep 600", "--time=00:30:00")
    ids["held"] = submit("nias-held", "sleep 600", "--hold")
    ids["array"] = submit("nias-array", "sleep 600", "--array=1-3")
    ids["cancelled"] = submit("nias-cancelled", "sleep 600")
    run(commands.cancel_argv(ids["cancelled"], name="nias-cancelled"))
    node = f"NodeName={cluster.parse_nodes(run(cluster.nodes_argv()))[-1].name}"
    subprocess.run(["scontrol", "update", node, "State=DRAIN", "Reason=a disk = b [c]"], check=True)
    wait(lambda: any(r.expected_start and r.reason for r in parsed(run)))
    save("squeue", run(commands.queue_argv()))
    save("scontrol-show-nodes", run(cluster.nodes_argv()))
    shown = run(configuration.config_argv())
    kept = [line for line in shown.stdout.splitlines() if line.startswith(SETTINGS)]
    save("scontrol-show-config", replace(shown, stdout="\n".join(kept) + "\n"))
    save("scontrol-show-job-held", run(configuration.job_argv(ids["held"])))
    save("scontrol-show-job-running", run(configuration.job_argv(ids["unlimited"])))
    save("scontrol-show-job-failed", run(configuration.job_argv(ids["failed"])))
    others = {
        "long": ["MaxTime=1-00:00:00", "DefaultTime=30", "State=UP"],
        "old": ["MaxTime=30", "State=DOWN"],
    }
    for name, options in others.items():
        of = [f"PartitionName={name}", "Nodes=ALL", *options]
        subprocess.run(["scontrol", "create", *of], check=True)
    save("scontrol-show-partitions", run(cluster.partitions_argv()))
    for name in others:
        subprocess.run(["scontrol", "delete", f"PartitionName={name}"], check=True)
    (argv,) = commands.accounting_argvs(since=since, job_ids=list(ids.values()))
    save("sacct", run(argv))
    refused = folder / "refused.sbatch"
    refused.write_text("#!/bin/sh\n#SBATCH --partition=nowhere\n")
    save(
        "sbatch-no-such-partition",
        run(
            commands.submit_argv(
                PurePosixPath(refused), name="nias-no", log=PurePosixPath("/dev/null")
            )
        ),
    )
    subprocess.run(["scontrol", "update", node, "State=RESUME"], check=True)
    for job_id in ids.values():
        run(["scancel", str(job_id)])
    shutil.rmtree(folder)


def parsed(run: LocalRunner) -> list[SlurmReport]:
    return commands.parse_queue(run(commands.queue_argv()))


def states(run: LocalRunner, ids: dict[str, int]) -> set[str]:
    return {report.state.value for report in parsed(run) if report.job_id in ids.values()}


def accounting(run: LocalRunner, since: datetime, ids: dict[str, int]) -> str:
    (argv,) = commands.accounting_argvs(since=since, job_ids=list(ids.values()))
    return run(argv).stdout


def wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + MINUTE
    while not done():
        if time.monotonic() > deadline:
            sys.exit("Slurm did not get there in a minute.")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
