"""The bridge that the current request is about, as its caller meets it."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from flask import current_app, g

from nias_bridge.people import NOBODY, Caller
from nias_bridge.services.bridge import Bridge

KEY = "nias_bridge"


def bridge() -> Bridge:
    """The bridge this app was made for, asked by this request's caller; needs an app context."""
    return replace(cast(Bridge, current_app.extensions[KEY]), who=caller())


def caller() -> Caller:
    """Who sent the current request, as far as is known yet."""
    return cast(Caller, g.get("caller", NOBODY))
