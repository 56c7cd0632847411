"""As whom jobs run: as the bridge's own account, or each as its owner's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

from nias_bridge.domain import Run
from nias_bridge.errors import NotAllowed, NotPossible
from nias_bridge.services.bridge import Bridge

# What run-as takes as a job's name; a person may have given hers any.
_CANCELLED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}", re.ASCII)
NOT_LINKED = (
    "Jobs run here as their owners' own accounts on the cluster, and this owner has none linked "
    "yet: ask the administrator to link one."
)


def user_of(bridge: Bridge, owner: str) -> str | None:
    """The Unix account of this owner's jobs; None: they are the bridge's own.

    Raises NotAllowed where jobs are their owners' and this one has no account linked.
    """
    if bridge.settings.identity == "service":
        return None
    person = bridge.store.people.find(handle=owner)
    if person is None or not person.unix_account:
        raise NotAllowed(NOT_LINKED)
    return person.unix_account


def user_of_job(bridge: Bridge, run: Run) -> str | None:
    """As `user_of`, of a job that Slurm has: a link that was changed since does not change it."""
    if bridge.settings.identity == "service":
        return None
    if run.native:
        return run.native.user
    return (run.report and run.report.user) or user_of(bridge, run.owner)


def can_cancel(bridge: Bridge, run: Run) -> bool:
    """Whether the bridge can cancel this run's job: one by plain sbatch only as its account."""
    if not run.native:
        return True
    named = _CANCELLED_NAME.fullmatch(run.job_name)
    return bridge.settings.identity == "unix" and named is not None


def refuse_to_cancel(bridge: Bridge, run: Run) -> None:
    """Raises NotPossible for a job that its own account alone can cancel."""
    if run.native and not can_cancel(bridge, run):
        raise NotPossible(
            f"This job is the account {run.native.user}'s own: cancel it on a login node, by "
            f"`scancel {run.job_id}`."
        )


def users_of_jobs(bridge: Bridge, runs: Iterable[Run]) -> dict[int, str]:
    """By the runs' ids, the accounts that their jobs must be; {} where all are the bridge's."""
    users = {}
    for run in runs:
        with suppress(NotAllowed):
            if user := user_of_job(bridge, run):
                users[run.id] = user
    return users


def prepare(bridge: Bridge, owner: str) -> None:
    """Make the folders of an owner's own environments and caches, which are handed over to her.

    What an earlier time left there, when they were the bridge's own, her jobs could not use.
    """
    for folder in (bridge.paths.own_environments(owner), bridge.paths.own_cache(owner)):
        bridge.storage.discard(folder)
        bridge.storage.make_folder(folder)
