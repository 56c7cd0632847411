"""A poller's side that ends a run and tells of it, and kills itself (SIGKILL) on the way.

    python dying_teller.py WHERE SETTINGS    e.g. "after send", and Settings as JSON

WHERE: before or after the run's last move, the count of the try, the mail server's yes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from nias_bridge import mail
from nias_bridge.bootstrap import open_bridge
from nias_bridge.domain import JobState
from nias_bridge.services import outbox
from nias_bridge.settings import Settings


def main() -> None:
    when, what = sys.argv[1].split()
    bridge = open_bridge(Settings(**json.loads(sys.argv[2])))

    def dying(step: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if (when, what) == ("before", step):
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*given, **named)
            if (when, what) == ("after", step):
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    store: Any = bridge.store
    store.move = dying("move", store.move)
    store.outbox.begin = dying("begin", store.outbox.begin)
    mail.send = dying("send", mail.send)
    (run,) = store.open_runs()
    store.move(run, JobState.COMPLETED, at=datetime.now(UTC))
    outbox.deliver(bridge)


if __name__ == "__main__":
    main()
