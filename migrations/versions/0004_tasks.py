"""Sweeps: how many tasks a run has, and the tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("tasks", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("max_parallel", sa.Integer()))
    op.create_table(
        "tasks",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("report", sa.JSON()),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("cancel_asked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("run_id", "index", name="pk_tasks"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_tasks_run_id"),
    )
