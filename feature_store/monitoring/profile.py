"""Profiles: the numbers of a partition that checks judge and plots show, all of them from one scan of its rows.

A profile is kept in its partition's file, so that later partitions are compared with it and no row is read twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.monitoring.quantiles import Quantiles
from feature_store.partitions import Window

MOST_CATEGORIES = 50
"""Categories that a profile counts by name."""

SKETCHED_ROWS = 131_072
"""Quantiles come from at most so many rows of a partition, evenly spread: a share is then off by less than 0.005."""

_PARTITION = "_partition"
_FOLLOWERS = "_followers"
_COUNT = "_count"


@dataclass(frozen=True, slots=True)
class FeatureProfile:
    """One feature in one partition. What a dtype does not have is None.

    Attributes:
        rows: Number of rows.
        nulls: How many of them are null.
        mean: Mean of the finite values of a number, share of true of a boolean.
        stddev: Sample standard deviation of the same values; None below two of them.
        minimum: Least of them.
        maximum: Greatest of them.
        quantiles: Their distribution; of numbers only.
        categories: The commonest texts, or `true` and `false`, with their counts.
        other: Count of all other texts.
        centroid: Mean vector of embeddings.
        norm_mean: Mean length of embeddings.
        norm_stddev: Sample standard deviation of their lengths.
        repeats: Rows that hold what the row of their entity before them in the partition holds.
    """

    rows: int
    nulls: int
    mean: float | None = None
    stddev: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    quantiles: Quantiles | None = None
    categories: Mapping[str, int] | None = None
    other: int = 0
    centroid: tuple[float, ...] | None = None
    norm_mean: float | None = None
    norm_stddev: float | None = None
    repeats: int = 0

    @property
    def null_rate(self) -> float:
        """Share of nulls among the rows, 0 to 1; 0 where there are no rows."""
        return self.nulls / self.rows if self.rows else 0.0

    @property
    def known(self) -> int:
        """Number of rows that are not null."""
        return self.rows - self.nulls


@dataclass(frozen=True, slots=True)
class PartitionProfile:
    """One partition of a feature group.

    Attributes:
        rows: Number of feature rows.
        entities: Number of distinct entities.
        last_event: Greatest event time, UTC; None without rows.
        features: Profile by feature column.
        followers: Rows that have another row of their entity before them in the partition, among the rows that
            `repeats` was counted in: all of them, or in large partitions those of some entities.
    """

    rows: int
    entities: int
    last_event: datetime | None
    features: Mapping[str, FeatureProfile] = field(default_factory=dict)
    followers: int = 0


def profile_partitions(group: FeatureGroup, rows: pl.DataFrame, windows: Sequence[Window]) -> list[PartitionProfile]:
    """Profiles the partitions of a pass in one scan of its rows.

    Args:
        group: The feature group; its partitioning cuts the rows.
        rows: Validated feature rows.
        windows: The partitions, one profile each, in this order.
    """
    every = "1d" if group.partitioning.length.days else "1h"
    placed = rows.with_columns(pl.col(EVENT_TIMESTAMP).dt.truncate(every).alias(_PARTITION))
    dtypes = {spec.ref.column: spec.dtype for spec in group.features}
    table = placed.group_by(_PARTITION).agg(
        pl.len().alias("rows"),
        # Distinct hashes of 64 bits: of a million entities one is missed in one count of fifty million.
        pl.struct(*list(group.entity.join_keys)).hash().n_unique().alias("entities"),
        pl.col(EVENT_TIMESTAMP).max().alias("last_event"),
        *(expression for column, dtype in dtypes.items() for expression in _aggregations(column, dtype)),
    )
    found = {record[_PARTITION]: record for record in _records(table)}
    repeats: dict[datetime, Mapping[str, int]] = {}
    if any(record["rows"] > record["entities"] for record in found.values()):
        repeats = _repeats(list(group.entity.join_keys), list(dtypes), placed)
    profiles = []
    for window in windows:
        record = found.get(window.start)
        if record is None:
            empty = {column: FeatureProfile(rows=0, nulls=0) for column in dtypes}
            profiles.append(PartitionProfile(0, 0, None, empty))
            continue
        repeated = repeats.get(window.start, {})
        features = {
            column: _feature_profile(column, dtype, record, repeated.get(column, 0)) for column, dtype in dtypes.items()
        }
        followers = repeated.get(_FOLLOWERS, 0)
        profiles.append(PartitionProfile(record["rows"], record["entities"], record["last_event"], features, followers))
    return profiles


def profile_values(columns: Mapping[str, Dtype], values: pl.DataFrame) -> dict[str, FeatureProfile]:
    """Profiles columns of values that belong to no partition, such as a sample of what is online."""
    aggregations = [expression for column, dtype in columns.items() for expression in _aggregations(column, dtype)]
    table = (
        values.select(pl.lit(0).alias(_PARTITION), pl.all())
        .group_by(_PARTITION)
        .agg(pl.len().alias("rows"), *aggregations)
    )
    record = next(_records(table), None)
    if record is None:
        return {column: FeatureProfile(rows=0, nulls=0) for column in columns}
    return {column: _feature_profile(column, dtype, record, 0) for column, dtype in columns.items()}


def _records(table: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Yields rows as dicts; sorted samples stay series, which become arrays without a copy."""
    series = {column.name: column for column in table}
    nested = {name for name, column in series.items() if name.endswith(".sorted")}
    plain = table.drop(nested)
    for number, record in enumerate(plain.iter_rows(named=True)):
        yield {**record, **{name: series[name][number] for name in nested}}


