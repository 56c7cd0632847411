"""Previews of what a run left in output/: made on the node, from an environment of their own.

`run` starts them as a program of its own, once the results are published; it may fail without
harm. `python -m nias_bridge.node.preview OUTPUT_DIR PREVIEWS_DIR [SECONDS]` is the same by hand.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from nias_bridge.node import sandbox

# What the tools environment holds; environment.obtain() builds it like any other.
TOOLS = (
    "h5py>=3.9,<4",
    "isal>=1.5,<2",
    "numpy>=1.26,<3",
    "pillow>=10,<14",
    "pyarrow>=15,<30",
    "scipy>=1.11,<2",
    "soundfile>=0.12,<1",
)

FILES_MAX = 200  # files that are looked at in one run
SECONDS_MAX = 10  # for one file, of CPU and by the clock
ALL_SECONDS_MAX = 60  # for all files together, by the clock
MEMORY_MAX = 1_500_000_000  # bytes one file's preview may hold, beside the file itself mapped
PLOT_BYTES_MAX = 16_000_000  # bytes of one file that a preview writes

_START = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from nias_bridge.node.preview.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def run(
    python: Path,
    program: Path,
    output: Path,
    previews: Path,
    walls: sandbox.Walls,
    *,
    seconds: float = ALL_SECONDS_MAX,
) -> bool:
    """Write previews of the files in `output` into `previews`; False when that did not end well.

    python: of the tools environment. program: the node program, or a folder with the package.
    Takes these seconds, by the clock, and little more at most. Nothing of the researcher's is
    imported: -I keeps Python from the current folder, her home and her variables. Parsers of what
    she left see that and no network. Raises sandbox.Refused.
    """
    command = [str(python), "-I", "-c", _START, str(program), str(output), str(previews)]
    command.append(str(seconds))
    # Of output/ its folder is shown: a link that stands in its place leads to nothing then.
    shown = [python.parent.parent, program, output.parent]
    walls = walls.around(readable=shown, writable=[previews], network=False)
    try:
        previews.mkdir(exist_ok=True)
        done = subprocess.run(
            sandbox.confined(command, walls),
            cwd="/",
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=seconds + 2 * SECONDS_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
