"""A gateway that is served on loopback, and the command `nias` logged in there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import staged
from apiflask import APIFlask
from commanded import Nias, within
from werkzeug.serving import WSGIRequestHandler, make_server

from nias_bridge.client import Client
from nias_bridge.http import create_app
from nias_bridge.http.here import KEY
from nias_bridge.services.bridge import Bridge


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, APIFlask]]:
    """One gateway for all tests, so that its app is made once; each puts a bridge of its own in."""
    app = create_app(staged.make_bridge(tmp_path_factory.mktemp("served")))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.port}", app
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bridge(served: tuple[str, APIFlask], tmp_path: Path) -> Bridge:
    folder = tmp_path / "gateway"
    folder.mkdir()
    made = staged.make_bridge(folder)
    served[1].extensions[KEY] = made
    return made


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's login but the test's own."""
    for name in ("NIAS_URL", "NIAS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def token(bridge: Bridge) -> str:
    return staged.token(bridge)["Authorization"].removeprefix("Bearer ")


@pytest.fixture
def client(served: tuple[str, APIFlask], token: str) -> Client:
    return Client(served[0], token)


@pytest.fixture
def nias(
    served: tuple[str, APIFlask], token: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Nias:
    """The command, logged in, in a folder of its own."""
    monkeypatch.setenv("NIAS_URL", served[0])
    monkeypatch.setenv("NIAS_TOKEN", token)
    return within(tmp_path / "here", monkeypatch)
