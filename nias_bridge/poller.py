"""The loop that alone writes states: a look at Slurm, then a step of each open run."""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import time
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from threading import Event, Thread
from typing import Any

from nias_bridge.cluster import ClusterView, Polling
from nias_bridge.domain import OPEN_STATES, JobState, Run, SlurmReport, Usage
from nias_bridge.errors import LeaseLost, Stale, StorageUnreachable, Unreachable
from nias_bridge.ports import Scheduler
from nias_bridge.services import (
    adopt,
    deliveries,
    environments,
    estimates,
    grants,
    held,
    identity,
    outbox,
    pace,
    provision,
    retention,
)
from nias_bridge.services.advance import advance, note_usage
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.sight import Desk, Sight

log = logging.getLogger(__name__)

WAKE_SECONDS = 0.02
WAITING_SECONDS = 0.3  # between two tries for the lease that another poller holds
CLUSTER_SECONDS = 10.0
ACCOUNTING_SECONDS = 60.0  # without a word of the accounting it is asked for one
ACCOUNTING_SILENT = "Slurm's accounting does not answer: how jobs ended is told once it does."
NO_JOB = "nias-no-such-job"
ESTIMATE_SECONDS = 0.2
AWAY_SECONDS = 2.0  # after which a storage that does not answer is asked again
USAGE_SECONDS = 5.0
MEASURED_AT_ONCE = 200  # each takes Slurm some 10 ms, and one question has a deadline
TIDY_SECONDS = 5.0
TELL_SECONDS = 1.0
DATASETS_SECONDS = 0.5
GRANTS_SECONDS = 2.0
GRANTS_SHARE = 0.02  # of a processor, at most
SWEEP_SECONDS = 3600.0
SEARCH_SECONDS = 60.0

# The steps that need no word from Slurm are taken at once, the others after a look at it.
QUICK_STATES = (JobState.RECEIVED, JobState.STAGED)
_RUNNING = frozenset({JobState.RUNNING})


def run_poller(bridge: Bridge, scheduler: Scheduler, stop: Event) -> None:
    """Work until `stop` is set. Another poller's lease makes this one wait its turn, also in the
    midst of a round: a machine may have stood still for longer than the lease lasts."""
    holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    held = replace(bridge, store=bridge.store.held_by(holder))
    rounds, lease = Rounds(held, scheduler), bridge.settings.lease_seconds
    held_until = 0.0
    try:
        while not stop.wait(WAKE_SECONDS):
            try:
                # Renewed at a third of its time, not at every turn: each renewal is a write.
                if time.monotonic() > held_until - lease * 2 / 3:
                    asked_at = time.monotonic()
                    if not bridge.store.hold_lease(holder, now=_now(), seconds=lease):
                        stop.wait(WAITING_SECONDS)
                        continue
                    held_until = asked_at + lease
                rounds.turn()
            except LeaseLost as error:
                log.warning("%s", error)
                held_until = 0.0
            except Exception:  # the loop outlives a database or a disk that is away
                log.exception("This round failed; the next one tries again.")
                stop.wait(1)
    finally:
        bridge.store.drop_lease(holder)


