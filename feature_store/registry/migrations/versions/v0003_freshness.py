"""How fresh a group is promised to be."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column."""
    op.add_column("feature_group", sa.Column("freshness_seconds", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Drops the column."""
    with op.batch_alter_table("feature_group") as table:
        table.drop_column("freshness_seconds")
