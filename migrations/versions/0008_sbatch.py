"""Runs by plain sbatch, and the jobs among them that nobody has claimed."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("runs", sa.Column("origin", sa.String(16), nullable=False, server_default="web"))
    op.add_column("runs", sa.Column("native", sa.JSON()))
    op.create_index("ix_runs_job_id", "runs", ["job_id"])
    op.create_table(
        "unclaimed",
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("job", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("token", name="pk_unclaimed"),
    )
    op.create_index("ix_unclaimed_user", "unclaimed", ["user"])
    watch = op.create_table(
        "watch",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("looked_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_watch"),
        sa.CheckConstraint("id = 1", name="ck_watch_single"),
    )
    # Jobs from before this moment are none of the bridge's.
    now = datetime.now(UTC)
    op.bulk_insert(watch, [{"id": 1, "since": now, "looked_at": now}])
