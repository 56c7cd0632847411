"""Runs the migrations on the connection that nias_bridge.store.schema hands over."""

from __future__ import annotations

from alembic import context

from nias_bridge.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite can't alter most of a table in place
    transactional_ddl=True,  # in both databases, as the connection begins its transactions itself
)
with context.begin_transaction():
    context.run_migrations()
