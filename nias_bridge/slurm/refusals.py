"""What sbatch says when it fails, and which of the bridge's errors each of its sentences is."""

from __future__ import annotations

import re

from nias_bridge.errors import (
    Rejected,
    SchedulerError,
    SubmissionUnclear,
    TryLater,
    Unreachable,
)

_PREFIX = re.compile(
    r"^sbatch: (?:error: |fatal: )?(?:Batch job submission failed: )?", re.MULTILINE
)

# The first line that is found in what sbatch said decides, whatever the case. The wording is that
# of slurm_errno.c, 22.05 to 26.11. Above all: what may have reached slurmctld is unclear.
REFUSALS: tuple[tuple[str, type[SchedulerError]], ...] = (
    # As another account: sbatch was not come to.
    ("run-as: refused", Rejected),
    ("run-as: failed", Unreachable),
    ("sudo: a password is required", Unreachable),  # there is no rule for this call
    ("sudo: a terminal is required", Unreachable),
    ("not allowed to execute", Unreachable),
    ("run-as: command not found", Unreachable),
    # Sent, but no answer: the job may be there.
    ("socket timed out on send/recv", SubmissionUnclear),
    ("zero bytes were transmitted or received", SubmissionUnclear),
    ("(send failure)", SubmissionUnclear),
    ("(receive failure)", SubmissionUnclear),
    ("(shutdown failure)", SubmissionUnclear),
    ("connection timed out", SubmissionUnclear),
    ("message receive failure", SubmissionUnclear),
    # Slurm was not reached, or does not take anything as it is now.
    ("unable to contact slurm controller (connect failure)", Unreachable),
    ("controller in standby mode", Unreachable),
    ("controller is in standby mode", Unreachable),
    ("could not establish a configuration source", Unreachable),
    ("unable to process configuration file", Unreachable),
    ("process is shutting down", Unreachable),
    ("protocol authentication error", Unreachable),
    ("invalid authentication credential", Unreachable),
    ("authentication credential expired", Unreachable),
    ("can't find an address, check slurm.conf", Unreachable),
    ("incompatible versions of client and server", Unreachable),
    # Not now; the same job may pass later.
    ("submitjob", TryLater),  # AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit, …
    ("temporarily unable to accept job", TryLater),
    ("job queue full", TryLater),
    ("maxjobcount limit reached", TryLater),
    ("unable to create job record, try again", TryLater),
    ("job creation temporarily disabled", TryLater),
    ("rate limit exceeded", TryLater),
    ("system submissions disabled", TryLater),
    ("requested operation is presently disabled", TryLater),
    ("requested partition configuration not available now", TryLater),
    ("required partition not available", TryLater),
    ("required node not available", TryLater),
    ("partition in down state", TryLater),
    ("reservation not usable now", TryLater),
    ("maintenance", TryLater),
    ("requested nodes are busy", TryLater),
    ("required ports are in use", TryLater),
    ("licenses currently unavailable", TryLater),
    ("breached requested qos usage threshold", TryLater),
    ("unable to open file", TryLater),  # the script, on shared storage
    ("i/o error writing script/environment to file", TryLater),
    # A limit of the account or QOS that this job alone exceeds, by the name of the limit …
    ("perjob", Rejected),
    ("pernode", Rejected),
    ("maxwall", Rejected),
    ("mincpu", Rejected),
    # … and where Slurm does not name it: perhaps only a matter of how many are there already.
    ("job violates accounting/qos policy", TryLater),
    # Never.
    ("invalid", Rejected),  # … partition name, account, qos, --time specification, feature, …
    ("unrecognized option", Rejected),
    ("is not available", Rejected),  # requested node configuration …, memory required by task …
    ("can not be satisfied", Rejected),
    ("no partition specified", Rejected),
    ("access/permission denied", Rejected),
    ("not permitted", Rejected),
    ("more processors requested than permitted", Rejected),
    ("requested nodes not in this partition", Rejected),
    ("requested more tasks than available", Rejected),
    ("specification", Rejected),
    ("access denied to requested reservation", Rejected),
    ("job dependency problem", Rejected),
    ("pathname of a file, directory or other parameter too long", Rejected),
    ("requested operation not supported", Rejected),
    ("only batch jobs are accepted", Rejected),
    ("insufficient gres", Rejected),
    ("does not look like a batch script", Rejected),
    ("batch script", Rejected),  # … is empty, contains DOS line breaks, …
)


def refusal(stderr: str, *, killed: bool) -> SchedulerError:
    """The error for an sbatch that failed and said `stderr`; `killed` when it was cut off.

    What is not recognised is SubmissionUnclear: nothing is submitted twice on a guess.
    """
    words = _PREFIX.sub("", stderr).strip()
    if killed:
        return SubmissionUnclear(f"sbatch was cut off before it answered. {words}".strip())
    said = words.casefold()
    for sentence, error in REFUSALS:
        if sentence in said:
            return error(_last_line(words))
    return SubmissionUnclear(words or "sbatch failed without a word.")


def _last_line(words: str) -> str:
    """Slurm's last sentence, with the lines before it in brackets where they say more."""
    *before, last = [line.strip() for line in words.splitlines() if line.strip()]
    return f"{last} ({'; '.join(before)})" if before else last
