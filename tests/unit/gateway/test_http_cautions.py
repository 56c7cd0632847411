"""Claims about what is told of a project's code before any wait."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable

import pytest
from client import zipped
from flask.testing import FlaskClient
from staged import here
from werkzeug.test import TestResponse

from nias_bridge.domain import Run
from nias_bridge.node import environment, soundness, sources
from nias_bridge.services import foresight
from nias_bridge.services.bridge import Bridge

Submit = Callable[..., TestResponse]
CODE = "import cv2, numpy\nimport lab_tools\nx = open('C:/Users/ana/emg.csv')\n"


def newest(bridge: Bridge) -> Run:
    return bridge.store.open_runs()[-1]


def held(web: FlaskClient, submit: Submit, files: dict[str, str]) -> tuple[str, str]:
    """The address of a held upload, and its page."""
    answer = submit("/upload", file=(io.BytesIO(zipped("emg", files)), "emg.zip"))
    assert answer.status_code == 303
    found = answer.headers["Location"]
    return found, " ".join(web.get(found).get_data(as_text=True).split())


def test_packages_that_are_missing_are_added_at_a_word(
    web: FlaskClient, submit: Submit, bridge: Bridge
) -> None:
    found, page = held(web, submit, {"code.py": CODE, "requirements.txt": "numpy==2.3.0"})
    assert "<code>import cv2</code> needs the line <code>opencv-python-headless</code>" in page
    assert "<code>import lab_tools</code> is neither in the project nor" in page
    assert "C:/Users/ana/emg.csv</code>" in page
    assert "(code.py, line 3)" in page
    assert "import numpy</code>" not in page
    assert submit(found, add="1").status_code == 303
    run = newest(bridge)
    assert run.contents.requirements == ("numpy==2.3.0", "opencv-python-headless")
    mended = here(bridge).run(run).mended_requirements
    assert mended.read_text() == "numpy==2.3.0\nopencv-python-headless\n"
    assert [each.text for each in run.contents.cautions] == ["lab_tools", "C:/Users/ana/emg.csv"]


def test_a_warning_stops_nobody(web: FlaskClient, submit: Submit, bridge: Bridge) -> None:
    found, page = held(web, submit, {"code.py": CODE})
    assert "Run it as it is" in page
    assert submit(found).status_code == 303
    assert not here(bridge).run(newest(bridge)).mended_requirements.exists()


def test_programs_are_warned_alike(web: FlaskClient) -> None:
    files = {"code.py": CODE, "requirements.txt": "numpy\n"}
    for add, told in ((0, ["cv2", "lab_tools", "C:/Users/ana/emg.csv"]), (1, ["lab_tools"])):
        name = f"emg{add}"
        query = f"filename={name}.zip&add={add}"
        run = web.post(f"/api/v1/runs?{query}", data=zipped(name, files)).get_json()
        assert [warning["text"] for warning in run["warnings"]][: len(told)] == told
    again = web.get(f"/api/v1/runs/{run['id']}").get_json()
    assert again["warnings"][0] == {
        "kind": "missing", "text": "lab_tools", "package": "", "path": "code.py", "line": 2,
    }  # fmt: skip


def test_lines_are_mended_and_packages_added_in_one_go(
    web: FlaskClient, submit: Submit, bridge: Bridge
) -> None:
    found, _ = held(web, submit, {"code.py": CODE, "requirements.txt": "numpy==2.3.0+local\n"})
    assert submit(found, add="1", mend="1").status_code == 303
    assert newest(bridge).contents.requirements == ("numpy==2.3.0", "opencv-python-headless")


def test_modules_that_are_not_read_are_there_all_the_same(
    web: FlaskClient, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "FILE_MAX_BYTES", 100)
    files = {
        "code.py": "import tables_, fast\n",
        "tables_.py": f"# {'long' * 40}\nimport cv2\n",
        "fast.cpython-311-x86_64-linux-gnu.so": "",
    }
    assert "requirements.txt does not bring" not in held(web, submit, files)[1]


def test_the_python_of_the_nodes_decides_what_is_standard(bridge: Bridge) -> None:
    assert foresight.nodes_python(bridge) == ((3, 9), (3, 14)), "nothing was built yet"
    for age, version in ((60, "3.9.2"), (0, "3.12.1"), (30, "3.13.0")):
        key = version.replace(".", "")
        record = here(bridge).environments / key / soundness.RECORD
        record.parent.mkdir(parents=True)
        record.write_text(json.dumps({"python": version}))
        used = record.stat().st_mtime - age
        use = record.parent.with_suffix(environment.USE)
        use.touch()
        os.utime(use, (used, used))
    assert foresight.nodes_python(bridge) == ((3, 12),)
