"""A gateway of several processes, as it is served: one site to whoever asks."""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from client import Client
from freeports import free_port
from prometheus_client.parser import text_string_to_metric_families
from sites import OWNER, client_of

from nias_bridge.errors import SettingsError
from nias_bridge.http.serve import serve_app
from nias_bridge.services.bridge import Bridge
from nias_bridge.site import running, said, set_up, wait_until_served

TOKEN = "a token for the scraper"
ASKED = 200


@pytest.fixture
def client() -> Iterator[Client]:
    state = Path(tempfile.mkdtemp(prefix="nias-served-"))
    state.chmod(0o755)
    try:
        site = set_up(
            state,
            port=free_port(),
            slurm_conf=Path("/nonexistent"),
            workers=2,
            metrics_token=TOKEN,
        )
        said(site, "user", "add", OWNER)
        with running(site, "serve"):
            wait_until_served(site)
            yield client_of(site)
    finally:
        shutil.rmtree(state, ignore_errors=True)


def test_two_workers_answer_many_clients_and_tell_prometheus_one_sum(client: Client) -> None:
    sent = client.upload("print(1)")
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda _: client.run(sent["id"])["id"], range(ASKED)))
    assert told == [sent["id"]] * ASKED
    scraper = urllib.request.Request(
        f"{client.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    for _ in range(4):  # whichever worker answers
        with urllib.request.urlopen(scraper, timeout=30) as answer:
            text = answer.read().decode()
        counted = {
            sample.labels["endpoint"]: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "nias_request_seconds_count" and sample.labels["status"] == "2xx"
        }
        assert counted["api.run"] == ASKED
        assert counted["api.submit"] == 1


def test_it_is_served_neither_as_root_nor_with_the_debugger(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")
    for uid, why in ((0, "does not run as root"), (1000, "FLASK_DEBUG is set")):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        with pytest.raises(SettingsError, match=why):
            serve_app(bridge)
