"""A person's own program is told of her runs: each new state, signed, until it says yes."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from datetime import UTC, datetime

from nias_bridge import webhook
from nias_bridge.errands import Errand, Hook
from nias_bridge.errors import BadRequest, NoAnswer
from nias_bridge.people import Caller, Standing
from nias_bridge.services import desk
from nias_bridge.services.bridge import Bridge

SECRET_PREFIX = "nias_hook_"  # noqa: S105  # so that scanners for leaked secrets know one


def set_hook(bridge: Bridge, url: str) -> Hook:
    """From now on the caller's program at this address is told of her runs; with a new secret.

    Raises BadRequest for an address that can't be told.
    """
    url = url.strip()
    target = webhook.target_of(url)
    try:
        webhook.addresses_of(target, private=bridge.settings.webhook_private)
    except NoAnswer as error:
        raise BadRequest(str(error), "url") from None
    hook = Hook(
        person_id=bridge.person.id,
        url=url,
        secret=SECRET_PREFIX + secrets.token_urlsafe(32),
        created_at=datetime.now(UTC),
    )
    bridge.store.outbox.save_hook(hook)
    bridge.note("webhook set", detail=target.authority)
    return hook


def drop_hook(bridge: Bridge) -> None:
    """The caller's program is told no more."""
    bridge.store.outbox.drop_hook(bridge.person.id)
    bridge.note("webhook dropped")


def tell(bridge: Bridge, errand: Errand) -> None:
    """Tell her program of the state that a run came to. Raises NoAnswer; NotFound, BadRequest
    where that will not change."""
    hook = bridge.store.outbox.hook(errand.person_id or 0)
    person = bridge.store.people.person(errand.person_id or 0)
    if hook is None or person.standing is not Standing.ACTIVE:
        return
    run = desk.find(replace(bridge, who=Caller(person=person)), errand.run_id or 0)
    url = bridge.settings.url
    message = {
        "delivery": errand.id,
        "at": errand.at.isoformat(),
        "run": {
            "id": run.id,
            "project": run.project,
            "number": run.number,
            "state": errand.detail,
            "ended": errand.detail == run.state and run.state.ended,
            "page": f"{url}/runs/{run.id}",
            "api": f"{url}/api/v1/runs/{run.id}",
        },
    }
    body = json.dumps(message, ensure_ascii=False).encode()
    try:
        webhook.post(
            hook.url, body, hook.secret, errand.id, private=bridge.settings.webhook_private
        )
    except (NoAnswer, BadRequest) as error:
        bridge.store.outbox.note_trouble(person.id, str(error))
        raise
    bridge.store.outbox.note_trouble(person.id, "")
