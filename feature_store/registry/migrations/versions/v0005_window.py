"""What windowed features are folded from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column."""
    op.add_column("feature", sa.Column("window", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drops the column."""
    with op.batch_alter_table("feature") as table:
        table.drop_column("window")
