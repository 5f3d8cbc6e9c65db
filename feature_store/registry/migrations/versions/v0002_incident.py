"""Incidents: what is wrong, since when, and who has been told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table."""
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "incident",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("finding", sa.JSON(), nullable=False),
        sa.Column("partitions", sa.JSON(), nullable=False),
        sa.Column("opened_at", instant, nullable=False),
        sa.Column("changed_at", instant, nullable=False),
        sa.Column("resolved_at", instant, nullable=True),
        sa.Column("notified_at", instant, nullable=True),
        sa.Column("pending", sa.String(16), nullable=True),
        sa.Column("deliveries", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_incident"),
    )
    op.create_index("ix_incident_key", "incident", ["key"])


def downgrade() -> None:
    """Drops the table."""
    op.drop_table("incident")
