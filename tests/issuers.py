"""A real OpenID provider's program on loopback, and what it says of people."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests


@contextmanager
def provider(port: int, host: str = "127.0.0.1") -> Iterator[str]:
    """The provider's program, up and answering; its address."""
    started = subprocess.Popen(
        [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce"],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the provider did not come up"
                time.sleep(0.05)
        yield f"http://{host}:{port}"
    finally:
        started.terminate()
        started.wait(30)


def vouch(issuer: str, sub: str, **claims: Any) -> None:
    """What the issuer says of her from now on."""
    told = requests.put(f"{issuer}/users/{sub}", json=claims, timeout=30)
    assert told.status_code == 204
