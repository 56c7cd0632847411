"""The gateway's processes: the app behind gunicorn, in workers of many threads each."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from nias_bridge.errors import SettingsError
from nias_bridge.http import create_app, metrics
from nias_bridge.http.patience import PatientWorker
from nias_bridge.services.bridge import Bridge

log = logging.getLogger(__name__)


def serve_app(bridge: Bridge) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError where that would not be safe."""
    settings = bridge.settings
    _refuse_what_is_unsafe()
    log.info("Listening on %s:%d.", settings.host, settings.port)
    figures = Path(tempfile.mkdtemp(prefix="nias-figures-"))
    if settings.workers > 1:
        metrics.share(str(figures))
    app = create_app(bridge)
    # No connection is shared by the processes that are forked now.
    bridge.store.close()
    bridge.storage.close()
    _Server(
        app,
        {
            "bind": f"{settings.host}:{settings.port}",
            "worker_class": PatientWorker,
            "workers": settings.workers,
            "threads": settings.threads,
            "on_exit": lambda _: shutil.rmtree(figures, ignore_errors=True),
            "keepalive": 15,
            "timeout": 120,
            "control_socket_disable": True,
            "forwarder_headers": "",  # no header moves our addresses
        },
    ).run()


def _refuse_what_is_unsafe() -> None:
    if os.geteuid() == 0:
        raise SettingsError(
            "The gateway does not run as root: start it as an account of its own, such as nias."
        )
    if os.environ.get("FLASK_DEBUG") not in (None, "", "0"):
        raise SettingsError(
            "FLASK_DEBUG is set: the debugger would let anybody run code here. Unset it."
        )


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self, app: Any, options: dict[str, Any]) -> None:
        self._app, self._options = app, options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return self._app
