"""The registry's tables, as the newest migration leaves them.

A change here needs a migration beside it in `migrations/versions/` and the new `HEAD`; a test compares the two.
Queries and rules do not belong here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Named,
    String,
    Table,
    TypedColumns,
    TypeDecorator,
    UniqueConstraint,
)

from feature_store.clock import to_utc

HEAD = "0003"
"""Revision of the newest migration. Known here so that an up-to-date registry is recognized without Alembic."""

VERSION_TABLE = "feature_store_version"
"""Where Alembic notes the revision. Not its default name: Dagster's own storage may share the database."""


class UtcTimestamp(TypeDecorator[datetime]):
    """Instants in UTC with microseconds: aware on the way out on every database, naive taken as UTC on the way in.

    SQLite keeps no time zone and PostgreSQL answers in that of the session; this is where both become UTC.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Converts to UTC before writing."""
        del dialect
        return None if value is None else to_utc(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Converts to aware UTC after reading."""
        del dialect
        return None if value is None else to_utc(value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class EntityColumns(TypedColumns):
    """Entities. `join_keys` is a list of `[column, dtype]` pairs: their order is part of every entity id."""

    name: Named[str] = Column(String(63), primary_key=True)
    join_keys: Named[list[list[str]]] = Column(JSON)
    description: Named[str]
    created_at: Named[datetime] = Column(UtcTimestamp)


class FeatureGroupColumns(TypedColumns):
    """Feature groups. `features` lists the references that are not retired, in the catalog's order."""

    name: Named[str] = Column(String(63), primary_key=True)
    entity: Named[str] = Column(String(63), ForeignKey("entity.name"))
    features: Named[list[str]] = Column(JSON)
    owner: Named[str]
    description: Named[str]
    tags: Named[dict[str, str]] = Column(JSON)
    online_layout: Named[str] = Column(String(16))
    partitioning: Named[str] = Column(String(16))
    lookback_seconds: Named[int] = Column(BigInteger)
    code_version: Named[str]
    freshness_seconds: Named[int | None] = Column(BigInteger)
    created_at: Named[datetime] = Column(UtcTimestamp)
    updated_at: Named[datetime] = Column(UtcTimestamp)


class FeatureColumns(TypedColumns):
    """Features, one row per name and version. `position` is the place in the group's schema."""

    id: Named[int] = Column(Integer, primary_key=True)
    name: Named[str] = Column(String(63))
    version: Named[int]
    entity_type: Named[str] = Column(String(63), ForeignKey("entity.name"))
    dtype: Named[str] = Column(String(32))
    description: Named[str]
    owner: Named[str]
    online_ttl_seconds: Named[int] = Column(BigInteger)
    tags: Named[dict[str, str]] = Column(JSON)
    group_name: Named[str] = Column(String(63), ForeignKey("feature_group.name"))
    position: Named[int | None]
    created_at: Named[datetime] = Column(UtcTimestamp)
    retired_at: Named[datetime | None] = Column(UtcTimestamp)


class FeatureMonitorColumns(TypedColumns):
    """Measurements of features' distributions, a log."""

    id: Named[int] = Column(Integer, primary_key=True)
    feature_id: Named[int] = Column(Integer, ForeignKey("feature.id"))
    n: Named[int] = Column(BigInteger)
    mean: Named[float | None] = Column(Double)
    stddev: Named[float | None] = Column(Double)
    null_rate: Named[float | None] = Column(Double)
    minimum: Named[float | None] = Column(Double)
    maximum: Named[float | None] = Column(Double)
    psi: Named[float | None] = Column(Double)
    details: Named[dict[str, Any]] = Column(JSON)
    computed_at: Named[datetime] = Column(UtcTimestamp)


class TrainingSetColumns(TypedColumns):
    """Training sets that were written, one row per name and version."""

    id: Named[int] = Column(Integer, primary_key=True)
    name: Named[str] = Column(String(63))
    version: Named[int]
    label_fingerprint: Named[str]
    features: Named[list[str]] = Column(JSON)
    source_files: Named[list[str]] = Column(JSON)
    row_count: Named[int] = Column(BigInteger)
    baseline: Named[dict[str, Any]] = Column(JSON)
    path: Named[str]
    created_at: Named[datetime] = Column(UtcTimestamp)


class IncidentColumns(TypedColumns):
    """Incidents, a log: one row from when something went wrong until it was well again. `key` says what it is about."""

    id: Named[int] = Column(Integer, primary_key=True)
    key: Named[str]
    finding: Named[dict[str, Any]] = Column(JSON)
    partitions: Named[list[str]] = Column(JSON)
    opened_at: Named[datetime] = Column(UtcTimestamp)
    changed_at: Named[datetime] = Column(UtcTimestamp)
    resolved_at: Named[datetime | None] = Column(UtcTimestamp)
    notified_at: Named[datetime | None] = Column(UtcTimestamp)
    pending: Named[str | None] = Column(String(16))
    deliveries: Named[dict[str, Any]] = Column(JSON)


entity = Table("entity", metadata, EntityColumns)

feature_group = Table("feature_group", metadata, FeatureGroupColumns)

feature = Table(
    "feature",
    metadata,
    FeatureColumns,
    UniqueConstraint("name", "version"),
    CheckConstraint("version >= 1", name="version_from_one"),
    CheckConstraint("online_ttl_seconds >= 1", name="ttl_positive"),
)

feature_monitor = Table(
    "feature_monitor",
    metadata,
    FeatureMonitorColumns,
    Index(None, "feature_id", "computed_at"),
)

training_set = Table(
    "training_set",
    metadata,
    TrainingSetColumns,
    UniqueConstraint("name", "version"),
    CheckConstraint("version >= 1", name="version_from_one"),
)

incident = Table("incident", metadata, IncidentColumns, Index(None, "key"))
