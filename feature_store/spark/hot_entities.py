"""Entities that have more rows than one task should: which they are, and how their time is cut.

Only speed depends on what is found here: any cut gives the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.clock import to_micros
from feature_store.day_windows import day_window
from feature_store.offline.footers import row_counts
from feature_store.offline.layout import PartitionFile
from feature_store.offline.point_in_time.engine import GroupHistory
from feature_store.spark.frames import key_schema, quoted, uri

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, Row, SparkSession

ROWS_PER_TASK = 4_000_000
"""Rows of one entity that a task should have at most: some seconds of sorting."""

_SAMPLED_ROWS = 4_000_000
_MOST_ENTITIES = 10_000
_MOST_PIECES = 4_096
_COUNT = "_count"


@dataclass(frozen=True)
class Pieces:
    """How the time of hot entities is cut.

    Attributes:
        entities: The join keys of these entities, one row each.
        start: Where the first piece begins, UTC microseconds; it holds all that is earlier, too.
        length: Of each piece, microseconds.
        count: Number of pieces; the last one holds all that is later, too.
    """

    entities: DataFrame
    start: int
    length: int
    count: int

    def of(self, moment: Column) -> Column:
        """Returns the number of the piece that a time belongs to."""
        from pyspark.sql import functions as f

        number = f.floor((f.unix_micros(moment) - f.lit(self.start)) / f.lit(self.length))
        return f.least(f.greatest(number, f.lit(0)), f.lit(self.count - 1)).cast("int")


def find_pieces(
    session: SparkSession, history: GroupHistory, label_keys: DataFrame, labels: int, *, rows_per_task: int
) -> Pieces | None:
    """Returns how the hottest entities of a read are cut, None if every entity fits in a task.

    History is looked at in a sample of its files, spread evenly over time, and by its keys alone.

    Args:
        session: Reads the sample.
        history: The group's history.
        label_keys: The labels' join keys, in order.
        labels: How many labels there are.
        rows_per_task: What fits.
    """
    counts = row_counts(history.group, history.files)
    rows = sum(counts)
    if rows + labels <= rows_per_task:
        return None
    step = -(-rows // _SAMPLED_ROWS) or 1
    sampled = history.files[::step]
    weight = rows / max(1, sum(counts[::step]))
    share = max(1.0, labels / _SAMPLED_ROWS)
    hottest = _hottest(session, history, sampled, weight, _sample(label_keys, share), share, rows_per_task)
    most = max((row[_COUNT] for row in hottest), default=0)
    if not most:
        return None
    keys = list(history.group.entity.join_keys)
    entities = session.createDataFrame([tuple(row[key] for key in keys) for row in hottest], key_schema(history.group))
    start, end = _extent(history.files)
    count = min(_MOST_PIECES, -(-int(most) // rows_per_task) * 2)
    return Pieces(entities, start, -(-(end - start) // count), count)


def _hottest(
    session: SparkSession,
    history: GroupHistory,
    files: Sequence[PartitionFile],
    weight: float,
    labels: DataFrame,
    label_weight: float,
    rows_per_task: int,
) -> list[Row]:
    from pyspark.sql import functions as f

    keys = list(history.group.entity.join_keys)
    of_history = (
        session.read.schema(key_schema(history.group))
        .option("recursiveFileLookup", "true")
        .parquet(*(uri(file.path) for file in files))
        .withColumn(_COUNT, f.lit(weight))
    )
    of_labels = labels.toDF(*keys).withColumn(_COUNT, f.lit(label_weight))
    counted = of_history.union(of_labels).groupBy(*(quoted(key) for key in keys)).agg(f.sum(_COUNT).alias(_COUNT))
    return counted.where(f.col(_COUNT) > rows_per_task).orderBy(f.desc(_COUNT)).limit(_MOST_ENTITIES).collect()


def _sample(labels: DataFrame, share: float) -> DataFrame:
    return labels.sample(fraction=1 / share, seed=0) if share > 1 else labels


def _extent(files: Sequence[PartitionFile]) -> tuple[int, int]:
    extent = day_window(files[0].date, files[-1].date)
    return to_micros(extent.start), to_micros(extent.end)
