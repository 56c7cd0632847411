"""What Prometheus is told: of runs and poller by the store, of the gateway by itself."""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from flask import Blueprint, Flask, Response, current_app, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram
from prometheus_client import values as kept
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from nias_bridge.errors import NotAllowed, NotSignedIn
from nias_bridge.http.here import bridge, caller
from nias_bridge.services import desk

blueprint = Blueprint("metrics", __name__)

KEY = "nias_figures"
ENDPOINT = "metrics.figures"
FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where several workers put what they count
BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


@dataclass(frozen=True)
class Counted:
    """What this gateway counts itself."""

    registry: CollectorRegistry
    requests: Histogram
    received: Counter


@dataclass(frozen=True)
class Told:
    """Figures of one moment, as a collector of prometheus_client has them."""

    families: tuple[Metric, ...]

    def collect(self) -> Iterator[Metric]:
        return iter(self.families)


def share(folder: str) -> None:
    """Count in files of this folder, from which each of several workers tells the sum of all.

    To be called before the app is made.
    """
    os.environ[FOLDER] = folder
    kept.ValueClass = kept.get_value_class()  # type: ignore[no-untyped-call]


def init_app(app: Flask) -> None:
    """Count the app's requests from now on."""
    registry = CollectorRegistry()
    app.extensions[KEY] = Counted(
        registry=registry,
        requests=Histogram(
            "nias_request_seconds",
            "Seconds until an answer begins, by endpoint and kind of status",
            ("endpoint", "status"),
            buckets=BUCKETS,
            registry=registry,
        ),
        received=Counter("nias_upload_bytes", "Bytes of zips that arrived", registry=registry),
    )
    app.before_request(_begin)
    app.after_request(_end)


def received(size: int) -> None:
    """A zip of so many bytes has arrived."""
    _counted().received.inc(size)


@blueprint.get("/metrics")
def figures() -> Response:
    """For Prometheus, by an administrator's token or by the setting metrics_token."""
    _allow()
    told = Told((*_of_store(), *_of_gateway()))
    return Response(generate_latest(told), content_type=CONTENT_TYPE_LATEST)


def shown(token: str | None) -> bool:
    """Whether this is the token that the site's settings give to Prometheus, asking for figures."""
    if request.endpoint != ENDPOINT or token is None:
        return False
    wanted = bridge().settings.metrics_token
    if wanted is None:
        return False
    return hmac.compare_digest(token.encode(), wanted.encode())


def _allow() -> None:
    if g.get("scrapes") or caller().administers:
        return
    if caller().person is None:
        raise NotSignedIn("Figures are shown to an administrator's token, or to metrics_token.")
    raise NotAllowed("Figures are shown to an administrator's token, or to metrics_token.")


def _of_store() -> Iterator[Metric]:
    store = bridge().store
    states, view = store.run_states(), store.cluster()
    runs = GaugeMetricFamily("nias_runs", "Runs by state", labels=["state"])
    for state, count in sorted(states.items()):
        runs.add_metric([state], count)
    yield runs
    yield CounterMetricFamily("nias_submissions", "Runs ever accepted", states.total())
    jobs = GaugeMetricFamily("nias_cluster_jobs", "Everybody's jobs by state", labels=["state"])
    jobs.add_metric(["PENDING"], view.pending)
    jobs.add_metric(["RUNNING"], view.running)
    yield jobs
    well = GaugeMetricFamily("nias_well", "1 where a part works", labels=["part"])
    for part, problem in vars(desk.health(bridge())).items():
        well.add_metric([part], not problem)
    yield well
    polling = view.polling
    yield CounterMetricFamily("nias_polls", "Looks of the poller at Slurm", polling.looks)
    yield CounterMetricFamily(
        "nias_poll_seconds", "Seconds that they and their steps took", polling.seconds
    )
    yield CounterMetricFamily(
        "nias_slurm_unanswered", "Questions that Slurm did not answer", polling.unanswered
    )
    yield GaugeMetricFamily(
        "nias_poll_interval_seconds", "Seconds from one look to the next, by now", polling.interval
    )
    if view.at is not None:
        yield GaugeMetricFamily(
            "nias_poller_heard_timestamp_seconds",
            "When the poller last told of the cluster",
            view.at.timestamp(),
        )


def _of_gateway() -> Iterator[Metric]:
    registry = _counted().registry
    if FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return iter(registry.collect())


def _counted() -> Counted:
    counted: Counted = current_app.extensions[KEY]
    return counted


def _begin() -> None:
    g.began = time.perf_counter()


def _end(response: Response) -> Response:
    status = f"{response.status_code // 100}xx"
    took = time.perf_counter() - g.get("began", time.perf_counter())
    _counted().requests.labels(request.endpoint or "none", status).observe(took)
    return response
