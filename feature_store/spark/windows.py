"""Windows for labels on Spark: labels and events of an entity meet in one task, which folds them as one machine does.

Entities are dealt into buckets by a hash, so that a task folds many of them at once. All events of an entity lie in
one bucket: an entity with more events than a task can hold needs more memory for each task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.offline.point_in_time.engine import WindowHistory
from feature_store.offline.point_in_time.labels import EntityLabels
from feature_store.offline.point_in_time.window_sweep import folded_rows
from feature_store.rows.polars_schema import polars_type
from feature_store.spark.frames import FILE, ROW, columns_of, quoted, read_history, shuffle_tasks, spark_type
from feature_store.spark.latest_rows import AS_OF
from feature_store.windows.views import Window

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

_BUCKET, _KEY = "_bucket", "_key_"


def with_windows(
    session: SparkSession,
    labels: DataFrame,
    label_keys: tuple[Column, ...],
    history: WindowHistory | None,
    names: Sequence[str],
    windows: Sequence[Window],
) -> DataFrame:
    """Returns the labels' columns, and one for each window.

    Args:
        session: Where to do it.
        labels: Labels with `_as_of`, UTC.
        label_keys: Their join keys, in the entity's order and declared dtypes.
        history: Where to look; None where no file can hold an event of any window.
        names: What the windows' columns are called.
        windows: The windows.
    """
    from pyspark.sql import functions as f

    buckets = session.sparkContext.defaultParallelism if history is None else shuffle_tasks(session, history)
    session.conf.set("spark.sql.shuffle.partitions", str(buckets))
    keys = [f"{_KEY}{number}" for number in range(len(label_keys))]
    bucket = f.pmod(f.xxhash64(*keys), f.lit(buckets)).cast("int").alias(_BUCKET)
    keyed = labels.select("*", *(column.alias(name) for column, name in zip(label_keys, keys, strict=True)))
    dealt = keyed.select("*", bucket)
    types = [f"{quoted(field.name)} {field.dataType.simpleString()}" for field in labels.schema.fields]
    types += [f"{quoted(name)} {spark_type(window.dtype)}" for name, window in zip(names, windows, strict=True)]
    wanted = _Bucket(tuple(labels.columns), tuple(keys), tuple(names), tuple(windows))
    if history is None:
        return dealt.groupBy(_BUCKET).applyInArrow(lambda rows: wanted.folded(rows, pa.table({})), ", ".join(types))
    columns = [*history.group.entity.join_keys, EVENT_TIMESTAMP, INGESTED_AT, FILE, ROW, *history.columns]
    rows = read_history(session, history).select(*columns_of(columns))
    for key, name in zip(history.group.entity.join_keys, keys, strict=True):
        rows = rows.withColumnRenamed(key, name)
    events = rows.select("*", bucket)
    together = dealt.groupBy(_BUCKET).cogroup(events.groupBy(_BUCKET))
    # Spark counts the arguments of a function, and hands a method the key as well.
    return together.applyInArrow(lambda rows, others: wanted.folded(rows, others), ", ".join(types))  # noqa: PLW0108


@dataclass(frozen=True)
class _Bucket:
    """What a task does with one bucket.

    Attributes:
        columns: Columns of the labels.
        keys: Names of the join keys.
        names: What the windows' columns are called.
        windows: The windows.
    """

    columns: tuple[str, ...]
    keys: tuple[str, ...]
    names: tuple[str, ...]
    windows: tuple[Window, ...]

    def folded(self, labels: pa.Table, events: pa.Table) -> pa.Table:
        """Returns labels with their windows."""
        asked = pl.DataFrame(labels.select([*self.keys, AS_OF]))
        if asked.is_empty():
            found = [pl.Series([], dtype=polars_type(window.dtype)) for window in self.windows]
        else:
            rows = pl.DataFrame(events)
            if rows.is_empty():
                rows = asked.head(0).select(*self.keys, *(pl.lit(None, TIMESTAMP_TYPE).alias(n) for n in _TIMES))
            else:
                rows = rows.sort(INGESTED_AT, FILE, ROW, nulls_last=False)
            at = asked[AS_OF].cast(TIMESTAMP_TYPE)
            rows = rows.with_columns(pl.col(*_TIMES).cast(TIMESTAMP_TYPE))
            found = folded_rows(EntityLabels(asked.select(self.keys), at), rows, self.windows)
        answer = labels.select(list(self.columns))
        for name, series in zip(self.names, found, strict=True):
            column = series.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
            answer = answer.append_column(name, column.cast(_plain_type(column.type)))
        return answer


_TIMES = (EVENT_TIMESTAMP, INGESTED_AT)


def _plain_type(dtype: pa.DataType) -> pa.DataType:
    """Returns a type as Spark knows it: without the large forms of texts and lists."""
    if pa.types.is_large_string(dtype):
        return pa.string()
    if pa.types.is_large_list(dtype) or pa.types.is_list(dtype):
        return pa.list_(pa.field("element", _plain_type(dtype.value_type)))
    if pa.types.is_struct(dtype):
        return pa.struct([pa.field(field.name, _plain_type(field.type)) for field in dtype])
    return dtype
