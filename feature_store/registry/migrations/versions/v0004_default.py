"""What readers get for null."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column."""
    op.add_column("feature", sa.Column("default_value", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drops the column."""
    with op.batch_alter_table("feature") as table:
        table.drop_column("default_value")
