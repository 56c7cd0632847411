"""The gateway's process: the app behind gunicorn, threads in one worker."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.app.base import BaseApplication

from nias_bridge.http import create_app
from nias_bridge.http.patience import PatientWorker
from nias_bridge.services.bridge import Bridge

log = logging.getLogger(__name__)


def serve_app(bridge: Bridge) -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = bridge.settings
    log.info("Listening on %s:%d. There is no login yet.", settings.host, settings.port)
    _Server(
        create_app(bridge),
        {
            "bind": f"{settings.host}:{settings.port}",
            "worker_class": PatientWorker,
            "threads": settings.threads,
            "keepalive": 15,
            "timeout": 120,
            "control_socket_disable": True,
            "forwarder_headers": "",  # no header moves our addresses
        },
    ).run()


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self, app: Any, options: dict[str, Any]) -> None:
        self._app, self._options = app, options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return self._app
