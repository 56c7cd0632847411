"""What a run starts: main, arguments and Python, as nias.toml says."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("program", sa.JSON(), nullable=False, server_default="{}"))
