"""What the worker of the tests can do."""

from __future__ import annotations

import os
import time
from typing import NoReturn

from nias_bridge.errors import Rejected
from nias_bridge.slurm.worker import serve


def main(descriptor: int) -> None:
    serve(
        descriptor,
        {
            "pid": os.getpid,
            "add": lambda a, b: a + b,
            "environment": lambda: dict(os.environ),
            "refuse": _refuse,
            "hang": lambda: time.sleep(60),
            "end": os._exit,
        },
    )


def _refuse(why: str) -> NoReturn:
    raise Rejected(why)
