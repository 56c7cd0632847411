"""Every error of the bridge, each with a sentence for the person who meets it.

NiasError
├── BadUpload              the zip can't be accepted as it is
│   ├── BadRequirements    … because of lines of requirements.txt, each named with its mend
│   └── BadProjectFile     … because of nias.toml or a file that it names
├── BadRequest             a value that was asked for is not possible
├── ProjectExists          the owner has a project of this name; a new run must be asked for
├── KeyReused              one submission's key was sent with another
├── Resubmitted            a submission's key has made a run already
├── NotFound               no such run, file or upload
├── NotPossible            the run's state does not allow it
├── NotSignedIn            this needs an account
├── NotAllowed             the account, or the key it is known by, does not reach so far
├── TooManyTries           too many failed attempts: wait
├── NoAnswer               another service that this needs did not answer as it should
├── Undeliverable          what was to be told outside will not be taken, however often it is tried
├── OverQuota              the person's own limits do not allow it
├── NoSpace                shared storage is full
├── StorageUnreachable     shared storage did not answer: what is there is not known
├── SettingsError          the configuration is wrong or incomplete
├── ClusterError           the one-machine Slurm could not be set up
├── SchedulerError
│   ├── Unreachable        Slurm did not answer: nothing is known
│   ├── SubmissionUnclear  sbatch did not say whether the job exists: look before trying again
│   ├── TryLater           refused for now (a submission limit); the same request may pass later
│   └── Rejected           Slurm refused the job for good
└── StoreError
    ├── OldSchema          the database is not at this version's schema
    ├── LeaseLost          another poller has taken over
    └── Stale              somebody else changed the run first
"""

from __future__ import annotations

from dataclasses import dataclass


class NiasError(Exception):
    """Base of all errors that are told to a person: `str(error)` is the sentence to show."""


class BadUpload(NiasError):
    """The upload can't be accepted as it is; nothing of it is kept."""


@dataclass(frozen=True)
class RequirementProblem:
    """One line of requirements.txt that can't work elsewhere.

    line: its number, from 1; text: as written; why: a sentence; mend: the line to put in its
    place ("" to leave it out), or None where no mend is certain.
    """

    line: int
    text: str
    why: str
    mend: str | None = None


class BadRequirements(BadUpload):
    """The file that asks for packages has lines that can't work here; all are named at once."""

    def __init__(
        self, problems: tuple[RequirementProblem, ...], source: str = "requirements.txt"
    ) -> None:
        self.problems = problems
        self.source = source
        told = "; ".join(f"line {p.line}: {p.why.rstrip('.')}" for p in problems)
        super().__init__(f"{source} can't be installed on the cluster: {told}.")

    @property
    def mendable(self) -> bool:
        """True when every problem has a certain mend."""
        return all(p.mend is not None for p in self.problems)


class BadProjectFile(BadUpload):
    """nias.toml asks for what can't be; `problems` has one sentence each, all at once."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__(" ".join(problems))


class BadRequest(NiasError):
    """A value that was asked for is not possible; `field` names it."""

    def __init__(self, message: str, field: str = "") -> None:
        self.field = field
        super().__init__(message)


class ProjectExists(NiasError):
    """The owner already has a project of this name; `next_number` is the run she could ask for."""

    def __init__(self, project: str, next_number: int) -> None:
        self.project = project
        self.next_number = next_number
        super().__init__(
            f"A project named “{project}” is already there. Nothing was changed: "
            f"rename yours, or run it again as run {next_number}."
        )


class KeyReused(NiasError):
    """The key that names one submission was sent with another one."""


class Resubmitted(NiasError):
    """The key that names this submission has made a run already: that run is the answer."""


class NotFound(NiasError):
    """No such run, file or upload (or not this person's, which is told alike)."""


class NotPossible(NiasError):
    """The run's state does not allow what was asked."""


class NotSignedIn(NiasError):
    """Nobody is signed in, or what was shown to be known by is not known."""


class NotAllowed(NiasError):
    """The account, or the key that it is known by, does not reach so far."""


class TooManyTries(NiasError):
    """Too many failed attempts in a while; `seconds` is how long to wait."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        minutes = max(1, round(seconds / 60))
        super().__init__(f"Too many attempts. Wait {minutes} min and try again.")


class NoAnswer(NiasError):
    """Another service that this needs, such as the university's sign-in, did not do its part."""


class Undeliverable(NiasError):
    """What was to be told outside will not be taken, however often it is tried."""


class OverQuota(NiasError):
    """The person's own limits do not allow it; says the figures, and what would free room."""


class NoSpace(NiasError):
    """Shared storage has no room for what was sent; nothing of it is kept."""


class StorageUnreachable(NiasError):
    """Shared storage did not answer: nothing is known of what is there, not even that it is not."""


class SettingsError(NiasError):
    """The configuration is wrong or incomplete; says which setting and what to put there."""


class ClusterError(NiasError):
    """The one-machine Slurm did not come up or go down; ends with the last words of its log."""


class SchedulerError(NiasError):
    """Base of what can go wrong between the bridge and Slurm."""


class Unreachable(SchedulerError):
    """Slurm did not answer, or not in time. Nothing is known; the last knowledge stays."""


class SubmissionUnclear(SchedulerError):
    """sbatch ended without saying whether the job exists: look the name up before trying again."""


class TryLater(SchedulerError):
    """Slurm refused for now (a submission limit, say); the same request may pass later."""


class Rejected(SchedulerError):
    """Slurm refused the job for good; the message is Slurm's own."""


class StoreError(NiasError):
    """Base of what can go wrong between the bridge and its database."""


class OldSchema(StoreError):
    """The database is not at the schema of this version; the message names the command to run."""


class LeaseLost(StoreError):
    """Another poller has taken over from this one, which must write nothing more."""


class Stale(StoreError):
    """The run was changed by somebody else since it was read; read it again."""
