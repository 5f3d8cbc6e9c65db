"""Profiles: the numbers of a partition that checks judge and plots show, all of them from one scan of its rows.

A profile is kept in its partition's file, so that later partitions are compared with it and no row is read twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from feature_store.conversion import any_element
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.hash_sampling import one_in
from feature_store.monitoring.categories import BUCKETS, bucket_column
from feature_store.monitoring.quantiles import Quantiles
from feature_store.partitions import Partitioning, Window
from feature_store.rows.forms import MAP_VALUE

MOST_CATEGORIES = 50
"""Categories that a profile counts by name."""

SKETCHED_ROWS = 131_072
"""Quantiles come from at most so many rows of a partition, evenly spread: a share is then off by less than 0.005."""

_TEXTS = frozenset({"string", "bool"})
"""Dtypes whose values are compared as categories."""

_NUMBERS = frozenset({"float", "int", "date", "decimal", "list", "map"})
"""Dtypes whose values are compared as numbers: dates as days since 1970, lists and maps as their lengths."""

_BUCKET = "_bucket."
"""Before the name of a column stands here the bucket of its texts."""

_PARTITION = "_partition"
_FOLLOWERS = "_followers"
_COUNT = "_count"


@dataclass(frozen=True, slots=True)
class FeatureProfile:
    """One feature in one partition. What a dtype does not have is None.

    Attributes:
        rows: Number of rows.
        nulls: How many of them are null.
        infinite: How many of them hold an infinite number; in an embedding, list or map, one suffices.
        mean: Mean of the finite values of a number, date (days since 1970) or decimal, share of true of a boolean, mean
            length of lists and maps without infinities.
        stddev: Sample standard deviation of the same values; None below two of them.
        minimum: Least of them.
        maximum: Greatest of them.
        quantiles: Their distribution; of numbers, dates, decimals and lengths only.
        categories: The commonest texts, or `true` and `false`, with their counts.
        other: Count of all other texts.
        buckets: Counts of all texts by their hash, see `monitoring.categories`.
        centroid: Mean vector of embeddings without infinities.
        norm_mean: Mean length of embeddings.
        norm_stddev: Sample standard deviation of their lengths.
        repeats: Rows that hold what the row of their entity before them in the partition holds.
        elements: The elements of all lists or maps together, as if each were a row.
    """

    rows: int
    nulls: int
    infinite: int = 0
    mean: float | None = None
    stddev: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    quantiles: Quantiles | None = None
    categories: Mapping[str, int] | None = None
    other: int = 0
    buckets: tuple[int, ...] | None = None
    centroid: tuple[float, ...] | None = None
    norm_mean: float | None = None
    norm_stddev: float | None = None
    repeats: int = 0
    elements: FeatureProfile | None = None

    @property
    def null_rate(self) -> float:
        """Share of nulls among the rows, 0 to 1; 0 where there are no rows."""
        return self.nulls / self.rows if self.rows else 0.0

    @property
    def infinite_rate(self) -> float:
        """Share of infinities among the rows, 0 to 1; 0 where there are no rows."""
        return self.infinite / self.rows if self.rows else 0.0

    @property
    def missing(self) -> int:
        """Number of rows that are null or infinite."""
        return self.nulls + self.infinite

    @property
    def missing_rate(self) -> float:
        """Share of nulls and infinities among the rows, 0 to 1; 0 where there are no rows."""
        return self.missing / self.rows if self.rows else 0.0

    @property
    def known(self) -> int:
        """Number of rows that are neither null nor infinite."""
        return self.rows - self.missing


_NOTHING = FeatureProfile(rows=0, nulls=0)


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
    dtypes = {spec.ref.column: spec.dtype for spec in group.features}
    return profile_rows(group.entity.join_keys, dtypes, group.partitioning, rows, windows)


def profile_rows(
    join_keys: Iterable[str],
    dtypes: Mapping[str, Dtype],
    partitioning: Partitioning,
    rows: pl.DataFrame,
    windows: Sequence[Window],
) -> list[PartitionProfile]:
    """Profiles partitions; see `profile_partitions`.

    Args:
        join_keys: Columns that identify the entity.
        dtypes: Dtype by feature column.
        partitioning: Cuts the rows.
        rows: The rows.
        windows: The partitions, one profile each, in this order.
    """
    keys = list(join_keys)
    every = "1d" if partitioning.length.days else "1h"
    placed = rows.with_columns(pl.col(EVENT_TIMESTAMP).dt.truncate(every).alias(_PARTITION))
    table = (
        _with_buckets(placed, dtypes)
        .group_by(_PARTITION)
        .agg(
            pl.len().alias("rows"),
            # Distinct hashes of 64 bits: of a million entities one is missed in one count of fifty million.
            pl.struct(*keys).hash().n_unique().alias("entities"),
            pl.col(EVENT_TIMESTAMP).max().alias("last_event"),
            *(expression for column, dtype in dtypes.items() for expression in _aggregations(column, dtype)),
        )
    )
    found = {record[_PARTITION]: record for record in _records(table)}
    elements = {column: _elements(placed, column, dtype.element) for column, dtype in dtypes.items() if dtype.element}
    repeats: dict[datetime, Mapping[str, int]] = {}
    if any(record["rows"] > record["entities"] for record in found.values()):
        repeats = _repeats(keys, list(dtypes), placed)
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
        for column, by_partition in elements.items():
            features[column] = replace(features[column], elements=by_partition.get(window.start, _NOTHING))
        followers = repeated.get(_FOLLOWERS, 0)
        profiles.append(PartitionProfile(record["rows"], record["entities"], record["last_event"], features, followers))
    return profiles


def profile_values(columns: Mapping[str, Dtype], values: pl.DataFrame) -> dict[str, FeatureProfile]:
    """Profiles columns of values that belong to no partition, such as a sample of what is online."""
    aggregations = [expression for column, dtype in columns.items() for expression in _aggregations(column, dtype)]
    placed = values.select(pl.lit(0).alias(_PARTITION), pl.all())
    table = _with_buckets(placed, columns).group_by(_PARTITION).agg(pl.len().alias("rows"), *aggregations)
    record = next(_records(table), None)
    if record is None:
        return {column: FeatureProfile(rows=0, nulls=0) for column in columns}
    profiles = {column: _feature_profile(column, dtype, record, 0) for column, dtype in columns.items()}
    for column, dtype in columns.items():
        if dtype.element is not None:
            elements = _elements(placed, column, dtype.element).get(0, _NOTHING)
            profiles[column] = replace(profiles[column], elements=elements)
    return profiles


def _elements(placed: pl.DataFrame, column: str, dtype: Dtype) -> dict[Any, FeatureProfile]:
    """Returns per partition the profile of the elements of a column of lists or maps."""
    flat = placed.select(_PARTITION, column).filter(pl.col(column).list.len() > 0).explode(column)
    if isinstance(flat.schema[column], pl.Struct):
        flat = flat.with_columns(pl.col(column).struct.field(MAP_VALUE).alias(column))
    counted = _with_buckets(flat, {column: dtype}).group_by(_PARTITION)
    table = counted.agg(pl.len().alias("rows"), *_aggregations(column, dtype))
    return {record[_PARTITION]: _feature_profile(column, dtype, record, 0) for record in _records(table)}


def _records(table: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Yields rows as dicts; sorted samples stay series, which become arrays without a copy."""
    series = {column.name: column for column in table}
    nested = {name for name, column in series.items() if name.endswith(".sorted")}
    plain = table.drop(nested)
    for number, record in enumerate(plain.iter_rows(named=True)):
        yield {**record, **{name: series[name][number] for name in nested}}


