"""Runs migrations on the connection that the caller holds, inside the caller's transaction and lock."""

from __future__ import annotations

from alembic import context

from feature_store.registry.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # SQLite cannot alter a table in place: such steps are written as copies.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
