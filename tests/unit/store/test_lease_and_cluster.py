"""The poller's lease and its view of the cluster, in each database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from nias_bridge.cluster import ClusterView, NodeReport
from nias_bridge.store import SqlStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEN_SECONDS = timedelta(seconds=10)


def test_the_lease_has_one_holder_until_it_runs_out(store: SqlStore) -> None:
    assert store.hold_lease("a", now=NOON, seconds=10)
    assert not store.hold_lease("b", now=NOON, seconds=10)
    assert store.hold_lease("a", now=NOON + TEN_SECONDS / 2, seconds=10)  # renewed
    assert not store.hold_lease("b", now=NOON + TEN_SECONDS, seconds=10)
    assert store.hold_lease("b", now=NOON + 2 * TEN_SECONDS, seconds=10)
    assert not store.hold_lease("a", now=NOON + 2 * TEN_SECONDS, seconds=10)


def test_a_lease_given_back_is_free_at_once(store: SqlStore) -> None:
    assert store.hold_lease("a", now=NOON, seconds=10)
    store.drop_lease("b")  # not its own
    assert not store.hold_lease("b", now=NOON, seconds=10)
    store.drop_lease("a")
    assert store.hold_lease("b", now=NOON, seconds=10)


def test_the_cluster_is_as_it_was_last_seen(store: SqlStore) -> None:
    assert store.cluster() == ClusterView()
    node = NodeReport(
        name="n1", state="IDLE", cpus=2, cpus_used=0, memory=1, memory_used=0, partitions=("main",)
    )
    for view in (
        ClusterView(at=NOON, nodes=(node,), pending=3, running=1),
        ClusterView(at=NOON, problem="slurmctld does not answer"),
    ):
        store.save_cluster(view)
        assert store.cluster() == view
