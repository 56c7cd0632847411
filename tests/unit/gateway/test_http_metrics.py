"""Claims about what Prometheus is told, and who is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import staged
from apiflask import APIFlask
from client import zipped
from prometheus_client.parser import text_string_to_metric_families

from nias_bridge.cluster import Polling
from nias_bridge.http import create_app
from nias_bridge.people import Role, Scope
from nias_bridge.services.bridge import Bridge

TOKEN = "a token for the scraper"


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    return staged.make_bridge(tmp_path, metrics_token=TOKEN)


@pytest.fixture
def app(bridge: Bridge) -> APIFlask:
    return create_app(bridge)


def scraped(app: APIFlask) -> dict[tuple[str, str], float]:
    """By name and (the first label's value, where there is one)."""
    answer = app.test_client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=")
    return dict(_samples(answer.text))


def _samples(text: str) -> Iterator[tuple[tuple[str, str], float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield (sample.name, next(iter(sample.labels.values()), "")), sample.value


def test_runs_are_told_by_state_and_all_that_were_ever_accepted(
    app: APIFlask, bridge: Bridge
) -> None:
    staged.completed(bridge, "a")
    staged.completed(bridge, "b")
    staged.pending(bridge)
    told = scraped(app)
    assert told["nias_runs", "COMPLETED"] == 2
    assert told["nias_runs", "PENDING"] == 1
    assert told["nias_submissions_total", ""] == 3


def test_the_poller_tells_of_itself_by_the_store(app: APIFlask, bridge: Bridge) -> None:
    polling = Polling(looks=8, seconds=0.5, unanswered=3)
    staged.show_cluster(bridge, polling=polling, problem="slurmctld is away")
    told = scraped(app)
    assert told["nias_polls_total", ""] == 8
    assert told["nias_poll_seconds_total", ""] == 0.5
    assert told["nias_slurm_unanswered_total", ""] == 3
    assert told["nias_poller_heard_timestamp_seconds", ""] > 1e9
    assert (told["nias_well", "slurm"], told["nias_well", "database"]) == (0, 1)


def test_requests_and_the_bytes_of_uploads_are_counted(app: APIFlask, bridge: Bridge) -> None:
    web, body = staged.program(app, bridge), zipped("study", {"code.py": ""})
    web.post("/api/v1/runs?filename=study.zip", data=body)
    for _ in range(3):
        web.get("/api/v1/runs/1")
    web.get("/nowhere")
    told = scraped(app)
    assert told["nias_upload_bytes_total", ""] == len(body)
    assert told["nias_request_seconds_count", "api.run"] == 3
    assert told["nias_request_seconds_count", "api.submit"] == 1
    assert told["nias_request_seconds_count", "none"] == 1


def test_figures_are_shown_to_administrators_and_to_the_sites_token_alone(
    app: APIFlask, bridge: Bridge
) -> None:
    def status(headers: dict[str, str], path: str = "/metrics") -> int:
        return app.test_client().get(path, headers=headers).status_code

    chief = staged.as_person(bridge, "chief", Role.ADMINISTRATOR)
    scraper = {"Authorization": f"Bearer {TOKEN}"}
    assert status(staged.token(chief)) == status(scraper) == 200
    assert status(staged.token(chief, Scope.SUBMIT)) == 403
    assert status(staged.token(bridge)) == 403
    assert status({}) == status({"Authorization": "Bearer wrong"}) == 401
    assert status({"Authorization": "Bearer w\xe4hrung"}) == 401
    assert status(scraper, "/api/v1/runs") == 401, "the scraper's token opens nothing else"


def test_without_the_setting_nothing_stands_in_for_a_token(tmp_path: Path) -> None:
    app = create_app(staged.make_bridge(tmp_path))
    for word in ("None", ""):
        answer = app.test_client().get("/metrics", headers={"Authorization": f"Bearer {word}"})
        assert answer.status_code == 401
