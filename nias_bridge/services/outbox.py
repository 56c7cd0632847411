"""What waits in the outbox is told, again and again until it was; nobody waits for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from nias_bridge import mail
from nias_bridge.errands import Errand, ErrandKind
from nias_bridge.errors import BadRequest, NoAnswer, NotFound, Undeliverable
from nias_bridge.services import hooks
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.letters import LETTERS, letter

log = logging.getLogger(__name__)

MOST = 200  # errands a round
ROUND_SECONDS = 20.0  # after which a line makes way for what came meanwhile
# Longer than a try takes: another poller could begin one that is still under way.
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=1)
GIVEN_UP_AFTER = timedelta(days=1)


def _now() -> datetime:
    return datetime.now(UTC)


def deliver(bridge: Bridge, clock: Callable[[], datetime] = _now) -> None:
    """Tell all that is due.

    Each try is counted before it is made, and the errand is gone once it was told: a process that
    dies in between tells it once more, under the same number.
    """
    lines: dict[Hashable, list[Errand]] = {}
    for errand in bridge.store.outbox.due(now=clock(), most=MOST):
        lines.setdefault(_line(errand), []).append(errand)
    if lines:
        # Who does not answer keeps only his own line waiting.
        with ThreadPoolExecutor(min(len(lines), 4), "outbox") as pool:
            list(pool.map(lambda line: _deliver_line(bridge, line, clock), lines.values()))


def _line(errand: Errand) -> Hashable:
    return errand.person_id if errand.kind is ErrandKind.RUN_MOVED else "mail"


def _deliver_line(bridge: Bridge, line: Sequence[Errand], clock: Callable[[], datetime]) -> None:
    deadline = time.monotonic() + ROUND_SECONDS
    for errand in line:
        if time.monotonic() > deadline:
            return
        if not bridge.store.outbox.begin(errand, again_at=clock() + _wait(errand.tries)):
            continue
        if _told(bridge, errand) or clock() - errand.at > GIVEN_UP_AFTER:
            bridge.store.outbox.done(errand.id)
        elif errand.kind is ErrandKind.RUN_MOVED:
            return  # in their order: what came later waits behind it


def _told(bridge: Bridge, errand: Errand) -> bool:
    """Whether there is nothing more to do about it."""
    try:
        TELL[errand.kind](bridge, errand)
        return True
    except Undeliverable as error:
        log.warning("Given up, “%s” (errand %d): %s", errand.kind, errand.id, error)
        return True
    except NoAnswer as error:
        log.warning("Not told yet, “%s” (errand %d): %s", errand.kind, errand.id, error)
    except (NotFound, BadRequest) as error:  # the run is gone, or where its owner was told
        log.warning("Not told, “%s” (errand %d): %s", errand.kind, errand.id, error)
        return True
    except Exception:  # one errand that fails does not hold up the others
        log.exception("Not told yet, “%s” (errand %d).", errand.kind, errand.id)
    return False


def _by_mail(bridge: Bridge, errand: Errand) -> None:
    url = bridge.settings.smtp_url
    message = letter(bridge, errand) if url else None
    if url and message:
        mail.send(url, message)


TELL: dict[ErrandKind, Callable[[Bridge, Errand], None]] = {
    **dict.fromkeys(LETTERS, _by_mail),
    ErrandKind.RUN_MOVED: hooks.tell,
}


def _wait(tries: int) -> timedelta:
    return min(LONGEST_WAIT, FIRST_WAIT * float(2 ** min(tries, 10)))
