"""The tables, and how the domain's nouns lie in their columns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)

from nias_bridge.cluster import ClusterView
from nias_bridge.datasets import Mount
from nias_bridge.domain import (
    Contents,
    JobState,
    Native,
    Origin,
    Program,
    Resources,
    SlurmReport,
    Unclaimed,
)
from nias_bridge.people import Quotas


class Instant(TypeDecorator[datetime]):
    """A moment with its time zone; both databases give it back in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:  # SQLite keeps none
            return value.replace(tzinfo=UTC)
        return value and value.astimezone(UTC)


class State(TypeDecorator[JobState]):
    """A state by its name: one that Slurm adds needs no new schema."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: JobState | None, dialect: Dialect) -> str | None:
        return value and value.value

    def process_result_value(self, value: str | None, dialect: Dialect) -> JobState | None:
        return None if value is None else JobState(value)


class From(TypeDecorator[Origin]):
    """How a run came to Slurm, by its name."""

    impl = String(16)
    cache_ok = True

    def process_bind_param(self, value: Origin | None, dialect: Dialect) -> str | None:
        return value and value.value

    def process_result_value(self, value: str | None, dialect: Dialect) -> Origin | None:
        return None if value is None else Origin(value)


class Words(TypeDecorator[str]):
    """Text from anywhere: characters that no database stores become question marks."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return value and value.replace("\0", "?").encode("utf-8", "replace").decode()


class Noun(TypeDecorator[Any]):
    """A frozen dataclass of the domain as JSON.

    What another version wrote can be read: unknown keys are ignored, missing ones take their
    defaults.
    """

    impl = JSON(none_as_null=True)
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind
        self._adapter = TypeAdapter[Any](kind)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else self._adapter.dump_python(value, mode="json")

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else self._adapter.validate_python(value)


# Named by rule, so that a later migration can name what it drops.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False),
    Column("slug", Text, nullable=False),
    # A counter, not the highest number found: a number is never given twice.
    Column("last_number", Integer, nullable=False),
    UniqueConstraint("owner", "name_key"),
    UniqueConstraint("owner", "slug"),
)

# The columns are named as the fields of domain.Run: a row joined with its project is one.
runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", ForeignKey(projects.c.id), nullable=False),
    Column("number", Integer, nullable=False),
    Column("token", String(32), nullable=False, unique=True),
    Column("state", State, nullable=False),
    Column("resources", Noun(Resources), nullable=False),
    Column("contents", Noun(Contents), nullable=False),
    Column("program", Noun(Program), nullable=False, server_default="{}"),
    Column("tasks", Integer, nullable=False, server_default="0"),
    Column("max_parallel", Integer),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("job_id", Integer, index=True),
    Column("submitted_at", Instant),
    Column("submissions", Integer, nullable=False),
    Column("report", Noun(SlurmReport)),
    Column("note", Words, nullable=False),
    Column("missing_since", Instant),
    Column("cancel_asked_at", Instant),
    Column("pinned", Boolean, nullable=False, server_default=false()),
    Column("stored_bytes", BigInteger, nullable=False, server_default="0"),
    Column("weighed", Boolean, nullable=False, server_default=false(), index=True),
    Column("leaves_at", Instant),
    Column("removed_at", Instant),
    Column("removed_by", String(64)),
    Column("version", Integer, nullable=False),
    Column("origin", From, nullable=False, server_default=Origin.WEB.value),
    Column("native", Noun(Native)),
    Column("datasets", Noun(tuple[Mount, ...]), nullable=False, server_default="[]"),
    UniqueConstraint("project_id", "number"),
    Index("ix_runs_newest", "created_at", "id"),
    Index("ix_runs_state", "state", "created_at", "id"),
    sqlite_autoincrement=True,  # an id in somebody's bookmark never becomes another run's
)

# The columns are named as the fields of tasks.Task.
tasks = Table(
    "tasks",
    metadata,
    Column("run_id", ForeignKey(runs.c.id), primary_key=True),
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("parameters", JSON, nullable=False),
    Column("state", State, nullable=False),
    Column("report", Noun(SlurmReport)),
    Column("metrics", JSON, nullable=False),
    Column("note", Words, nullable=False),
    Column("cancel_asked_at", Instant),
)

# Jobs by plain sbatch whose Unix account is linked to nobody.
unclaimed = Table(
    "unclaimed",
    metadata,
    Column("token", String(32), primary_key=True),
    Column("user", String(64), nullable=False, index=True),
    Column("job", Noun(Unclaimed), nullable=False),
)

# Since when jobs by plain sbatch are adopted, and when the accounting was last searched for them.
watch = Table(
    "watch",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("since", Instant, nullable=False),
    Column("looked_at", Instant, nullable=False),
    CheckConstraint("id = 1", name="single"),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey(runs.c.id), nullable=False, index=True),
    Column("at", Instant, nullable=False),
    Column("state", State, nullable=False),
    Column("note", Words, nullable=False),
)

