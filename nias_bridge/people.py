"""The nouns of who asks: people, the keys by which they are known, and what each may do."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from nias_bridge.domain import Run


class Role(StrEnum):
    """What a person is to the site."""

    RESEARCHER = "researcher"
    ADMINISTRATOR = "administrator"


class Standing(StrEnum):
    """Whether a person may come in."""

    WAITING = "waiting"  # for an administrator's word
    ACTIVE = "active"
    DISABLED = "disabled"


class MailWish(StrEnum):
    """Of which ends of her runs a person is told by mail."""

    NONE = "none"
    FAILED = "failed"  # neither COMPLETED nor CANCELLED
    ALL = "all"


class Scope(StrEnum):
    """How far a key reaches; each scope includes those above it."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"

    def reaches(self, other: Scope) -> bool:
        """Whether this includes the other."""
        scopes = list(Scope)
        return scopes.index(self) >= scopes.index(other)


@dataclass(frozen=True, kw_only=True)
class Quotas:
    """A person's own limits; None leaves it to the site's settings.

    stored_bytes: of all her runs and datasets; open_runs: queued and running; cpu_hours: in a
    calendar month; upload_bytes: of one zip.
    """

    stored_bytes: int | None = None
    open_runs: int | None = None
    cpu_hours: float | None = None
    upload_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Used:
    """What somebody has of the site: bytes on shared storage (of runs and datasets together, and of
    datasets alone), runs (all, and those that have not ended), and seconds of CPUs that Slurm gave
    to runs, whether or not they used them."""

    stored_bytes: int = 0
    dataset_bytes: int = 0
    runs: int = 0
    open_runs: int = 0
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Admission:
    """Whether somebody may have more: `judge` raises where she may not, by what she has.

    since: from when on her seconds of CPUs count.
    """

    since: datetime
    judge: Callable[[Used], None]


@dataclass(frozen=True, kw_only=True)
class NewPerson:
    """A person before the store has her."""

    handle: str
    email: str
    name: str
    role: Role = Role.RESEARCHER
    standing: Standing = Standing.WAITING
    subject: str | None = None


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody with an account.

    handle: the path-safe word that runs have as their owner; unix_account: the account on the
    cluster that the administrator linked; subject: who she is to the university's own sign-in;
    quotas: her own limits; mail: of which ends of her runs she is told.
    """

    id: int
    handle: str
    email: str
    name: str
    role: Role
    standing: Standing
    created_at: datetime
    unix_account: str | None = None
    subject: str | None = None
    quotas: Quotas = Quotas()
    mail: MailWish = MailWish.NONE

    @property
    def administers(self) -> bool:
        return self.role is Role.ADMINISTRATOR


@dataclass(frozen=True, kw_only=True)
class UnixAccount:
    """An account of the machines that jobs run on, as these know it.

    groups: the names of all that it is in; shadow: the fields of its line in the shadow database,
    () where who asked may not read it; own: whether it is the bridge's own.
    """

    name: str
    uid: int
    shell: str
    groups: frozenset[str]
    shadow: tuple[str, ...] = ()
    own: bool = False


@dataclass(frozen=True, kw_only=True)
class Vouched:
    """Somebody as the university's own sign-in tells of her.

    subject: its issuer and her number there, "issuer|sub"; verified: it says that the address is
    hers; signed_in_at: when she last showed there who she is, where that is told.
    """

    subject: str
    email: str
    verified: bool
    name: str
    groups: frozenset[str]
    signed_in_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Group:
    """People who belong together; where it shares, they see each other's results."""

    id: int
    name: str
    shares: bool
    members: tuple[str, ...] = ()


class KeyKind(StrEnum):
    """What a secret is good for."""

    SESSION = "session"  # a browser that signed in
    TOKEN = "token"  # noqa: S105  # a program
    SIGN_IN = "sign-in"  # a link that signs in, once
    PASSWORD = "password"  # noqa: S105  # a link that sets a password, once
    INVITATION = "invitation"  # a link to register by, once
    SHARE = "share"  # a link that shows one run


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A key before the store has it; the secret itself is kept by nobody, only its hash."""

    kind: KeyKind
    hash: str
    created_at: datetime
    expires_at: datetime
    person_id: int | None = None
    run_id: int | None = None
    name: str = ""
    address: str = ""
    scope: Scope = Scope.ADMIN


@dataclass(frozen=True, kw_only=True)
class Key:
    """A secret by which somebody is known, until it expires, is used up or is taken back.

    name: what its owner calls it, or the browser it is in; used_at: when it was last used.
    """

    id: int
    kind: KeyKind
    created_at: datetime
    expires_at: datetime
    person_id: int | None
    run_id: int | None
    name: str
    address: str
    scope: Scope
    used_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Deed:
    """One line of the audit log: who did what to which run, from where, known by which key."""

    at: datetime
    action: str
    handle: str = ""
    via: str = ""
    address: str = ""
    run_id: int | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks: a person (None: nobody signed in), by which key, from where.

    sees: the owners whose results she may look at beside her own; links: the runs that share
    links have shown her. administers: looks at all runs.
    """

    person: Person | None = None
    scope: Scope = Scope.READ
    via: str = ""
    address: str = ""
    sees: frozenset[str] = field(default_factory=frozenset)
    links: frozenset[int] = field(default_factory=frozenset)

    @property
    def administers(self) -> bool:
        """Whether this is an administrator, by a key that reaches so far."""
        return bool(self.person and self.person.administers and self.scope is Scope.ADMIN)

    def owns(self, run: Run) -> bool:
        return self.person is not None and run.owner == self.person.handle

    def may_see(self, run: Run) -> bool:
        """Whether the run exists, to this caller."""
        return self.owns(run) or self.administers or run.owner in self.sees or run.id in self.links


NOBODY = Caller()

HANDLE_MAX = 32
EMAIL_MAX = 254
PERSON_NAME_MAX = 100
_EMAIL = re.compile(r"[^\s@<>()\[\],;:\\\"]+@[^\s@<>()\[\],;:\\\"]+\.[^\s@<>()\[\],;:\\\".]{2,}\Z")


def email_address(text: str) -> str:
    """An e-mail address as it is kept; raises ValueError with what is wrong."""
    email = unicodedata.normalize("NFC", text.strip())
    if len(email) > EMAIL_MAX or not _EMAIL.match(email) or not email.isprintable():
        raise ValueError("is not an e-mail address; write name@example.org")
    return email


def email_key(email: str) -> str:
    """What makes two addresses the same one: whatever the case."""
    return unicodedata.normalize("NFKC", email).casefold()


def person_name(text: str) -> str:
    """A person's name as it is kept; raises ValueError with what is wrong."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not 1 <= len(name) <= PERSON_NAME_MAX:
        raise ValueError(f"has {len(name)} characters; a name has 1 to {PERSON_NAME_MAX}")
    if not name.isprintable():
        raise ValueError("has characters that can't be shown")
    return name


def handle_of(email: str) -> str:
    """The path-safe word made of an address: a-z, 0-9, - and _; at most HANDLE_MAX - 4 of them."""
    local = unicodedata.normalize("NFKD", email.partition("@")[0]).encode("ascii", "ignore")
    word = re.sub(r"[^a-z0-9_]+", "-", local.decode().casefold()).strip("-_")
    return word[: HANDLE_MAX - 4].rstrip("-_") or "researcher"
