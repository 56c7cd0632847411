"""What the tests of pages look at, and through which windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nias_bridge.services.bridge import Bridge

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1200, "height": 900}


@dataclass(frozen=True)
class Live:
    """A gateway that is served, its bridge to change what it shows, and the cookie of a browser
    in which the owner of the staged runs has signed in; cookie_of is that of another's."""

    url: str
    bridge: Bridge
    cookie: dict[str, str]
    cookie_of: Callable[[Bridge], dict[str, str]]
