"""Groups, rows and clocks that the tests of the online store share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import polars as pl

from feature_store.catalog import Catalog, Feature, RegisteredGroup
from feature_store.clock import FixedClock
from feature_store.definitions.dtypes import FLOAT, Dtype
from feature_store.definitions.entity import Entity
from feature_store.definitions.names import FeatureRef
from feature_store.rows.polars_schema import polars_type

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
"""A moment of the past, as replays of history see it."""

LayoutName = Literal["feature", "row"]
LAYOUTS: tuple[LayoutName, ...] = ("feature", "row")

USER = Entity("user", {"user_id": str})
DAY = 86_400


class LiveClock(FixedClock):
    """Stands still, and says that it moves with the wall clock: servers then expire keys by themselves."""

    is_live = True


def at(seconds: float = 0, micros: int = 0) -> datetime:
    """Returns a moment relative to `NOON`."""
    return NOON + timedelta(seconds=seconds, microseconds=micros)


def group(
    features: Mapping[str, tuple[Dtype, int]] | None = None,
    *,
    name: str = "activity",
    entity: Entity = USER,
    layout: LayoutName = "feature",
) -> RegisteredGroup:
    """Returns a group of features given as column -> (dtype, time to live in seconds)."""
    declared = features if features is not None else {"clicks": (FLOAT, DAY)}
    records = tuple(
        Feature(
            id=number,
            ref=FeatureRef.from_column(column),
            entity=entity.name,
            dtype=dtype,
            description="",
            owner="team",
            online_ttl_seconds=ttl,
            tags={},
            group=name,
            created_at=NOON,
        )
        for number, (column, (dtype, ttl)) in enumerate(declared.items(), 1)
    )
    return RegisteredGroup(name, entity, records, "team", "", layout, "daily", 0, "0", NOON)


def frame(of: RegisteredGroup, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Returns rows of a group; `ingested_at` is the event's time where a row does not say."""
    types = {column: polars_type(dtype) for column, dtype in of.entity.key_dtypes.items()}
    types |= {"event_timestamp": pl.Datetime("us", "UTC")}
    types |= {feature.ref.column: polars_type(feature.dtype) for feature in of.features}
    types |= {"ingested_at": pl.Datetime("us", "UTC")}
    full = [{"ingested_at": row["event_timestamp"], **row} for row in rows]
    return pl.DataFrame(full, schema=types, orient="row")


def catalog(*groups: RegisteredGroup) -> Catalog:
    return Catalog.of(groups)
