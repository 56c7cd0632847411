"""What a page shows."""

from __future__ import annotations

from flask.testing import FlaskClient


def page(client: FlaskClient, path: str) -> str:
    """The HTML of a page that is there, with single spaces."""
    answer = client.get(path)
    assert answer.status_code == 200
    return " ".join(answer.get_data(as_text=True).split())
