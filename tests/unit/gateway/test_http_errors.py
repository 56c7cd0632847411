"""Claims about errors as people and programs meet them."""

from __future__ import annotations

import inspect
from html import unescape

import pytest
from flask.testing import FlaskClient

from nias_bridge import errors
from nias_bridge.http import pages
from nias_bridge.http.errors import INTERNAL, STATUS, status_of
from nias_bridge.services import desk

SECRET = "postgresql://nias:hunter2@db/nias"


def test_every_error_has_a_status() -> None:
    named = {kind for _, kind in inspect.getmembers(errors, inspect.isclass)}
    assert {kind for kind in named if issubclass(kind, errors.NiasError)} == set(STATUS)


def test_an_error_of_another_module_has_the_status_of_what_it_is() -> None:
    class Odd(errors.NotFound):
        pass

    assert status_of(Odd("?")) == 404


@pytest.mark.parametrize(("path", "kind"), [("/api/v1/x", "problem+json"), ("/x", "text/html")])
def test_nothing_is_found_as_it_was_asked_for(web: FlaskClient, path: str, kind: str) -> None:
    answer = web.get(path)
    assert answer.status_code == 404
    assert kind in answer.headers["Content-Type"]
    assert "nothing at this address" in answer.get_data(as_text=True)


def test_our_own_script_gets_its_answers_as_json(web: FlaskClient) -> None:
    answer = web.post("/upload", data=b"", headers={"Accept": "application/json"})
    assert answer.status_code == 400
    assert answer.mimetype == "application/problem+json"


def test_a_wrong_method_names_the_right_ones(web: FlaskClient) -> None:
    answer = web.delete("/api/v1/runs")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize("path", ["/runs/1", "/api/v1/runs/1"])
@pytest.mark.parametrize("error", [RuntimeError(SECRET), errors.SettingsError(SECRET)])
def test_what_is_unexpected_says_nothing_of_the_inside(
    web: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str, error: Exception
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(desk, "find", broken)
    monkeypatch.setattr(pages.desk, "log", broken)
    answer = web.get(path)
    assert answer.status_code == 500
    assert INTERNAL in unescape(answer.get_data(as_text=True))
    assert "hunter2" not in answer.get_data(as_text=True)
