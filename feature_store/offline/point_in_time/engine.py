"""What an engine of point-in-time reads is given, and what it owes.

The rule has three parts. Which row is the latest is the engine's: it is where the time goes. Time to live, nulls
and the shape of the answer are shared, in `join`, so that engines cannot differ in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import polars as pl

from feature_store.catalog import Group, Selection
from feature_store.offline.layout import PartitionFile
from feature_store.partitions import Window


@dataclass(frozen=True, slots=True)
class GroupHistory:
    """The part of a group's history that a read can depend on.

    Attributes:
        group: The group.
        selections: What was asked for of this group.
        columns: Feature columns to return: each has at least one selection, and at least one file has it.
        complete: Whether every file has every one of `columns`; where a file lacks one, its rows are null there.
        files: The files, sorted by date and name; never empty.
        span: No row outside of it can be visible to any label.
    """

    group: Group
    selections: tuple[Selection, ...]
    columns: tuple[str, ...]
    complete: bool
    files: tuple[PartitionFile, ...]
    span: Window


class PointInTimeEngine(Protocol):
    """Finds, for each label, the latest row of its entity.

    Attributes:
        name: What settings call it.
    """

    @property
    def name(self) -> str:
        """What settings call it."""
        ...

    def latest(self, labels: pl.DataFrame, history: GroupHistory) -> pl.DataFrame:
        """Returns the latest row of each label's entity, as of the label's time, whether or not it has expired.

        The latest row is the one with the greatest `event_timestamp <= _as_of`; among equals the greatest
        `ingested_at`, then the last file in the order of `history.files`, then the last row in the file.

        Args:
            labels: The group's join keys in their declared dtypes and `_as_of` (UTC, microseconds), no nulls, at
                least one row.
            history: Where to look.

        Returns:
            One row per label row, in order: `event_timestamp` of the row found (UTC, microseconds), null if there is
            none in the span, and `history.columns` as they are stored.
        """
        ...
