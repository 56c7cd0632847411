"""A gateway without a Slurm: a real store, real files, runs put into any state by `staged`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import staged
from apiflask import APIFlask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from nias_bridge.http import create_app
from nias_bridge.http.here import KEY
from nias_bridge.services.bridge import Bridge


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    return staged.make_bridge(tmp_path)


@pytest.fixture(scope="session")
def warm_app(tmp_path_factory: pytest.TempPathFactory) -> APIFlask:
    """One app for all tests, so that its templates are compiled once."""
    return create_app(staged.make_bridge(tmp_path_factory.mktemp("warm")))


@pytest.fixture
def app(warm_app: APIFlask, bridge: Bridge) -> APIFlask:
    warm_app.extensions[KEY] = bridge
    return warm_app


@pytest.fixture
def web(app: APIFlask, bridge: Bridge) -> FlaskClient:
    """A program with a token of the person who owns the staged runs."""
    return staged.program(app, bridge)


@pytest.fixture
def submit(web: FlaskClient) -> Callable[..., TestResponse]:
    """Post a form of one of our pages, with the page's token."""

    def post(path: str, **fields: Any) -> TestResponse:
        page = web.get("/upload").get_data(as_text=True)
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert token
        return web.post(path, data={"csrf_token": token[1], **fields})

    return post
