"""What a run left in output/: a mapping of paths to what the files hold."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nias_bridge.client.gateway import Gateway, Told, untold
from nias_bridge.client.unpacking import unpacked
from nias_bridge.node.words import counted


@dataclass(frozen=True)
class Found:
    """One file: size in bytes, link to be had by."""

    size: int
    link: str


class Files(Mapping[str, bytes]):
    """The files of a run, or of a task of a sweep, by their paths in output/.

    A file is fetched when it is asked for: files["psd.npz"] is its bytes. `listed` tells the sizes
    without that. Raises KeyError for a file that is not there, Refused and NoAnswer.
    """

    def __init__(self, gateway: Gateway, at: str) -> None:
        self._gateway = gateway
        self._at = at

    @cached_property
    def listed(self) -> Mapping[str, Found]:
        """Size and link of each file, as the gateway told them when it was first asked."""
        told = self._gateway.get(f"{self._at}/files")["files"]
        return {each["path"]: Found(each["size"], each["link"]) for each in told}

    def __getitem__(self, path: str) -> bytes:
        return self._gateway.read(self.listed[path].link)

    def __iter__(self) -> Iterator[str]:
        return iter(self.listed)

    def __len__(self) -> int:
        return len(self.listed)

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'file')}: {', '.join(self)}>"

    def save(self, folder: str | Path = ".", told: Told = untold) -> list[Path]:
        """Write all files into a folder, over earlier ones; returns where each is.

        Of a sweep: those of all tasks, in a folder for each. What is fetched is one zip, so that
        thousands of files come as quickly as one.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".nias-") as beside:
            packed = Path(beside) / "results.zip"
            self.save_zip(packed, told)
            return unpacked(packed, target)

    def save_zip(self, file: str | Path, told: Told = untold) -> Path:
        """Write all files as one zip, to `file`, which is returned."""
        target = Path(file)
        self._gateway.fetch(f"{self._at}/results.zip", target, told)
        return target
