"""What stands in for requirements.txt is read at upload; what was installed can be had after."""

from __future__ import annotations

import pytest
import staged
from client import zipped
from flask.testing import FlaskClient

from nias_bridge.node import layout
from nias_bridge.services.bridge import Bridge

PROJECT = '[project]\nname = "p"\nversion = "0"\ndependencies = ["numpy>=1.26", "mne"]\n'
SCRIPT = '# /// script\n# dependencies = ["heartpy"]\n# ///\n'


def upload(web: FlaskClient, **files: str) -> tuple[int, dict]:
    content = {"code.py": "", **{name.replace("__", "."): text for name, text in files.items()}}
    answer = web.post(
        "/api/v1/runs?filename=p.zip",
        data=zipped("p", content),
        headers={"Content-Type": "application/zip"},
    )
    return answer.status_code, answer.get_json()


@pytest.mark.parametrize(
    ("files", "asked", "note"),
    [
        ({"pyproject__toml": PROJECT}, ("numpy>=1.26", "mne"), "requirements-of-pyproject"),
        ({"code__py": SCRIPT}, ("heartpy",), "requirements-of-script"),
    ],
    ids=["pyproject", "script"],
)
def test_the_packages_are_known_at_upload_and_written_out_for_the_node(
    web: FlaskClient, bridge: Bridge, files: dict[str, str], asked: tuple[str, ...], note: str
) -> None:
    _, told = upload(web, **files)
    run = bridge.store.run(told["id"])
    assert run.contents.requirements == asked
    assert note in run.contents.notes
    written = staged.here(bridge).run(run).folder / layout.MENDED_REQUIREMENTS
    assert tuple(written.read_text().split()) == asked


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[project", "pyproject.toml is not valid TOML"),
        (PROJECT.replace("mne", "x @ file:///home/a/x"), "pyproject.toml can't be installed"),
    ],
    ids=["broken", "unfit"],
)
def test_what_can_not_be_read_or_installed_is_refused_by_its_file(
    web: FlaskClient, text: str, sentence: str
) -> None:
    status, told = upload(web, pyproject__toml=text)
    assert status >= 400
    assert sentence in told["detail"]


def test_what_was_installed_can_be_downloaded(web: FlaskClient, bridge: Bridge) -> None:
    run = staged.completed(bridge)
    address = f"/runs/{run.id}/requirements.lock"
    assert web.get(address).status_code == 404
    (staged.here(bridge).run(run).folder / layout.LOCK).write_text("numpy==2.2.0\n")
    for each in (address, f"/api/v1{address}"):
        with web.get(each) as answer:
            assert answer.get_data(as_text=True) == "numpy==2.2.0\n"
    assert address in web.get(f"/runs/{run.id}").get_data(as_text=True)
