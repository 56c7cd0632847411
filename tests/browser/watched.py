"""What the tests of pages look at, and through which windows."""

from __future__ import annotations

from dataclasses import dataclass

from nias_bridge.services.bridge import Bridge

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1200, "height": 900}


@dataclass(frozen=True)
class Live:
    """A gateway that is served, and its bridge to change what it shows."""

    url: str
    bridge: Bridge