def _with_buckets(rows: pl.DataFrame, dtypes: Mapping[str, Dtype]) -> pl.DataFrame:
    texts = [column for column, dtype in dtypes.items() if dtype.name in _TEXTS]
    return rows.with_columns(bucket_column(rows[column].cast(pl.String)).alias(_BUCKET + column) for column in texts)


def _aggregations(column: str, dtype: Dtype) -> list[pl.Expr]:
    value = pl.col(column)
    aggregations = [value.null_count().alias(f"{column}.nulls")]
    number = _number(value, dtype)
    if dtype.name in _NUMBERS and dtype.holds_floats:
        aggregations.append(number.is_infinite().sum().alias(f"{column}.infinite"))
    if dtype.name in _NUMBERS or dtype.name == "bool":
        finite = number.filter(number.is_finite()) if dtype.holds_floats else number
        aggregations += [
            finite.mean().alias(f"{column}.mean"),
            finite.std().alias(f"{column}.stddev"),
            finite.min().alias(f"{column}.minimum"),
            finite.max().alias(f"{column}.maximum"),
        ]
    if dtype.name in _NUMBERS:
        step = pl.len() // SKETCHED_ROWS + 1
        spread = number.filter(pl.int_range(pl.len()) % step == 0)
        aggregations.append(spread.filter(spread.is_finite()).sort().implode().alias(f"{column}.sorted"))
    elif dtype.name in _TEXTS:
        counted = value.drop_nulls().cast(pl.String).value_counts(sort=True, name=_COUNT)
        bucketed = pl.col(_BUCKET + column)
        aggregations += [
            counted.head(MOST_CATEGORIES).implode().alias(f"{column}.categories"),
            *((bucketed == number).sum().alias(f"{column}.bucket.{number}") for number in range(BUCKETS)),
        ]
    elif dtype.name == "embedding":
        elements = value.arr.to_list().list
        finite = elements.eval(pl.element().is_finite()).list.all()
        vector = value.filter(finite)
        norm = vector.arr.to_list().list.eval(pl.element().cast(pl.Float64) ** 2).list.sum().sqrt()
        aggregations += [
            (~finite).sum().alias(f"{column}.infinite"),
            *(
                vector.arr.get(position).cast(pl.Float64).mean().alias(f"{column}.{position}")
                for position in range(dtype.dimension or 0)
            ),
            norm.mean().alias(f"{column}.norm_mean"),
            norm.std().alias(f"{column}.norm_stddev"),
        ]
    return aggregations


