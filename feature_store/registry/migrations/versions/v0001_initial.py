"""The first tables: entities, groups, features, their measurements, and training sets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the tables."""
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "entity",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("join_keys", sa.JSON(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_entity"),
    )
    op.create_table(
        "feature_group",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("entity", sa.String(63), nullable=False),
        sa.Column("features", sa.JSON(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("online_layout", sa.String(16), nullable=False),
        sa.Column("partitioning", sa.String(16), nullable=False),
        sa.Column("lookback_seconds", sa.BigInteger(), nullable=False),
        sa.Column("code_version", sa.String(), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_feature_group"),
        sa.ForeignKeyConstraint(["entity"], ["entity.name"], name="fk_feature_group_entity_entity"),
    )
    op.create_table(
        "feature",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("entity_type", sa.String(63), nullable=False),
        sa.Column("dtype", sa.String(32), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("online_ttl_seconds", sa.BigInteger(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("group_name", sa.String(63), nullable=False),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("retired_at", instant, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_feature"),
        sa.UniqueConstraint("name", "version", name="uq_feature_name_version"),
        sa.ForeignKeyConstraint(["entity_type"], ["entity.name"], name="fk_feature_entity_type_entity"),
        sa.ForeignKeyConstraint(["group_name"], ["feature_group.name"], name="fk_feature_group_name_feature_group"),
        sa.CheckConstraint("version >= 1", name=op.f("ck_feature_version_from_one")),
        sa.CheckConstraint("online_ttl_seconds >= 1", name=op.f("ck_feature_ttl_positive")),
    )
    op.create_table(
        "feature_monitor",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("feature_id", sa.Integer(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        *(
            sa.Column(name, sa.Double(), nullable=True)
            for name in ("mean", "stddev", "null_rate", "minimum", "maximum", "psi")
        ),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("computed_at", instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feature_monitor"),
        sa.ForeignKeyConstraint(["feature_id"], ["feature.id"], name="fk_feature_monitor_feature_id_feature"),
    )
    op.create_index("ix_feature_monitor_feature_id_computed_at", "feature_monitor", ["feature_id", "computed_at"])
    op.create_table(
        "training_set",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("label_fingerprint", sa.String(), nullable=False),
        sa.Column("features", sa.JSON(), nullable=False),
        sa.Column("source_files", sa.JSON(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("baseline", sa.JSON(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("created_at", instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_training_set"),
        sa.UniqueConstraint("name", "version", name="uq_training_set_name_version"),
        sa.CheckConstraint("version >= 1", name=op.f("ck_training_set_version_from_one")),
    )


def downgrade() -> None:
    """Drops the tables, the referring ones first."""
    for table in ("training_set", "feature_monitor", "feature", "feature_group", "entity"):
        op.drop_table(table)
