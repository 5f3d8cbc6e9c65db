"""The plan that finds latest rows on Spark: the union of labels and history, in one window by entity.

One shuffle, by entity; no join, so that an entity with many labels and many rows costs their sum and never their
product. Entities with more rows than one task should have are cut by time: each piece starts with the latest row of
the pieces before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.spark.frames import FILE, ROW, columns_of

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from feature_store.spark.hot_entities import Pieces

AS_OF = "_as_of"
FOUND = "_found"
_ENTITY_KEY = "_key_{}"
_PIECE = "_piece"
_TIME = "_time"
_IS_LABEL = "_is_label"
_LABEL = "_label"
_BEST = "_best"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one group.

    Attributes:
        labels: Any columns, among them the keys, and `_as_of`, the time.
        history: Keys, times, features, `_file` and `_row`; see `frames.read_history`.
        label_keys: The entity's join keys as the labels' columns hold them, in the declared dtypes.
        keys: Join keys.
        columns: Feature columns.
        strict: Whether a row counts only once it was ingested.
        pieces: How entities with very many rows are cut; None if there are none.
    """

    labels: DataFrame
    history: DataFrame
    label_keys: tuple[Column, ...]
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    strict: bool
    pieces: Pieces | None = None


def with_latest_rows(question: Question) -> DataFrame:
    """Returns the labels' columns and `_found`: the latest row's `event_timestamp` and features, null if there is none.

    Which row is the latest is said in `PointInTimeEngine.latest`. Rows come in no order.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    keys = [_ENTITY_KEY.format(number) for number in range(len(question.keys))]
    rows = _with_pieces(_history_rows(question, keys), question.pieces, keys)
    label_type = question.labels.schema
    row_type = rows.schema[_BEST].dataType
    labels = question.labels.select(
        *(column.alias(key) for key, column in zip(keys, question.label_keys, strict=True)),
        f.col(AS_OF).alias(_TIME),
        f.lit(None).cast(row_type).alias(_BEST),
        f.struct(*columns_of(question.labels.columns)).alias(_LABEL),
    )
    labels = _with_pieces(labels, question.pieces, keys)
    if question.pieces is not None:
        rows = rows.unionByName(_carried(rows, question.pieces, keys))
    union = rows.withColumn(_LABEL, f.lit(None).cast(label_type)).unionByName(labels)
    # A label comes after the rows of its own instant: what happened then is visible.
    is_label = f.col(_LABEL).isNotNull()
    entity = Window.partitionBy(*keys, _PIECE)
    until_now = (Window.unboundedPreceding, Window.currentRow)
    if question.strict:
        # In the order in which rows became known, the latest event so far is not the last row.
        found = f.max(_BEST).over(entity.orderBy(_TIME, is_label).rowsBetween(*until_now))
    else:
        by_rule = [f.col(_BEST)[part] for part in (INGESTED_AT, FILE, ROW)]
        ordered = entity.orderBy(_TIME, is_label, *by_rule).rowsBetween(*until_now)
        found = f.last(_BEST, ignorenulls=True).over(ordered)
    answer = (EVENT_TIMESTAMP, *question.columns)
    return (
        union.select(_LABEL, found.alias(_BEST))
        .where(f.col(_LABEL).isNotNull())
        .select(
            f"{_LABEL}.*",
            f.when(
                f.col(_BEST).isNotNull(), f.struct(*(f.col(_BEST).getField(part).alias(part) for part in answer))
            ).alias(FOUND),
        )
    )


def _history_rows(question: Question, keys: list[str]) -> DataFrame:
    """Returns the history as keys, the time from which a row counts, and the row, its deciding parts first."""
    from pyspark.sql import functions as f

    history = question.history
    counts_from = f.col(EVENT_TIMESTAMP)
    if question.strict:
        history = history.where(f.col(INGESTED_AT).isNotNull())
        counts_from = f.greatest(EVENT_TIMESTAMP, INGESTED_AT)
    row = f.struct(*columns_of((EVENT_TIMESTAMP, INGESTED_AT, FILE, ROW, *question.columns)))
    return history.select(
        *(column.alias(alias) for column, alias in zip(columns_of(question.keys), keys, strict=True)),
        counts_from.alias(_TIME),
        row.alias(_BEST),
    )


def _with_pieces(frame: DataFrame, pieces: Pieces | None, keys: list[str]) -> DataFrame:
    """Returns a frame with the number of the piece that a row belongs to: 0 unless its entity is cut."""
    from pyspark.sql import functions as f

    if pieces is None:
        return frame.withColumn(_PIECE, f.lit(0))
    hot = f.broadcast(pieces.entities.toDF(*keys).withColumn("_is_hot", f.lit(True)))
    piece = f.when(f.col("_is_hot"), pieces.of(f.col(_TIME))).otherwise(f.lit(0))
    return frame.join(hot, keys, "left").withColumn(_PIECE, piece).drop("_is_hot")


def _carried(rows: DataFrame, pieces: Pieces, keys: list[str]) -> DataFrame:
    """Returns, for each piece of a hot entity, the latest row of the pieces before it."""
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    hot = f.broadcast(pieces.entities.toDF(*keys))
    latest = rows.join(hot, keys, "left_semi").groupBy(*keys, _PIECE).agg(f.max(_BEST).alias(_BEST))
    numbers = f.sequence(f.lit(0), f.lit(pieces.count - 1))
    every_piece = pieces.entities.toDF(*keys).withColumn(_PIECE, f.explode(numbers))
    before = Window.partitionBy(*keys).orderBy(_PIECE).rowsBetween(Window.unboundedPreceding, -1)
    return (
        every_piece.join(latest, [*keys, _PIECE], "left")
        .withColumn(_BEST, f.max(_BEST).over(before))
        .where(f.col(_BEST).isNotNull())
        # It comes before all rows of its piece, whatever their time.
        .withColumn(_TIME, f.col(_BEST).getField(EVENT_TIMESTAMP))
        .select(*rows.columns)
    )