def _aggregations(column: str, dtype: Dtype) -> list[pl.Expr]:
    value = pl.col(column)
    aggregations = [value.null_count().alias(f"{column}.nulls")]
    if dtype.name in {"float", "int", "bool"}:
        number = value.cast(pl.Float64)
        finite = number.filter(number.is_finite()) if dtype.name == "float" else number
        aggregations += [
            finite.mean().alias(f"{column}.mean"),
            finite.std().alias(f"{column}.stddev"),
            finite.min().alias(f"{column}.minimum"),
            finite.max().alias(f"{column}.maximum"),
        ]
    if dtype.name in {"float", "int"}:
        step = pl.len() // SKETCHED_ROWS + 1
        spread = value.filter(pl.int_range(pl.len()) % step == 0).cast(pl.Float64)
        aggregations.append(spread.filter(spread.is_finite()).sort().implode().alias(f"{column}.sorted"))
    elif dtype.name in {"string", "bool"}:
        counted = value.drop_nulls().cast(pl.String).value_counts(sort=True, name=_COUNT)
        aggregations += [
            counted.head(MOST_CATEGORIES).implode().alias(f"{column}.categories"),
        ]
    elif dtype.name == "embedding":
        norm = value.drop_nulls().arr.to_list().list.eval(pl.element().cast(pl.Float64) ** 2).list.sum().sqrt()
        aggregations += [
            *(
                value.arr.get(position).cast(pl.Float64).mean().alias(f"{column}.{position}")
                for position in range(dtype.dimension or 0)
            ),
            norm.mean().alias(f"{column}.norm_mean"),
            norm.std().alias(f"{column}.norm_stddev"),
        ]
    return aggregations


def _feature_profile(column: str, dtype: Dtype, record: Mapping[str, Any], repeats: int) -> FeatureProfile:
    rows, nulls = record["rows"], record[f"{column}.nulls"]
    if dtype.name in {"float", "int"}:
        sample: pl.Series = record[f"{column}.sorted"]
        return FeatureProfile(
            rows=rows,
            nulls=nulls,
            **{name: record[f"{column}.{name}"] for name in ("mean", "stddev", "minimum", "maximum")},
            quantiles=Quantiles.of(sample.to_numpy()),
            repeats=repeats,
        )
    if dtype.name in {"string", "bool"}:
        counted = {entry[column]: entry[_COUNT] for entry in record[f"{column}.categories"]}
        return FeatureProfile(
            rows=rows,
            nulls=nulls,
            mean=record.get(f"{column}.mean"),
            categories=counted,
            other=rows - nulls - sum(counted.values()),
            repeats=repeats,
        )
    if dtype.name == "embedding":
        means = [record[f"{column}.{position}"] for position in range(dtype.dimension or 0)]
        return FeatureProfile(
            rows=rows,
            nulls=nulls,
            centroid=None if None in means or not np.isfinite(means).all() else tuple(means),
            norm_mean=record[f"{column}.norm_mean"],
            norm_stddev=record[f"{column}.norm_stddev"],
            repeats=repeats,
        )
    return FeatureProfile(rows=rows, nulls=nulls, repeats=repeats)


def _repeats(keys: list[str], columns: list[str], placed: pl.DataFrame) -> dict[datetime, Mapping[str, int]]:
    """Returns per partition and column how many rows repeat the value of their entity's row before them.

    Of large partitions whole entities are left out, by a hash of their keys. `_followers` counts the rows that have
    another one before them.
    """
    step = pl.len().over(_PARTITION) // SKETCHED_ROWS + 1
    follows = pl.all_horizontal(*(pl.col(key) == pl.col(key).shift() for key in (_PARTITION, *keys)))
    table = (
        placed.lazy()
        .select(_PARTITION, *keys, EVENT_TIMESTAMP, *columns)
        .filter(pl.struct(*keys).hash() % step == 0)
        .sort(_PARTITION, *keys, EVENT_TIMESTAMP)
        .select(
            _PARTITION,
            follows.alias(_FOLLOWERS),
            *((follows & pl.col(column).eq_missing(pl.col(column).shift())).alias(column) for column in columns),
        )
        .group_by(_PARTITION)
        .agg(pl.col(_FOLLOWERS, *columns).sum())
        .collect()
    )
    return {record[_PARTITION]: record for record in table.iter_rows(named=True)}
