"""Claims about two runs laid side by side."""

from __future__ import annotations

import json

import pytest
import staged
from flask.testing import FlaskClient

from nias_bridge.domain import JobState, Resources, Run
from nias_bridge.node import layout
from nias_bridge.services.bridge import Bridge


def ended(bridge: Bridge, requirements: str, peak: float, **how: object) -> Run:
    run = staged.add(bridge, "spectrum", requirements=requirements, again=True)
    run = bridge.store.update(run, resources=Resources(memory="8G", **how))
    run = staged.move(bridge, run, *staged.STARTED, JobState.COMPLETED, elapsed=100, cpu_time=40.0)
    outputs = {
        "same.csv": b"1",
        "plot.png": staged.picture() + b"%d" % run.id,
        f"{run.number}.npy": b"x",
    }
    metrics = {"peak_hz": peak, "channels": 4}
    staged.leave(bridge, run, outputs, metrics=metrics, timings={"code": 90.0 + run.number})
    return run


@pytest.fixture
def pair(bridge: Bridge) -> tuple[Run, Run]:
    first = ended(bridge, "numpy==2.3.0\nscipy\n", 50.0)
    second = ended(bridge, "NumPy==2.2.0\nscipy\n# new\npywavelets\n", 49.5, cpus=2)
    for run, version in ((first, "2.3.0"), (second, "2.2.0")):
        lock = (
            f"numpy=={version} \\\n    --hash=sha256:00\nscipy==1.16.0 \\\n    --hash=sha256:01\n"
        )
        (staged.here(bridge).run(run).folder / layout.LOCK).write_text(lock)
    return first, second


def test_what_differs_is_told_to_programs(web: FlaskClient, pair: tuple[Run, Run]) -> None:
    a, b = pair
    told = web.get(f"/api/v1/compare?a={a.id}&b={b.id}").get_json()
    assert told["parameters"]["cpus"] == {"a": None, "b": "2"}
    assert told["parameters"]["memory"] == {"a": "8G", "b": "8G"}
    assert told["requirements"] == {
        "numpy": {"a": "numpy==2.3.0", "b": "NumPy==2.2.0"},
        "scipy": {"a": "scipy", "b": "scipy"},
        "pywavelets": {"a": None, "b": "pywavelets"},
    }
    assert told["metrics"]["peak_hz"] == {"a": 50.0, "b": 49.5}
    assert told["timings"]["code"] == {"a": 91.0, "b": 92.0}
    assert told["timings"]["CPU time"] == {"a": 40.0, "b": 40.0}
    assert set(told["files"]) == {"plot.png", "1.npy", "2.npy"}
    assert told["files"]["2.npy"]["a"] is None
    assert told["files_alike"] == 1


def test_the_page_shows_what_differs_and_figures_beside_each_other(
    web: FlaskClient, pair: tuple[Run, Run]
) -> None:
    a, b = pair
    text = " ".join(web.get(f"/compare?a={a.id}&b={b.id}").get_data(as_text=True).split())
    assert "49.5" in text
    assert "1 alike: channels" in text
    for run in pair:
        assert f'<img src="/runs/{run.id}/files/plot.png"' in text
    assert f'<a href="/compare?a={a.id}&amp;b={b.id}">Compare with run 1</a>' in " ".join(
        web.get(f"/runs/{b.id}").get_data(as_text=True).split()
    )
    assert "Compare with run 2" in web.get(f"/runs/{a.id}").get_data(as_text=True)


def test_what_was_installed_is_compared_where_it_is_known(
    web: FlaskClient, bridge: Bridge, pair: tuple[Run, Run]
) -> None:
    a, b = pair
    address = f"/api/v1/compare?a={a.id}&b={b.id}"
    assert web.get(address).get_json()["installed"]["numpy"] == {"a": "2.3.0", "b": "2.2.0"}
    for lock in staged.here(bridge).run(a).folder.glob("*.lock"):
        lock.unlink()
    assert web.get(address).get_json()["installed"] == {}


def test_only_runs_of_one_project_that_are_there_are_compared(
    web: FlaskClient, bridge: Bridge, pair: tuple[Run, Run]
) -> None:
    other = staged.completed(bridge)
    refused = web.get(f"/api/v1/compare?a={pair[0].id}&b={other.id}")
    assert refused.status_code == 400
    assert "only runs of one project" in refused.get_json()["detail"]
    assert web.get("/api/v1/compare?a=1&b=999").status_code == 404
    for query in ("", "?a=1", "?a=x&b=2"):
        assert web.get(f"/compare{query}").status_code == 400


def test_a_run_alone_has_nothing_beside_it(web: FlaskClient, bridge: Bridge) -> None:
    run = staged.completed(bridge)
    assert "Compare with" not in web.get(f"/runs/{run.id}").get_data(as_text=True)
    assert json.loads(web.get(f"/api/v1/compare?a={run.id}&b={run.id}").data)["files"] == {}
