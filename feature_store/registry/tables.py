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
    Text,
    TypedColumns,
    TypeDecorator,
    UniqueConstraint,
)

from feature_store.clock import to_utc

HEAD = "0005"
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

    name: Named[str] = Column(String(63), primary_key=True, doc="Its name.")
    join_keys: Named[list[list[str]]] = Column(JSON, doc="List of `[column, dtype]`, in the order of an entity id.")
    description: Named[str] = Column(doc="One sentence.")
    created_at: Named[datetime] = Column(UtcTimestamp, doc="When it was registered.")


class FeatureGroupColumns(TypedColumns):
    """Feature groups. `features` lists the references that are not retired, in the catalog's order."""

    name: Named[str] = Column(String(63), primary_key=True, doc="Its name.")
    entity: Named[str] = Column(String(63), ForeignKey("entity.name"), doc="The entity that its features describe.")
    features: Named[list[str]] = Column(JSON, doc="References that are not retired, in the catalog's order.")
    owner: Named[str] = Column(doc="Who is told of what goes wrong.")
    description: Named[str] = Column(doc="The function's docstring.")
    tags: Named[dict[str, str]] = Column(JSON, doc="Free text by name.")
    online_layout: Named[str] = Column(
        String(16), doc="`feature`: a key per feature; `row`: one packed value per entity."
    )
    partitioning: Named[str] = Column(String(16), doc="`daily` or `hourly`.")
    lookback_seconds: Named[int] = Column(BigInteger, doc="How far before a partition its function reads events.")
    code_version: Named[str] = Column(doc="Digest of its function and of what that uses.")
    freshness_seconds: Named[int | None] = Column(
        BigInteger, doc="How old the newest event may be, if that is promised."
    )
    created_at: Named[datetime] = Column(UtcTimestamp, doc="When it was registered.")
    updated_at: Named[datetime] = Column(UtcTimestamp, doc="When something of it last changed.")


class FeatureColumns(TypedColumns):
    """Features, one row per name and version. `position` is the place in the group's schema."""

    id: Named[int] = Column(Integer, primary_key=True, doc="Number of the row.")
    name: Named[str] = Column(String(63), doc="Name without the version.")
    version: Named[int] = Column(doc="From 1.")
    entity_type: Named[str] = Column(String(63), ForeignKey("entity.name"), doc="The entity that it describes.")
    dtype: Named[str] = Column(String(32), doc="`float`, `int`, `decimal[2]`, `list[string]`, `embedding[64]`, ...")
    description: Named[str] = Column(doc="One sentence.")
    owner: Named[str] = Column(doc="That of its group.")
    online_ttl_seconds: Named[int] = Column(
        BigInteger, doc="Time to live: how long after its event a value is visible, in both stores."
    )
    default_value: Named[str | None] = Column(Text, doc="JSON of what readers get for null, if that is declared.")
    tags: Named[dict[str, str]] = Column(JSON, doc="Free text by name.")
    group_name: Named[str] = Column(String(63), ForeignKey("feature_group.name"), doc="The group that computes it.")
    window: Named[dict[str, Any] | None] = Column(
        JSON(none_as_null=True), doc="Function, column and extent of a windowed feature; null for a plain one."
    )
    position: Named[int | None] = Column(doc="Place in the schema of the group.")
    created_at: Named[datetime] = Column(UtcTimestamp, doc="When it was registered.")
    retired_at: Named[datetime | None] = Column(UtcTimestamp, doc="When it was retired; it never comes back.")


class FeatureMonitorColumns(TypedColumns):
    """Measurements of features' distributions, a log."""

    id: Named[int] = Column(Integer, primary_key=True, doc="Number of the row.")
    feature_id: Named[int] = Column(Integer, ForeignKey("feature.id"), doc="What was measured.")
    n: Named[int] = Column(BigInteger, doc="Values in the sample.")
    mean: Named[float | None] = Column(Double, doc="Mean of the values.")
    stddev: Named[float | None] = Column(Double, doc="Standard deviation.")
    null_rate: Named[float | None] = Column(Double, doc="Share of nulls.")
    minimum: Named[float | None] = Column(Double, doc="Least value.")
    maximum: Named[float | None] = Column(Double, doc="Greatest value.")
    psi: Named[float | None] = Column(Double, doc="Population stability index against the baseline.")
    details: Named[dict[str, Any]] = Column(JSON, doc="Histogram and further numbers.")
    computed_at: Named[datetime] = Column(UtcTimestamp, doc="When it was measured.")


class TrainingSetColumns(TypedColumns):
    """Training sets that were written, one row per name and version."""

    id: Named[int] = Column(Integer, primary_key=True, doc="Number of the row.")
    name: Named[str] = Column(String(63), doc="Its name.")
    version: Named[int] = Column(doc="From 1.")
    label_fingerprint: Named[str] = Column(doc="Digest of the labels.")
    features: Named[list[str]] = Column(JSON, doc="References, each with its version.")
    source_files: Named[list[str]] = Column(JSON, doc="The files of the offline store that were read.")
    row_count: Named[int] = Column(BigInteger, doc="Number of rows.")
    baseline: Named[dict[str, Any]] = Column(JSON, doc="Distributions of the features, for drift.")
    path: Named[str] = Column(doc="Where it lies below the offline root, which may be moved.")
    created_at: Named[datetime] = Column(UtcTimestamp, doc="When it was recorded.")


class IncidentColumns(TypedColumns):
    """Incidents, a log: one row from when something went wrong until it was well again. `key` says what it is about."""

    id: Named[int] = Column(Integer, primary_key=True, doc="Number of the row.")
    key: Named[str] = Column(doc="What it is about: `check/spending/null_rate`, `online/store`.")
    finding: Named[dict[str, Any]] = Column(JSON, doc="What was found, for the message.")
    partitions: Named[list[str]] = Column(JSON, doc="The partitions that fail.")
    opened_at: Named[datetime] = Column(UtcTimestamp, doc="When it began.")
    changed_at: Named[datetime] = Column(UtcTimestamp, doc="When it last changed.")
    resolved_at: Named[datetime | None] = Column(UtcTimestamp, doc="When all was well again.")
    notified_at: Named[datetime | None] = Column(UtcTimestamp, doc="When people were last told.")
    pending: Named[str | None] = Column(String(16), doc="The message that still has to be sent, if one has.")
    deliveries: Named[dict[str, Any]] = Column(JSON, doc="Outcome by channel.")


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
