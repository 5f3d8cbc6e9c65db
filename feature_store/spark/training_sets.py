"""Point-in-time joins that never leave Spark: labels from Parquet, the answer into Parquet.

The same rule and the same checks as in `offline.point_in_time`, for label sets that no one machine holds. Groups run
one after another, each with one shuffle; their columns travel with the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.catalog import Catalog, RegisteredGroup, Selection
from feature_store.clock import to_micros, to_utc
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.errors import FeatureStoreError, InvalidRequestError, did_you_mean
from feature_store.offline.footers import naming_corrupt_files
from feature_store.offline.layout import PartitionFile
from feature_store.offline.point_in_time.join import group_history, visible_span
from feature_store.offline.point_in_time.window_read import is_windowed, window_history, window_span, windows_of
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.rows.forms import MAP_VALUE
from feature_store.spark.engine import latest_rows
from feature_store.spark.frames import columns_of, constant, quoted, spark_type
from feature_store.spark.join_output import JoinOutput
from feature_store.spark.label_files import read_labels
from feature_store.spark.latest_rows import AS_OF, FOUND
from feature_store.spark.session import spark_session
from feature_store.spark.windows import with_windows
from feature_store.visibility import Visibility

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

_EXAMPLES = 5
_PATH = "_label_path"
_START = "_label_start"
_ROW = "_label_row"
_POSITION = "_label_position"
_ROWS_PER_FILE = 1_000_000
_INTEGERS = ("tinyint", "smallint", "int", "bigint")
_TIMES = ("timestamp", "timestamp_ntz", "date")


@dataclass(frozen=True, slots=True)
class JoinedFiles:
    """Labels with their features, in Parquet files.

    Attributes:
        path: Folder of the files; sorted by name, they hold the labels' rows in order.
        rows: Number of rows, that of the labels.
    """

    path: str
    rows: int


def join_files(
    store: OfflineStore,
    catalog: Catalog,
    labels: str | Path,
    as_of: str,
    selections: Sequence[Selection],
    output: str | Path,
    *,
    strict: bool = False,
    now: datetime | None = None,
    spark_conf: str | None = None,
) -> JoinedFiles:
    """Joins to each label what was visible at its time; see `offline.point_in_time.join.point_in_time_join`.

    Args:
        store: Holds the history.
        catalog: Holds the groups of the selected features.
        labels: Parquet file or folder: join keys, the time column, any other columns.
        as_of: Name of the time column. Naive times are UTC.
        selections: The features, from `Catalog.select`.
        output: Folder that is made, or an empty one; what an interrupted join has left there is replaced. It is
            complete once it holds `_SUCCESS`.
        strict: Leave out rows that were ingested after the label's time.
        now: The store's present (UTC): later labels are refused. None lets labels lie in the future.
        spark_conf: Settings of the Spark application, where one is started; see `session.spark_session`.

    Returns:
        Where the rows are: the label columns, then one column per selection; one row per label, in order.

    Raises:
        InvalidRequestError: If the labels cannot be answered, or the output is a finished join, or something else
            than what a join has left.
        StorageError: If workers of the cluster do not see the folder of the output.
        CorruptFileError: If a file that is needed is damaged or not its group's.
        FeatureStoreError: If files were replaced while they were read.
    """
    session = spark_session([store.root, str(labels), str(output)], conf=spark_conf)
    target = JoinOutput(session, output)
    target.check()
    given = read_labels(session, labels)
    groups = [catalog.group(name) for name in dict.fromkeys(item.feature.group for item in selections)]
    keys = _checked_columns(given, as_of, groups, selections)
    extent = _checked_values(given, as_of, keys, now)
    joined = _numbered(session, given, given[quoted(as_of)].cast("timestamp").alias(AS_OF))
    reads: list[_Read] = []
    for group in groups if extent.rows else []:
        asked = [item for item in selections if item.feature.group == group.name]
        if is_windowed(asked):
            windows = windows_of(asked)
            span = window_span(extent.oldest, extent.newest, windows)
            files = store.files(group.name, span)
            reads.append(_Read(group.rows, span, files))
            keys_of = tuple(
                joined[quoted(key)].cast(spark_type(dtype)) for key, dtype in group.entity.key_dtypes.items()
            )
            names = [item.label for item in asked]
            joined = with_windows(
                session, joined, keys_of, window_history(group.rows, windows, files, span), names, windows
            )
            continue
        span = visible_span(extent.oldest, extent.newest, asked)
        files = store.files(group.name, span)
        reads.append(_Read(group, span, files))
        history = group_history(group, asked, files, span, strict=strict)
        key_dtypes = group.entity.key_dtypes.items()
        found = None
        if history is not None:
            in_labels, in_given = (
                [frame[quoted(key)].cast(spark_type(dtype)) for key, dtype in key_dtypes] for frame in (joined, given)
            )
            sampled = given.select(*in_given)
            found = latest_rows(session, joined, tuple(in_labels), extent.rows, history, sampled=sampled)
        joined = _with_features(joined, found, asked, () if history is None else history.columns)
    if not extent.rows:
        joined = _with_features(joined, None, selections, ())
    with ExitStack() as stack:
        for read in reads:
            stack.enter_context(naming_corrupt_files(read.group, read.files))
        wanted = [*given.columns, *(item.label for item in selections)]
        target.write(_ordered(session, joined, extent.rows).select(*columns_of(wanted)))
    for read in reads:
        if store.files(read.group.name, read.span) != read.files:
            target.remove()
            raise FeatureStoreError(
                f"Files of feature group {read.group.name!r} were replaced while they were read, nothing was kept: "
                "join again when the materialization has ended."
            )
    return JoinedFiles(str(output), extent.rows)


@dataclass(frozen=True, slots=True)
class _Read:
    group: RegisteredGroup
    span: Window
    files: list[PartitionFile]


@dataclass(frozen=True, slots=True)
class _Extent:
    """Number of labels, and their first and last time in UTC microseconds."""

    rows: int
    oldest: int
    newest: int


def _numbered(session: SparkSession, labels: DataFrame, as_of: Column) -> DataFrame:
    """Returns the labels with their time and their position: files in the order of their paths, rows as they lie."""
    from pyspark.sql import functions as f

    path = "_metadata.file_path"
    counted = labels.groupBy(f.col(path).alias("path")).count().collect()
    counts = sorted((row["path"], row["count"]) for row in counted)
    starts = accumulate((count for _, count in counts), initial=0)
    files = [(file, start) for (file, _), start in zip(counts, starts, strict=False)]
    offsets = f.broadcast(session.createDataFrame(files, f"{_PATH} string, {_START} bigint"))
    return (
        labels.select(
            *columns_of(labels.columns), as_of, f.col(path).alias(_PATH), f.col("_metadata.row_index").alias(_ROW)
        )
        .join(offsets, _PATH)
        .select(*columns_of(labels.columns), AS_OF, (f.col(_START) + f.col(_ROW)).alias(_POSITION))
    )


def _ordered(session: SparkSession, labels: DataFrame, rows: int) -> DataFrame:
    """Returns labels in the order of their positions, cut into tasks of equal size.

    Spark's own sort would compute all labels twice, once to find out where to cut.
    """
    from pyspark.sql import functions as f

    tasks = max(1, session.sparkContext.defaultParallelism, -(-rows // _ROWS_PER_FILE))
    size = max(1, -(-rows // tasks))
    task = f.floor(f.col(_POSITION) / f.lit(size)).cast("int")
    return labels.repartitionById(tasks, task).sortWithinPartitions(_POSITION)


def _with_features(
    labels: DataFrame, found: DataFrame | None, selections: Sequence[Selection], present: Sequence[str]
) -> DataFrame:
    """Returns the labels with a column per selection, null where the latest row is not visible or was not found."""
    from pyspark.sql import functions as f

    columns = []
    for selection in selections:
        feature = selection.feature
        value = f.lit(None).cast(spark_type(feature.dtype))
        if found is not None and feature.ref.column in present:
            age = f.unix_micros(AS_OF) - f.unix_micros(f.col(FOUND)[EVENT_TIMESTAMP])
            stored = f.col(FOUND)[feature.ref.column]
            known = age < f.lit(Visibility.of([feature]).longest)
            if feature.dtype.name == "float":
                known &= ~f.isnan(stored)
            elif feature.dtype.name == "map" and feature.dtype.holds_floats:
                known &= ~f.exists(stored, lambda entry: f.isnan(entry[MAP_VALUE]))
            elif feature.dtype.holds_floats:
                known &= ~f.exists(stored, f.isnan)
            value = f.when(known, stored)
        if feature.default_json is not None:
            value = f.coalesce(value, constant(feature.default, feature.dtype))
        columns.append(value.alias(selection.label))
    return (labels if found is None else found).select(*columns_of(labels.columns), *columns)


def _checked_columns(
    labels: DataFrame, as_of: str, groups: Sequence[RegisteredGroup], selections: Sequence[Selection]
) -> list[str]:
    """Returns the join keys of all entities, after all columns were found to be there and of the right types."""
    types = dict(labels.dtypes)
    taken = [selection.label for selection in selections if selection.label in types]
    reserved = [name for name in (AS_OF, FOUND, _PATH, _START, _ROW, _POSITION) if name in types]
    if taken or reserved:
        raise InvalidRequestError(
            f"The labels have columns with names of requested features or of the join itself: "
            f"{', '.join([*taken, *reserved])}. Rename or drop them, labels are returned untouched."
        )
    if types.get(as_of) not in _TIMES:
        held = f"holds {types[as_of]}" if as_of in types else f"is missing. {did_you_mean(as_of, types)}"
        raise InvalidRequestError(f"Label column {as_of!r}, the time to read features as of, {held}.")
    keys: dict[str, None] = {}
    for entity in {group.entity.name: group.entity for group in groups}.values():
        for key, dtype in entity.key_dtypes.items():
            allowed = _INTEGERS if dtype.name == "int" else (spark_type(dtype),)
            if types.get(key) not in allowed:
                held = f"holds {types[key]}" if key in types else f"is missing. {did_you_mean(key, types)}"
                raise InvalidRequestError(
                    f"Label column {key!r}, a join key of entity {entity.name!r} declared as "
                    f"{entity.join_keys[key].__name__}, {held}."
                )
            keys[key] = None
    return list(keys)


def _checked_values(labels: DataFrame, as_of: str, keys: Sequence[str], now: datetime | None) -> _Extent:
    """Returns what is to be known of the labels, after none was found to be null or to lie in the future."""
    from pyspark.sql import functions as f

    time = labels[quoted(as_of)].cast("timestamp")
    needed = [*keys, as_of]
    counted = labels.agg(
        f.count(f.lit(1)).alias("rows"),
        f.min(f.unix_micros(time)).alias("oldest"),
        f.max(f.unix_micros(time)).alias("newest"),
        *(f.count_if(labels[quoted(column)].isNull()).alias(f"null_{number}") for number, column in enumerate(needed)),
    ).collect()[0]
    for number, column in enumerate(needed):
        if counted[f"null_{number}"]:
            raise InvalidRequestError(
                f"Label column {column!r} is null in {counted[f'null_{number}']} of {counted['rows']} rows "
                f"({_shown(labels.where(labels[quoted(column)].isNull()))}). Drop these rows or fill them in."
            )
    if now is not None and counted["rows"] and counted["newest"] > to_micros(now):
        late = labels.where(time > f.timestamp_micros(f.lit(to_micros(now))))
        raise InvalidRequestError(
            f"Label column {as_of!r}, the time to read features as of, lies after the store's present, "
            f"{to_utc(now).isoformat()}, in {late.count()} of {counted['rows']} rows ({_shown(late)}). What will be "
            "visible then is not known yet: drop these rows, or ask as of the present."
        )
    return _Extent(counted["rows"], counted["oldest"] or 0, counted["newest"] or 0)


def _shown(rows: DataFrame) -> str:
    return ", ".join(str(row.asDict()) for row in rows.limit(_EXAMPLES).collect())
