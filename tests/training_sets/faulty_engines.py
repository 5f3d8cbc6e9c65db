"""Engines of point-in-time reads that make one mistake each, and one that makes none: plain and slow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import polars as pl

from feature_store.offline.point_in_time.engine import GroupHistory, VisibleRows
from feature_store.offline.point_in_time.labels import EntityLabels

Fault = Literal["none", "microsecond", "end of day", "day before", "tie", "expired", "null"]


@dataclass(frozen=True)
class FaultyEngine:
    """Finds the latest rows by looking at all of them, with a fault.

    Attributes:
        fault: `microsecond` takes event times for one microsecond earlier than they are, `end of day` reads the whole
            partition of the label's day, `day before` leaves that partition out, `tie` takes the row ingested first,
            `expired` knows no time to live, `null` lets an older row stand in for a null.
    """

    fault: Fault = "none"
    name: str = "faulty"

    def latest(self, labels: EntityLabels, history: GroupHistory, progress: object = None) -> FoundRows:
        keys = list(history.group.entity.join_keys)
        rows = pl.concat(
            [
                pl.read_parquet(file.path, hive_partitioning=False).with_columns(_file=number)
                for number, file in enumerate(history.files)
            ],
            how="diagonal",
        ).with_row_index("_position")
        asked = labels.keys.with_columns(labels.as_of.alias("_as_of")).with_row_index("_label")
        event, as_of = pl.col("event_timestamp"), pl.col("_as_of")
        known = {
            "end of day": event.dt.date() <= as_of.dt.date(),
            "day before": event.dt.date() < as_of.dt.date(),
            "microsecond": event - timedelta(microseconds=1) <= as_of,
        }.get(self.fault, event <= as_of)
        pairs = asked.join(rows, on=keys, how="inner").filter(known)
        if self.fault == "null":
            pairs = pairs.filter(pl.col(history.columns[0]).is_not_null())
        pairs = pairs.sort(
            "event_timestamp",
            "ingested_at",
            "_file",
            "_position",
            descending=[False, self.fault == "tie", False, False],
        )
        found = pairs.group_by("_label", maintain_order=True).last()
        return FoundRows(asked.join(found, on="_label", how="left", maintain_order="left"), self.fault)


@dataclass(frozen=True)
class FoundRows:
    """The rows that an engine has found, one per label."""

    rows: pl.DataFrame
    fault: Fault

    @property
    def event_timestamp(self) -> pl.Series:
        if self.fault == "expired":
            return self.rows.select(pl.when(pl.col("event_timestamp").is_not_null()).then("_as_of")).to_series()
        return self.rows["event_timestamp"]

    def values(self, visible: Sequence[VisibleRows]) -> Mapping[str, pl.Series]:
        return {
            column: self.rows[column].zip_with(group.mask, pl.Series([None], dtype=self.rows[column].dtype))
            for group in visible
            for column in group.columns
        }
