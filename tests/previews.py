"""Run the preview program on a folder, as the node does, and read what it says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from nias_bridge.node import preview, sandbox

PACKAGE = Path(preview.__file__).parents[3]


def previews_of(output: Path) -> dict[str, Any]:
    """The entries of index.json; the pictures lie in `pictures_of(output)`."""
    assert preview.run(Path(sys.executable), PACKAGE, output, pictures_of(output), sandbox.Walls())
    index = json.loads((pictures_of(output) / "index.json").read_text())
    assert index["left_out"] == 0
    return index["files"]


def pictures_of(output: Path) -> Path:
    """Where the pictures and texts are that the entries name."""
    return output.with_name("previews")
