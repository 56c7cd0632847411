"""The recipes of the first page, done as they stand there."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import staged
from flask.testing import FlaskClient

from nias_bridge.services import intake
from nias_bridge.services.bridge import Bridge

SYSTEMS = ["Linux and macOS", "Colab and Kaggle"]


def recipe(web: FlaskClient, system: str) -> str:
    page = web.get("/").get_data(as_text=True)
    found = re.search(rf'aria-label="Commands for {system}">(.*?)</pre>', page, re.DOTALL)
    assert found
    # A notebook hands a line with a ! to the shell.
    return re.sub(r"^!", "", html.unescape(found[1]), flags=re.MULTILINE)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_recipe_makes_a_zip_that_is_taken_and_anew_without_what_is_gone(
    web: FlaskClient, bridge: Bridge, tmp_path: Path, system: str
) -> None:
    if not shutil.which("zip") and os.environ.get("CI") != "true":
        pytest.skip("no zip here: apt-get install zip")
    project = tmp_path / "my-project"
    project.mkdir()
    (project / "code.py").write_text("print(1)\n")
    (project / "old.csv").write_text("1\n")
    # pip itself is not what is tried here, and takes seconds.
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("pip", "python3"):
        (tools / name).write_text("#!/bin/sh\necho iniconfig==2.0.0\n")
        (tools / name).chmod(0o755)

    def made() -> intake.Judged:
        path = f"{tools}:{os.environ['PATH']}"
        commands = ["sh", "-eu", "-c", recipe(web, system)]
        subprocess.run(commands, cwd=tmp_path, env={"PATH": path}, check=True, capture_output=True)
        part = staged.arrived(bridge, (tmp_path / "my-project.zip").read_bytes())
        return intake.look_at_held(bridge, intake.hold(bridge, part, "my-project.zip"))

    judged = made()
    assert judged.project == "my-project"
    assert judged.contents.requirements == ("iniconfig==2.0.0",)
    assert {file.path for file in judged.files} == {"code.py", "old.csv", "requirements.txt"}
    (project / "old.csv").unlink()
    assert "old.csv" not in {file.path for file in made().files}
