"""The Spark engine: point-in-time reads whose history is too large for one machine.

Labels come from this process and the answer returns to it; for labels that do not fit here, see `training_sets`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import polars as pl

from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.offline.point_in_time.duckdb_asof import SelectedRows
from feature_store.offline.point_in_time.engine import GroupHistory, Progress, WindowHistory
from feature_store.offline.point_in_time.labels import EntityLabels
from feature_store.rows.polars_schema import polars_type
from feature_store.spark.frames import columns_of, read_history, shuffle_tasks
from feature_store.spark.hot_entities import ROWS_PER_TASK, find_pieces
from feature_store.spark.latest_rows import AS_OF, FOUND, Question, with_latest_rows
from feature_store.spark.session import spark_session
from feature_store.spark.windows import with_windows

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from feature_store.storage.location import Location

_LABEL_ROW = "_label_row"


class SparkEngine:
    """Finds latest rows by a window over the union of labels and history.

    Args:
        session: Returns the Spark session to work on; by default the one that runs, or a new one.
        conf: Settings of a new one; see `session.spark_session`.
        rows_per_task: Rows of one entity that a task gets at most; entities with more are cut by time.
    """

    name = "spark"

    def __init__(
        self,
        session: Callable[[], SparkSession] | None = None,
        *,
        conf: str | None = None,
        rows_per_task: int = ROWS_PER_TASK,
    ) -> None:
        self._session = session
        self._conf = conf
        self._rows_per_task = rows_per_task

    def open_session(self, places: Iterable[Location]) -> SparkSession:
        """Returns the Spark session to work on; see `session.spark_session`."""
        return self._session() if self._session else spark_session(places, conf=self._conf)

    def latest(self, labels: EntityLabels, history: GroupHistory, progress: Progress | None = None) -> SelectedRows:
        """Returns the latest row of each label's entity; see `PointInTimeEngine.latest`.

        Raises:
            SettingsError: If pyspark is not installed.
            FeatureStoreError: If Spark would pass over a file.
        """
        session, frame = self._opened(labels, history)
        keys = tuple(columns_of(labels.keys.columns))
        answer = latest_rows(session, frame, keys, labels.as_of.len(), history, rows_per_task=self._rows_per_task)
        columns = (EVENT_TIMESTAMP, *history.columns)
        found = pl.DataFrame(answer.select(_LABEL_ROW, *(f"{FOUND}.`{column}`" for column in columns)).toArrow()).sort(
            _LABEL_ROW
        )
        if progress is not None:
            progress(history.group.name, 1.0)
        return SelectedRows(found.drop(_LABEL_ROW))

    def windows(
        self, labels: EntityLabels, history: WindowHistory, progress: Progress | None = None
    ) -> Sequence[pl.Series]:
        """Returns the value of each window for each label; see `PointInTimeEngine.windows`.

        Raises:
            SettingsError: If pyspark is not installed.
            FeatureStoreError: If Spark would pass over a file.
        """
        session, frame = self._opened(labels, history)
        names = [f"_window_{number}" for number in range(len(history.windows))]
        keys = tuple(columns_of(labels.keys.columns))
        answer = with_windows(session, frame, keys, history, names, history.windows)
        found = pl.DataFrame(answer.select(_LABEL_ROW, *names).toArrow()).sort(_LABEL_ROW)
        if progress is not None:
            progress(history.group.name, 1.0)
        return [
            found[name].cast(polars_type(window.dtype)) for name, window in zip(names, history.windows, strict=True)
        ]

    def _opened(self, labels: EntityLabels, history: GroupHistory | WindowHistory) -> tuple[SparkSession, DataFrame]:
        """Returns the session, and the labels on it with their numbers."""
        session = self.open_session([file.path for file in history.files])
        numbered = labels.keys.with_columns(labels.as_of.alias(AS_OF)).with_row_index(_LABEL_ROW)
        numbered = numbered.with_columns(pl.col(_LABEL_ROW).cast(pl.Int64))
        return session, session.createDataFrame(numbered.to_arrow(compat_level=pl.CompatLevel.oldest()))


def latest_rows(
    session: SparkSession,
    labels: DataFrame,
    label_keys: tuple[Column, ...],
    count: int,
    history: GroupHistory,
    *,
    rows_per_task: int = ROWS_PER_TASK,
    sampled: DataFrame | None = None,
) -> DataFrame:
    """Returns the labels' columns and the latest row of each; see `latest_rows.with_latest_rows`.

    Args:
        session: Where to do it.
        labels: Labels with `_as_of`, UTC.
        label_keys: Their join keys, in the entity's order and declared dtypes.
        count: How many labels there are.
        history: Where to look.
        rows_per_task: Rows of one entity that a task gets at most.
        sampled: The labels' join keys alone, where they can be had for less than the labels.
    """
    session.conf.set("spark.sql.shuffle.partitions", str(shuffle_tasks(session, history)))
    sampled = labels.select(*label_keys) if sampled is None else sampled
    pieces = find_pieces(session, history, sampled, count, rows_per_task=rows_per_task)
    question = Question(
        labels=labels,
        history=read_history(session, history),
        label_keys=label_keys,
        keys=tuple(history.group.entity.join_keys),
        columns=history.columns,
        strict=history.strict,
        pieces=pieces,
    )
    return with_latest_rows(question)