def _number(value: pl.Expr, dtype: Dtype) -> pl.Expr:
    """Returns values as the numbers that they are compared as; a list or map that holds an infinity as infinite."""
    if dtype.element is None:
        return (value.to_physical() if dtype.name == "date" else value).cast(pl.Float64)
    length = value.list.len().cast(pl.Float64)
    if not dtype.holds_floats:
        return length
    holds_infinity = any_element(value, dtype, lambda element: element.is_infinite())
    return pl.when(holds_infinity).then(pl.lit(float("inf"))).otherwise(length)


def _feature_profile(column: str, dtype: Dtype, record: Mapping[str, Any], repeats: int) -> FeatureProfile:
    rows, nulls, infinite = record["rows"], record[f"{column}.nulls"], record.get(f"{column}.infinite", 0)
    if dtype.name in _NUMBERS:
        sample: pl.Series = record[f"{column}.sorted"]
        mean, stddev, least, most = (
            _finite(record[f"{column}.{name}"]) for name in ("mean", "stddev", "minimum", "maximum")
        )
        return FeatureProfile(
            rows=rows,
            nulls=nulls,
            infinite=infinite,
            mean=mean,
            stddev=stddev,
            minimum=least,
            maximum=most,
            quantiles=Quantiles.of(sample.to_numpy()),
            repeats=repeats,
        )
    if dtype.name in _TEXTS:
        counted = {entry[column]: entry[_COUNT] for entry in record[f"{column}.categories"]}
        return FeatureProfile(
            rows=rows,
            nulls=nulls,
            mean=record.get(f"{column}.mean"),
            categories=counted,
            other=rows - nulls - sum(counted.values()),
            buckets=tuple(record[f"{column}.bucket.{number}"] for number in range(BUCKETS)),
            repeats=repeats,
        )
    if dtype.name == "embedding":
        means = [record[f"{column}.{position}"] for position in range(dtype.dimension or 0)]
        return FeatureProfile(
            rows=rows,
            nulls=nulls,
            infinite=infinite,
            centroid=None if None in means or not np.isfinite(means).all() else tuple(means),
            norm_mean=record[f"{column}.norm_mean"],
            norm_stddev=record[f"{column}.norm_stddev"],
            repeats=repeats,
        )
    return FeatureProfile(rows=rows, nulls=nulls, repeats=repeats)


def _finite(value: float | None) -> float | None:
    """Returns a moment; numbers near the greatest have none."""
    return value if value is not None and np.isfinite(value) else None


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
        .filter(one_in(step, keys))
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
