"""As whom jobs run: as the bridge's own account, or each as its owner's."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from nias_bridge.domain import Run
from nias_bridge.errors import NotAllowed
from nias_bridge.node import environment
from nias_bridge.services.bridge import Bridge

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
    return (run.report and run.report.user) or user_of(bridge, run.owner)


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
        if folder.is_dir() and folder.stat().st_uid == os.geteuid():
            environment.discard(folder)
        folder.mkdir(exist_ok=True)
