"""Previews of what a run left in output/: made on the node, from an environment of their own.

`python -m nias_bridge.node.preview OUTPUT_DIR PREVIEWS_DIR` writes index.json and the files that
it names into PREVIEWS_DIR. It runs once the results are published and may fail without harm.
"""

from __future__ import annotations

# What the tools environment holds; environment.obtain() builds it like any other.
TOOLS = (
    "h5py>=3.9,<4",
    "isal>=1.5,<2",
    "numpy>=1.26,<3",
    "pillow>=10,<14",
    "pyarrow>=15,<30",
    "pyedflib>=0.1.36,<0.2",
    "scipy>=1.11,<2",
    "soundfile>=0.12,<1",
)

FILES_MAX = 200  # files that are looked at in one run
SECONDS_MAX = 10  # for one file, of CPU and by the clock
ALL_SECONDS_MAX = 60  # for all files together, by the clock
MEMORY_MAX = 1_500_000_000  # bytes one file's preview may hold, beside the file itself mapped
PLOT_BYTES_MAX = 16_000_000  # bytes of one file that a preview writes
