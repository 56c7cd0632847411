"""A gateway alone, for what asks Slurm nothing: there is none here that it could ask."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from road import enter

from nias_bridge.demo import EXAMPLE, example_zip
from nias_bridge.site import Site, running, set_up, wait_until_served


class Alone(NamedTuple):
    """A gateway that is served, the run that was sent to it, and the number of its process."""

    site: Site
    run: dict[str, Any]
    pid: int


@contextmanager
def gateway(**settings: Any) -> Iterator[Alone]:
    """One with one run; whoever asks it by urllib is signed in."""
    state = Path(tempfile.mkdtemp(prefix="nias-bench-"))
    state.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, state, ignore_errors=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        site = set_up(state, port=port, slurm_conf=Path("/nonexistent"), **settings)
        enter(site)
        process = stack.enter_context(running(site, "serve"))
        wait_until_served(site)
        sent = urllib.request.Request(
            f"{site.url}/api/v1/runs?filename={EXAMPLE}.zip",
            data=example_zip(),
            headers={"Content-Type": "application/zip"},
        )
        with urllib.request.urlopen(sent, timeout=60) as answer:
            yield Alone(site, json.load(answer), process.pid)
