"""Profiles: the few numbers per partition and feature that checks judge and plots show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.partitions import Window

_NUMERIC = ("float", "int", "bool")


@dataclass(frozen=True, slots=True)
class FeatureProfile:
    """One feature in one partition.

    Attributes:
        null_rate: Share of nulls among the rows, 0 to 1; 0 where there are no rows.
        mean: Mean of the values that are not null; None for other than numbers and booleans.
        stddev: Sample standard deviation of the same values; None below two of them.
        minimum: Least value.
        maximum: Greatest value.
    """

    null_rate: float
    mean: float | None = None
    stddev: float | None = None
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class PartitionProfile:
    """One partition of a feature group.

    Attributes:
        rows: Number of feature rows.
        entities: Number of distinct entities.
        last_event: Greatest event time, UTC; None without rows.
        features: Profile by feature column.
    """

    rows: int
    entities: int
    last_event: datetime | None
    features: Mapping[str, FeatureProfile]


def profile_partitions(group: FeatureGroup, rows: pl.DataFrame, windows: Sequence[Window]) -> list[PartitionProfile]:
    """Profiles the partitions of a pass in one scan of its rows.

    Args:
        group: The feature group; its partitioning cuts the rows.
        rows: Validated feature rows.
        windows: The partitions, one profile each, in this order.
    """
    specs = group.features
    aggregations = [
        pl.len().alias("rows"),
        pl.struct(*group.entity.join_keys).n_unique().alias("entities"),
        pl.col(EVENT_TIMESTAMP).max().alias("last_event"),
    ]
    for position, spec in enumerate(specs):
        column = pl.col(spec.ref.column)
        aggregations.append(column.null_count().alias(f"{position}.nulls"))
        if spec.dtype.name in _NUMERIC:
            number = column.cast(pl.Float64)
            aggregations += [
                number.mean().alias(f"{position}.mean"),
                number.std().alias(f"{position}.stddev"),
                number.min().alias(f"{position}.minimum"),
                number.max().alias(f"{position}.maximum"),
            ]
    every = "1d" if group.partitioning.length.days else "1h"
    table = rows.group_by(pl.col(EVENT_TIMESTAMP).dt.truncate(every).alias("partition")).agg(aggregations)
    by_start = {record["partition"]: record for record in table.iter_rows(named=True)}
    profiles = []
    for window in windows:
        record = by_start.get(window.start)
        if record is None:
            empty = {spec.ref.column: FeatureProfile(null_rate=0.0) for spec in specs}
            profiles.append(PartitionProfile(0, 0, None, empty))
            continue
        features = {
            spec.ref.column: FeatureProfile(
                null_rate=record[f"{position}.nulls"] / record["rows"],
                mean=record.get(f"{position}.mean"),
                stddev=record.get(f"{position}.stddev"),
                minimum=record.get(f"{position}.minimum"),
                maximum=record.get(f"{position}.maximum"),
            )
            for position, spec in enumerate(specs)
        }
        profiles.append(PartitionProfile(record["rows"], record["entities"], record["last_event"], features))
    return profiles
