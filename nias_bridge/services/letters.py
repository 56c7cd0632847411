"""What is told by mail: an errand becomes a message, or nothing where there is nobody to tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from email.message import EmailMessage
from pathlib import PurePosixPath
from typing import Any

from nias_bridge import mail
from nias_bridge.domain import JobState, Run
from nias_bridge.errands import Errand, ErrandKind
from nias_bridge.errors import NotFound
from nias_bridge.paths import RunPaths
from nias_bridge.people import Caller, KeyKind, Person, Standing
from nias_bridge.services import desk, keys
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.checkup import diagnosis

PICTURE_MAX_BYTES = 1024 * 1024
PICTURES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".webp": "webp"}
TASKS_LOOKED_AT = 20


def letter(bridge: Bridge, errand: Errand) -> EmailMessage | None:
    """The message that tells of this; None where nobody is to be told (any more)."""
    return LETTERS[errand.kind](bridge, errand)


def _password_asked(bridge: Bridge, errand: Errand) -> EmailMessage | None:
    """The link is made here, where the mail is: no secret waits in the outbox."""
    person = bridge.store.people.find(email=errand.detail) if errand.detail else None
    if person is None or person.standing is Standing.DISABLED:
        return None
    secret = keys.give_link(bridge, KeyKind.PASSWORD, person)
    return _compose(bridge, errand, [person], "password_asked", person=person, secret=secret)


def _registered(bridge: Bridge, errand: Errand) -> EmailMessage | None:
    person = bridge.store.people.person(errand.person_id or 0)
    admins = [
        each
        for each in bridge.store.people.all()
        if each.administers and each.standing is Standing.ACTIVE
    ]
    if person.standing is not Standing.WAITING or not admins:
        return None
    return _compose(bridge, errand, admins, "registered", person=person)


def _confirmed(bridge: Bridge, errand: Errand) -> EmailMessage | None:
    person = bridge.store.people.person(errand.person_id or 0)
    if person.standing is not Standing.ACTIVE:
        return None
    return _compose(bridge, errand, [person], "confirmed", person=person)


def _run_ended(bridge: Bridge, errand: Errand) -> EmailMessage | None:
    person = bridge.store.people.person(errand.person_id or 0)
    if person.standing is not Standing.ACTIVE:
        return None
    hers = replace(bridge, who=Caller(person=person))
    run = desk.find(hers, errand.run_id or 0)
    picture = _first_picture(hers, run)
    message = _compose(
        bridge,
        errand,
        [person],
        "run_ended",
        person=person,
        run=run,
        diagnosis=None if run.state is JobState.COMPLETED else diagnosis(hers, run),
        counts=_counts(bridge, run),
        picture=picture[0] if picture else "",
    )
    if picture:
        path, data = picture
        name = PurePosixPath(path)
        kind = PICTURES[name.suffix.lower()]
        message.add_attachment(data, maintype="image", subtype=kind, filename=name.name)
    return message


LETTERS: dict[ErrandKind, Callable[[Bridge, Errand], EmailMessage | None]] = {
    ErrandKind.PASSWORD_ASKED: _password_asked,
    ErrandKind.REGISTERED: _registered,
    ErrandKind.CONFIRMED: _confirmed,
    ErrandKind.RUN_ENDED: _run_ended,
}


def _compose(
    bridge: Bridge, errand: Errand, to: Sequence[Person], template: str, **words: Any
) -> EmailMessage:
    settings = bridge.settings
    return mail.compose(
        template,
        [person.email for person in to],
        settings.mail_from or "",
        number=f"{errand.at:%Y%m%d%H%M%S}.{errand.id}.nias",
        at=errand.at,
        site=settings.url,
        **words,
    )


def _counts(bridge: Bridge, run: Run) -> str:
    """How the tasks of a sweep ended: “3 COMPLETED, 1 FAILED”."""
    if not run.tasks:
        return ""
    states = bridge.store.task_states(run.id)
    return ", ".join(f"{count} {state}" for state, count in states.most_common())


def _first_picture(bridge: Bridge, run: Run) -> tuple[str, bytes] | None:
    """Path and content of the first picture that is small enough; of a sweep, of its first task."""
    files = bridge.paths.run(run)
    places = [files.task(index) for index in range(min(run.tasks, TASKS_LOOKED_AT))]
    for place in places or [files]:
        found = _picture_in(bridge, place)
        if found:
            return found
    return None


def _picture_in(bridge: Bridge, place: RunPaths) -> tuple[str, bytes] | None:
    listed, _ = desk.left_files(bridge.storage, place)
    for file in listed:
        is_picture = PurePosixPath(file.path).suffix.lower() in PICTURES
        if is_picture and 0 < file.size <= PICTURE_MAX_BYTES:
            try:
                with desk.open_listed(bridge.storage, place, file.path) as opened:
                    data = opened.read(PICTURE_MAX_BYTES + 1)
            except (NotFound, OSError):
                continue
            if len(data) <= PICTURE_MAX_BYTES:  # whatever the list says
                return file.path, data
    return None