class Rounds:
    """What is due when: new work at every turn, Slurm at its interval, the nodes now and then."""

    def __init__(self, bridge: Bridge, scheduler: Scheduler) -> None:
        self.bridge = bridge
        self.scheduler = scheduler
        self._polling = Polling(started_at=_now(), interval=bridge.settings.poll_interval)
        self._looked = 0.0
        self._accounting = ""  # why it does not answer
        self._accounting_asked = 0.0
        self._at_work: dict[str, Thread] = {}
        self._measured_last = 0
        self._used: dict[int, tuple[Usage, datetime]] = {}
        self._away_until = 0.0
        self._due: dict[Callable[[], None], tuple[float, float]] = {
            self.provide: (math.inf, 0.0),
            self.take_new_work: (0.0, 0.0),
            self.estimate: (ESTIMATE_SECONDS, 0.0),
            self.follow_when_due: (bridge.settings.poll_interval, 0.0),
            self.view_cluster: (CLUSTER_SECONDS, 0.0),
            self.measure: (USAGE_SECONDS, 0.0),
            self.ask_accounting: (CLUSTER_SECONDS, 0.0),
            self.tidy: (TIDY_SECONDS, 0.0),
            self.tell: (TELL_SECONDS, 0.0),
            self.keep_datasets: (DATASETS_SECONDS, 0.0),
            self.sweep: (SWEEP_SECONDS, 0.0),
        }
        self._seen: set[adopt.Key] = set()
        self._doors = grants.Doors()
        self._grant_from = 0.0
        if grants.are_needed(bridge.settings):
            self._due[self.grant] = (GRANTS_SECONDS, 0.0)
        if bridge.settings.login_nodes:
            self._due[self.search] = (SEARCH_SECONDS, 0.0)

    def turn(self) -> None:
        """Do all that is due now."""
        for task, (interval, due) in self._due.items():
            if time.monotonic() >= due:
                wait = interval
                try:
                    task()
                except StorageUnreachable as error:  # Slurm is followed all the same
                    log.warning("%s", error)
                    wait = AWAY_SECONDS
                    self._leave_new_work(error)
                # Counted from the end: a Slurm that answers slowly is not asked without a pause.
                self._due[task] = (interval, time.monotonic() + wait)

    def provide(self) -> None:
        """What the nodes need, once, before the first job is theirs; again while it fails."""
        try:
            provision.install(self.bridge)
        except OSError as error:  # a full disk, say: what runs already can end all the same
            raise StorageUnreachable(f"What the nodes need can't be put there: {error}") from None

    def estimate(self) -> None:
        """Answer when held uploads would start."""
        estimates.answer(self.bridge, self.scheduler)

    def take_new_work(self) -> None:
        """RECEIVED and STAGED runs go to Slurm, unless the storage was away a moment ago."""
        if time.monotonic() < self._away_until:
            return
        # State by state, so that a run which was just staged is submitted in the same turn.
        for state in QUICK_STATES:
            for run in self.bridge.store.open_runs(frozenset({state})):
                if self._advance(run, sight=None).version != run.version:
                    self._hurry()

    def _leave_new_work(self, error: StorageUnreachable) -> None:
        """It waits for the storage, and its page says so."""
        self._away_until = time.monotonic() + AWAY_SECONDS
        for run in self.bridge.store.open_runs(frozenset(QUICK_STATES)):
            if not run.note:
                with suppress(Stale):
                    self.bridge.store.update(run, note=str(error))

    def follow_when_due(self) -> None:
        """Ask Slurm of the runs, unless nobody looks at any and it was asked not long ago."""
        if pace.is_watched(self.bridge, _now()):
            self._hurry()
        if time.monotonic() >= self._looked + self._polling.interval:
            self.follow_jobs()

    def follow_jobs(self) -> None:
        """One question to slurmctld and one to slurmdbd, then a step of each run they have."""
        runs = self.bridge.store.open_runs(OPEN_STATES.difference(QUICK_STATES))
        if runs or self.bridge.settings.login_nodes:
            began, self._looked = time.monotonic(), time.monotonic()
            self._slow_down()
            users = identity.users_of_jobs(self.bridge, runs)
            sight = replace(look(self.scheduler, runs), users=users)
            self._heard_accounting(sight.accounting is not None)
            after = [self._advance(run, sight=sight) for run in runs]
            if pace.is_restless(after) or any(
                now.state is not run.state for run, now in zip(runs, after, strict=True)
            ):
                self._hurry()
            missed = (sight.queue, sight.accounting).count(None)
            self._count(looks=1, seconds=time.monotonic() - began, unanswered=missed)
            if self.bridge.settings.login_nodes:
                self._adopt(sight)

    def _hurry(self) -> None:
        self._polling = replace(self._polling, interval=self.bridge.settings.poll_interval)

    def _slow_down(self) -> None:
        interval = pace.slower(self.bridge.settings, self._polling.interval)
        self._polling = replace(self._polling, interval=interval)

    def search(self) -> None:
        """Look in the accounting for jobs by plain sbatch that squeue no longer told."""
        with suppress(Unreachable):
            adopt.search(self.bridge, self.scheduler, _now())

    def _adopt(self, sight: Sight) -> None:
        with suppress(Unreachable):
            if sight.queue is not None:
                seen = self._seen
                self._seen = adopt.look(self.bridge, self.scheduler, sight.queue, seen, _now())
                if self._seen != seen:
                    self._hurry()

    def view_cluster(self) -> None:
        """Remember nodes and partitions, or why they are not known."""
        store, slurm = self.bridge.store, self.scheduler
        try:
            nodes, partitions, queue = slurm.nodes(), slurm.partitions(), slurm.queue()
        except Unreachable as error:
            self._count(unanswered=1)
            known = replace(store.cluster(), at=_now(), problem=str(error))
            store.save_cluster(replace(known, **self._own_word()))
            return
        states = [report.state for report in queue]
        store.save_cluster(
            ClusterView(
                at=_now(),
                nodes=tuple(nodes),
                partitions=tuple(partitions),
                pending=states.count(JobState.PENDING),
                running=states.count(JobState.RUNNING),
                **self._own_word(),
            )
        )

    def _own_word(self) -> dict[str, Any]:
        """What the poller tells of itself beside the cluster."""
        return {"accounting": self._accounting, "polling": self._polling}

    def _count(self, *, looks: int = 0, seconds: float = 0.0, unanswered: int = 0) -> None:
        was = self._polling
        self._polling = replace(
            was,
            looks=was.looks + looks,
            seconds=was.seconds + seconds,
            unanswered=was.unanswered + unanswered,
        )

    def ask_accounting(self) -> None:
        """Hear of the accounting while no run makes us ask; it may be slow."""
        if time.monotonic() - self._accounting_asked > ACCOUNTING_SECONDS:
            self._aside("Whether the accounting answers", self._ask_accounting)

    def _ask_accounting(self) -> None:
        nothing = partial(self.scheduler.accounting, since=_now(), names=[NO_JOB])
        self._heard_accounting(_answer(nothing) is not None)

    def _heard_accounting(self, answered: bool) -> None:
        self._accounting = "" if answered else ACCOUNTING_SILENT
        self._accounting_asked = time.monotonic()

    def measure(self) -> None:
        """Ask what running jobs use, where anybody looks: a dead node keeps that answer waiting."""
        if self._polling.interval > max(USAGE_SECONDS, self.bridge.settings.poll_interval):
            return
        if self.bridge.settings.identity != "unix":  # Slurm tells nobody but a job's owner
            self._aside("What running jobs use", self._measure)

    def _measure(self) -> None:
        # Slurm tells what a job uses to nobody but its own account.
        runs = [run for run in self.bridge.store.open_runs(_RUNNING) if not run.native]
        jobs = {run.job_id: run for run in runs if run.job_id is not None and not run.tasks}
        ids = in_turn([*jobs, *self._running_tasks(runs)], self._measured_last)
        if not ids:
            return
        used, at = self.scheduler.usage(ids), _now()
        self._measured_last = ids[-1]
        # Of tasks the next step writes it: two writers would cross.
        self._used = {job_id: (usage, at) for job_id, usage in used.items()}
        for job_id, run in jobs.items():
            if job_id in used:
                with suppress(Stale):  # it is measured again
                    note_usage(self.bridge, run, used[job_id], at)

    def wait_aside(self, seconds: float) -> None:
        """Wait for what is being seen to in threads, so long at most."""
        deadline = time.monotonic() + seconds
        for thread in self._at_work.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _running_tasks(self, runs: list[Run]) -> list[int]:
        """The own ids of tasks that run."""
        store = self.bridge.store
        tasks = [task for run in runs if run.tasks for task in store.tasks(run.id, _RUNNING)]
        ids = (task.report.task_job_id for task in tasks if task.report)
        return [own_id for own_id in ids if own_id is not None]

    def tidy(self) -> None:
        """Weigh and remove files of ended runs: many of them take long."""
        self._aside("Files of ended runs", lambda: retention.tidy(self.bridge))

    def tell(self) -> None:
        """Send what is due of mails and to webhooks: a server may keep one waiting."""
        self._aside("The outbox", lambda: outbox.deliver(self.bridge))

    def keep_datasets(self) -> None:
        """Unpack datasets that arrived, and remove what nobody has: gigabytes take minutes."""
        self._aside("Datasets", lambda: deliveries.deliver(self.bridge))

    def grant(self) -> None:
        """Let who may read datasets come to them, and nobody else, as of now."""
        if time.monotonic() >= self._grant_from:
            self._aside("Who may read datasets", self._grant)

    def _grant(self) -> None:
        grants.put_right(self.bridge, self._doors)
        # Where there are many people and datasets, to look through all of them takes a while.
        self._grant_from = time.monotonic() + time.thread_time() / GRANTS_SHARE

    def _aside(self, what: str, see_to: Callable[[], None]) -> None:
        """See to it in a thread of its own, unless one is still at it. Nothing waits for it: what
        goes wrong is logged, and it goes on where it was."""

        def work() -> None:
            try:
                see_to()
            except Exception as error:
                log.warning("%s could not be seen to: %s", what, error)

        if what not in self._at_work or not self._at_work[what].is_alive():
            self._at_work[what] = Thread(target=work, name=what, daemon=True)
            self._at_work[what].start()

    def sweep(self) -> None:
        """Remove what uploads left behind, environments past their size, runs past their time."""
        held.sweep(self.bridge)
        retention.sweep(self.bridge)
        self._aside("Datasets", lambda: deliveries.sweep(self.bridge))
        environments.prune(self.bridge, self.bridge.settings.environments_max_bytes)

    def _advance(self, run: Run, *, sight: Sight | None) -> Run:
        """The run after its step, as far as that is known."""
        desk = Desk(self.bridge, self.scheduler, _now, sight, self._used, self._doors)
        try:
            return advance(desk, run)
        except Stale:
            pass  # it was changed meanwhile; the next turn reads it anew
        except StorageUnreachable as error:
            log.warning("Run %d waits: %s", run.id, error)
            self._leave_new_work(error)
        except LeaseLost:
            raise
        except Exception:  # one run that can't go on does not hold up the others
            log.exception("Run %d could not be taken a step on; it is tried again.", run.id)
        return run


