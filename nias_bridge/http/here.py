"""The bridge that the current request is about."""

from __future__ import annotations

from typing import cast

from flask import current_app

from nias_bridge.services.bridge import Bridge

KEY = "nias_bridge"


def bridge() -> Bridge:
    """The bridge this app was made for; needs an app context."""
    return cast(Bridge, current_app.extensions[KEY])
