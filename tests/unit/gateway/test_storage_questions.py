"""How often a page asks the storage: each question is a round trip where there is no mount."""

from __future__ import annotations

from dataclasses import replace

import pytest
import staged
from afar import Afar
from flask.testing import FlaskClient

from nias_bridge.http import create_app
from nias_bridge.storage import Storage


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> tuple[Afar, FlaskClient, FlaskClient]:
    """One with a run that went well, somebody's browser and her program."""
    bridge = staged.make_bridge(tmp_path_factory.mktemp("gateway"))
    staged.completed(bridge)
    way = Afar()
    app = create_app(replace(bridge, storage=Storage(way)))
    browser = app.test_client()
    browser.set_cookie(*staged.cookie(app, bridge).values())
    return way, browser, staged.program(app, bridge)


@pytest.mark.parametrize(
    ("address", "most"),
    [
        ("/", 1),
        ("/runs/1", 6),
        ("/api/v1/runs", 0),
        ("/api/v1/runs/1", 4),
        ("/api/v1/runs/1/log?offset=0", 1),
        ("/api/v1/runs/1/files", 4),
        ("/api/v1/runs/1/results.zip", 1),
        ("/api/v1/cluster", 0),
    ],
)
def test_a_page_asks_the_storage_no_more_often_than_this(
    gateway: tuple[Afar, FlaskClient, FlaskClient], address: str, most: int
) -> None:
    way, browser, program = gateway
    way.asked.clear()
    with (program if "/api/" in address else browser).get(address) as answer:
        assert answer.status_code == 200
    assert len(way.asked) <= most, way.asked


def test_a_status_that_has_not_changed_is_one_question(
    gateway: tuple[Afar, FlaskClient, FlaskClient],
) -> None:
    way, _, program = gateway
    known = program.get("/api/v1/runs/1").headers["ETag"]
    way.asked.clear()
    again = program.get("/api/v1/runs/1", headers={"If-None-Match": known})
    assert (again.status_code, way.asked) == (304, ["infos"])