def look(scheduler: Scheduler, runs: list[Run]) -> Sight:
    """One look at Slurm for all these runs."""
    since = min((run.created_at for run in runs), default=_now()) - adopt.CLOCKS_APART
    ids = [run.job_id for run in runs if run.job_id is not None]
    nameless = [run.job_name for run in runs if run.job_id is None]

    def accounting() -> list[SlurmReport]:
        found = scheduler.accounting(since=since, job_ids=ids) if ids else []
        return found + (scheduler.accounting(since=since, names=nameless) if nameless else [])

    # squeue first: whatever ended before it answered is in sacct by the time that is asked.
    queue = _answer(scheduler.queue)
    return Sight(queue=queue, accounting=_answer(accounting))


def in_turn(job_ids: list[int], last: int) -> list[int]:
    """As many as are measured at once: all, or those after the one that was the last one before."""
    ordered = sorted(job_ids)
    after = bisect_right(ordered, last)
    return (ordered[after:] + ordered[:after])[:MEASURED_AT_ONCE]


def _answer(question: Callable[[], list[SlurmReport]]) -> tuple[SlurmReport, ...] | None:
    try:
        return tuple(question())
    except Unreachable as error:
        log.warning("%s", error)
        return None


def _now() -> datetime:
    return datetime.now(UTC)
