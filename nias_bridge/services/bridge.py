"""What every use case is handed: settings, shared storage, the store, the cluster's accounts, and
who asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from nias_bridge.domain import SubmissionKey
from nias_bridge.errors import NotSignedIn
from nias_bridge.paths import SharedPaths
from nias_bridge.people import NOBODY, Caller, Deed, Person
from nias_bridge.ports import Accounts, Store
from nias_bridge.settings import Settings
from nias_bridge.storage import Storage


@dataclass(frozen=True)
class Bridge:
    """One site's bridge, as one caller meets it. Slurm is not among these: the poller alone
    speaks with it. key: under which the caller's submission is known, where it has one."""

    settings: Settings
    paths: SharedPaths
    storage: Storage
    store: Store
    accounts: Accounts
    who: Caller = NOBODY
    key: SubmissionKey | None = None

    @property
    def person(self) -> Person:
        """Who asks. Raises NotSignedIn where that is nobody."""
        if self.who.person is None:
            raise NotSignedIn("Sign in first.")
        return self.who.person

    def note(self, action: str, *, run_id: int | None = None, detail: str = "") -> None:
        """Write into the audit log what the caller did."""
        self.store.deeds.add(
            Deed(
                at=datetime.now(UTC),
                action=action,
                handle=self.who.person.handle if self.who.person else "",
                via=self.who.via,
                address=self.who.address,
                run_id=run_id,
                detail=detail,
            )
        )
