"""What scontrol tells of how the cluster is set up, and of one job: asked, and read. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nias_bridge.slurm import values
from nias_bridge.slurm.answers import Argv, Output, known, must_be_well

# The time as of which slurmctld answers; it stands among the settings under this name.
AS_OF = "as of"
_AS_OF = re.compile(r"^Configuration data as of (\S+)", re.MULTILINE)
_SETTING = re.compile(r"^(\w+(?:\[\d+\])?) *= ?(.*)$", re.MULTILINE)
_JOB_FIELD = re.compile(r"(?:^|\s)(JobState|Reason|ExitCode|BatchHost)=(\S*)")


@dataclass(frozen=True)
class JobView:
    """One job as slurmctld has it: state and reason in its words; node: where its script runs."""

    state: str
    reason: str
    exit_code: int | None
    node: str

    @property
    def waits(self) -> bool:
        """It has no node yet."""
        return self.state in ("PENDING", "CONFIGURING")

    @property
    def ended(self) -> bool:
        """Nothing of it runs any longer."""
        return not self.waits and self.state not in ("RUNNING", "COMPLETING", "SUSPENDED")


def config_argv() -> Argv:
    """slurmctld's own settings, which need not be those of the slurm.conf here."""
    return ["scontrol", "show", "config"]


def parse_config(output: Output) -> dict[str, str]:
    """The settings by their names, "" where one has no value. Raises Unreachable."""
    must_be_well("scontrol", output)
    told = {name: known(value.strip()) for name, value in _SETTING.findall(output.stdout)}
    at = _AS_OF.search(output.stdout)
    return told | ({AS_OF: at[1]} if at else {})


def job_argv(job_id: int) -> Argv:
    """One job, as long as slurmctld remembers it."""
    return ["scontrol", "show", "job", str(job_id), "--oneliner"]


def parse_job(output: Output) -> JobView:
    """How the job fares. Raises Unreachable."""
    must_be_well("scontrol", output)
    fields = dict(_JOB_FIELD.findall(output.stdout.partition("\n")[0]))
    return JobView(
        state=fields.get("JobState", "UNKNOWN"),
        reason=known(fields.get("Reason", "")),
        exit_code=values.count(fields.get("ExitCode", "").partition(":")[0]),
        node=known(fields.get("BatchHost", "")),
    )