lease = Table(
    "lease",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("holder", Text, nullable=False),
    Column("until", Instant, nullable=False),
    CheckConstraint("id = 1", name="single"),
)

cluster_view = Table(
    "cluster_view",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("view", Noun(ClusterView), nullable=False),
    CheckConstraint("id = 1", name="single"),
)

# The keys under which programs submitted, each with the run that it made.
submissions = Table(
    "submissions",
    metadata,
    Column("person_id", Integer, primary_key=True, autoincrement=False),
    Column("word", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("run_id", ForeignKey(runs.c.id), nullable=False),
    Column("at", Instant, nullable=False),
)

# The columns are named as the fields of people.Person; nobody but the store sees the password.
people = Table(
    "people",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("handle", String(64), nullable=False, unique=True),
    Column("email", Text, nullable=False),
    Column("email_key", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("password", Text),
    Column("role", String(32), nullable=False),
    Column("standing", String(32), nullable=False),
    Column("unix_account", String(64), unique=True),
    Column("subject", Text, unique=True),
    Column("quotas", Noun(Quotas), nullable=False),
    Column("mail", String(8), nullable=False, server_default="none"),
    Column("created_at", Instant, nullable=False),
    sqlite_autoincrement=True,
)

groups = Table(
    "groups",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False, unique=True),
    Column("shares", Boolean, nullable=False),
)

memberships = Table(
    "memberships",
    metadata,
    Column("group_id", ForeignKey(groups.c.id), primary_key=True),
    Column("person_id", ForeignKey(people.c.id), primary_key=True, index=True),
)

# The columns are named as the fields of people.Key; a key that is taken back is a row less.
keys = Table(
    "keys",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("person_id", ForeignKey(people.c.id), index=True),
    Column("run_id", ForeignKey(runs.c.id), index=True),
    Column("name", Words, nullable=False),
    Column("address", Text, nullable=False),
    Column("scope", String(32), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("used_at", Instant),
    sqlite_autoincrement=True,
)

# The audit log. Triggers (in its migration) keep its rows as they are; a run that is gone stays
# named in them.
deeds = Table(
    "deeds",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("action", String(64), nullable=False),
    Column("handle", String(64), nullable=False),
    Column("via", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("run_id", Integer, index=True),
    Column("detail", Words, nullable=False),
    Index("ix_deeds_action", "action", "at"),
    Index("ix_deeds_handle", "handle", "id"),
    sqlite_autoincrement=True,
)

# The columns are named as the fields of errands.Errand. No foreign keys: what is told stays true
# when a run or a person is gone.
outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("at", Instant, nullable=False),
    Column("person_id", Integer, index=True),
    Column("run_id", Integer),
    Column("detail", Words, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due_at", Instant, nullable=False, index=True),
    sqlite_autoincrement=True,
)

# The columns are named as the fields of errands.Hook. The secret is kept as it is: it signs.
hooks = Table(
    "hooks",
    metadata,
    Column("person_id", ForeignKey(people.c.id), primary_key=True, autoincrement=False),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("trouble", Words, nullable=False),
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    Column("name_key", String(64), nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("owner", "name_key"),
    sqlite_autoincrement=True,
)

# The columns are named as the fields of datasets.Version. A version that was deleted keeps its row,
# for the runs that saw it; cleared: nothing of it is left on shared storage that no other has.
dataset_versions = Table(
    "dataset_versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset_id", ForeignKey(datasets.c.id), nullable=False, index=True),
    Column("created_at", Instant, nullable=False),
    Column("filename", Words, nullable=False),
    Column("upload", String(32), nullable=False, unique=True),
    Column("sha256", String(64), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("files", Integer, nullable=False),
    Column("problem", Words, nullable=False),
    Column("deleted_at", Instant),
    Column("cleared", Boolean, nullable=False, server_default=false()),
    sqlite_autoincrement=True,
)

dataset_people = Table(
    "dataset_people",
    metadata,
    Column("dataset_id", ForeignKey(datasets.c.id), primary_key=True),
    Column("person_id", ForeignKey(people.c.id), primary_key=True, index=True),
)

dataset_groups = Table(
    "dataset_groups",
    metadata,
    Column("dataset_id", ForeignKey(datasets.c.id), primary_key=True),
    Column("group_id", ForeignKey(groups.c.id), primary_key=True, index=True),
)

# Which runs see, or saw, which versions.
dataset_uses = Table(
    "dataset_uses",
    metadata,
    Column("run_id", ForeignKey(runs.c.id), primary_key=True),
    Column("version_id", ForeignKey(dataset_versions.c.id), primary_key=True, index=True),
)
