"""Small feature groups to register, and the present in which they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.definitions.entity import Entity
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.partitions import Partitioning
from feature_store.sources import ParquetSource

if TYPE_CHECKING:
    import polars as pl

NOW = datetime(2013, 6, 1, 12, 30, 15, 123456, tzinfo=UTC)
START = datetime(2013, 1, 1, tzinfo=UTC)
SOURCE = ParquetSource("clicks", Path("unread"), START)
USER = Entity("user", {"user_id": str}, "A person.")


def first(events: pl.LazyFrame) -> pl.LazyFrame:
    return events


def second(events: pl.LazyFrame) -> pl.LazyFrame:
    return events.head(1)


def schema(features: dict[str, Any]) -> type[FeatureSchema]:
    """Returns a schema of columns and their types, or of columns and (type, keywords of `feature`)."""
    members: dict[str, Any] = {"__module__": __name__, "__annotations__": {}}
    for name, declared in features.items():
        kind, options = declared if isinstance(declared, tuple) else (declared, {})
        members["__annotations__"][name] = kind
        members[name] = feature(**{"description": f"The {name}, in units.", **options})
    return type("Schema", (FeatureSchema,), members)


def group(name: str = "user_clicks", features: dict[str, Any] | None = None, **changes: Any) -> FeatureGroup:
    """Returns a feature group; `features` as in `schema`, by default two floats."""
    arguments: dict[str, Any] = {
        "name": name,
        "entity": USER,
        "source": SOURCE,
        "schema": schema(features or {"clicks_7d": float, "late_share": float}),
        "transform": first,
        "lookback": timedelta(days=7),
        "owner": "growth@example.org",
        "description": "What users click.",
        "partitioning": Partitioning.DAILY,
        "start": START,
        "tags": {"team": "growth"},
    }
    return FeatureGroup(**{**arguments, **changes})
