"""The keys under which programs submitted, so that what is sent again makes no second run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select

from nias_bridge.domain import SUBMISSION_KEY_KEPT, SubmissionKey
from nias_bridge.errors import Resubmitted
from nias_bridge.store.tables import submissions


def find(
    connection: Connection, person_id: int, word: str, now: datetime
) -> tuple[SubmissionKey, int] | None:
    """The key as it was sent first, and the id of the run that it made."""
    wanted = select(submissions).where(
        submissions.c.person_id == person_id,
        submissions.c.word == word,
        submissions.c.at > now - SUBMISSION_KEY_KEPT,
    )
    row = connection.execute(wanted).one_or_none()
    if row is None:
        return None
    key = SubmissionKey(person_id=row.person_id, word=row.word, fingerprint=row.fingerprint)
    return key, row.run_id


def remember(
    connection: Connection, inserted: Any, key: SubmissionKey, run_id: int, at: datetime
) -> None:
    """Write down which run a key made. Raises Resubmitted where it has made one already.

    inserted: the database's own INSERT … ON CONFLICT into the table. Who comes with the same key
    at the same time waits there until the other's transaction has ended.
    """
    old = (submissions.c.person_id == key.person_id) & (
        submissions.c.at <= at - SUBMISSION_KEY_KEPT
    )
    connection.execute(delete(submissions).where(old))
    added = connection.execute(
        inserted.values(
            person_id=key.person_id,
            word=key.word,
            fingerprint=key.fingerprint,
            run_id=run_id,
            at=at,
        )
        .on_conflict_do_nothing(index_elements=["person_id", "word"])
        .execution_options(preserve_rowcount=True)
    )
    if added.rowcount != 1:
        raise Resubmitted("This has been submitted already.")
