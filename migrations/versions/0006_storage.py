"""What each run takes on shared storage, and when its files go."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column(
        "runs", sa.Column("stored_bytes", sa.BigInteger(), nullable=False, server_default="0")
    )
    # The poller weighs the runs that were there before.
    op.add_column(
        "runs", sa.Column("weighed", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("runs", sa.Column("leaves_at", INSTANT))
    op.add_column("runs", sa.Column("removed_at", INSTANT))
    op.add_column("runs", sa.Column("removed_by", sa.String(64)))
    op.create_index("ix_runs_weighed", "runs", ["weighed"])
