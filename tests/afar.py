"""A storage that is mounted, asked as one that is not: files too are read by calls alone."""

from __future__ import annotations

from typing import Any

from nias_bridge.reach import Mounted, Opened, open_afar


class Afar(Mounted):
    """It remembers the operations that were asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def call(self, operation: str, **arguments: Any) -> Any:
        self.asked.append(operation)
        return super().call(operation, **arguments)

    def open(self, path: str) -> Opened:
        return open_afar(self, "begin", path=path)

    def open_beneath(self, root: str, path: str) -> Opened:
        return open_afar(self, "begin_beneath", root=root, path=path)
