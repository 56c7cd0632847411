"""What a file is taken for, by its name, and which module knows how to look into it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import NamedTuple, Optional


class Kind(NamedTuple):
    """A kind of file; `module` has `preview(file, desk)`, or is None where a size is all."""

    name: str
    module: Optional[str]
    suffixes: str


# The most interesting first: in this order files get their share of the time.
KINDS = (
    Kind("image", "pictures", ".png .jpg .jpeg .gif .webp .tif .tiff .bmp"),
    Kind("edf", "edf", ".edf .bdf"),
    Kind("audio", "sound", ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .au .w64 .caf"),
    Kind("array", "numpyfiles", ".npy .npz"),
    Kind("mat", "matlab", ".mat"),
    Kind("hdf5", "hdf5", ".h5 .hdf5 .hdf .he5 .nc4"),
    Kind("table", "tables", ".csv .tsv .parquet"),
    Kind("notebook", "notebook", ".ipynb"),
    Kind("json", "texts", ".json .geojson"),
    Kind("markdown", "texts", ".md .markdown"),
    Kind(
        "text", "texts", ".txt .log .out .err .dat .jsonl .toml .yaml .yml .ini .cfg .tex .py .m .r"
    ),
    Kind("pdf", None, ".pdf"),
    Kind("html", None, ".html .htm"),
    Kind("other", None, ""),
)
_BY_SUFFIX = {suffix: kind for kind in KINDS for suffix in kind.suffixes.split()}
_OTHER = KINDS[-1]


def kind_of(path: str) -> Kind:
    """The kind of a file of this name."""
    return _BY_SUFFIX.get(PurePosixPath(path).suffix.lower(), _OTHER)
