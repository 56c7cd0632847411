"""Datasets: their versions, with whom they are shared, and which runs see them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("runs", sa.Column("datasets", sa.JSON(), nullable=False, server_default="[]"))
    op.create_table(
        "datasets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("name_key", sa.String(64), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_datasets"),
        sa.UniqueConstraint("owner", "name_key", name="uq_datasets_owner_name_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "dataset_versions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("upload", sa.String(32), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("deleted_at", INSTANT),
        sa.Column("cleared", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("id", name="pk_dataset_versions"),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name="fk_dataset_versions_dataset_id"
        ),
        sa.UniqueConstraint("upload", name="uq_dataset_versions_upload"),
        sqlite_autoincrement=True,
    )
    for column in ("dataset_id", "sha256"):
        op.create_index(f"ix_dataset_versions_{column}", "dataset_versions", [column])
    for table, left, right, target in (
        ("dataset_people", "dataset_id", "person_id", "people"),
        ("dataset_groups", "dataset_id", "group_id", "groups"),
        ("dataset_uses", "run_id", "version_id", "dataset_versions"),
    ):
        first = "runs" if left == "run_id" else "datasets"
        op.create_table(
            table,
            sa.Column(left, sa.Integer(), nullable=False),
            sa.Column(right, sa.Integer(), nullable=False),
            sa.PrimaryKeyConstraint(left, right, name=f"pk_{table}"),
            sa.ForeignKeyConstraint([left], [f"{first}.id"], name=f"fk_{table}_{left}"),
            sa.ForeignKeyConstraint([right], [f"{target}.id"], name=f"fk_{table}_{right}"),
        )
        op.create_index(f"ix_{table}_{right}", table, [right])
