"""What an engine of point-in-time reads is given, and what it owes.

The rule has three parts. Which row is the latest is the engine's: it is where the time goes. Time to live, nulls
and the shape of the answer are shared, in `join`, so that engines cannot differ in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from feature_store.catalog import RegisteredGroup, Selection
from feature_store.offline.layout import PartitionFile
from feature_store.offline.point_in_time.labels import EntityLabels
from feature_store.partitions import Window as Span
from feature_store.windows.views import Window

Progress = Callable[[str, float], None]
"""Called now and then with a group's name and the share of it that is done, 0 to 1; one call at a time, from any
thread. What it raises ends the read."""


@dataclass(frozen=True, slots=True)
class GroupHistory:
    """The part of a group's history that a read can depend on.

    Attributes:
        group: The group.
        selections: What was asked for of this group.
        columns: Feature columns to return: each has at least one selection, and at least one file has it.
        complete: Whether every file has every one of `columns`; where a file lacks one, its rows are null there.
        files: The files, sorted by date and name; never empty.
        snapshot: The first of the files if it holds, instead of a partition, the latest rows of all dates before its
            own; no label is earlier than that date.
        span: No row outside of it can be visible to any label.
        strict: Whether a row counts for a label only if it was ingested at or before the label's time.
    """

    group: RegisteredGroup
    selections: tuple[Selection, ...]
    columns: tuple[str, ...]
    complete: bool
    files: tuple[PartitionFile, ...]
    snapshot: PartitionFile | None
    span: Span
    strict: bool


@dataclass(frozen=True, slots=True)
class WindowHistory:
    """The part of a windowed group's history that a read can depend on.

    Attributes:
        group: The rows of the group.
        windows: What was asked for.
        columns: Columns of the rows that the windows read, and `other_events`: at least one file has each.
        files: The files, sorted by date and name; never empty.
        span: No event outside of it is in any window of any label.
        inclusive: Whether an event at the instant of a label is seen.
    """

    group: RegisteredGroup
    windows: tuple[Window, ...]
    columns: tuple[str, ...]
    files: tuple[PartitionFile, ...]
    span: Span
    inclusive: bool


@dataclass(frozen=True, slots=True)
class VisibleRows:
    """For which labels the latest row is visible, for columns of one time to live.

    Attributes:
        columns: The columns.
        mask: One boolean per label.
    """

    columns: tuple[str, ...]
    mask: pl.Series


class LatestRows(Protocol):
    """The latest rows of a label frame's entities, found, and perhaps not read yet."""

    @property
    def event_timestamp(self) -> pl.Series:
        """Event time of each label's latest row (UTC, microseconds), null if there is none in the span."""
        ...

    def values(self, visible: Sequence[VisibleRows]) -> Mapping[str, pl.Series]:
        """Returns values of the latest rows, as they are stored; asked for once.

        Args:
            visible: Every column of the history once. A label whose latest row is not visible is null.

        Returns:
            By column, one value per label, in order.
        """
        ...


class PointInTimeEngine(Protocol):
    """Finds, for each label, the latest row of its entity.

    Attributes:
        name: What settings call it.
    """

    @property
    def name(self) -> str:
        """What settings call it."""
        ...

    def latest(self, labels: EntityLabels, history: GroupHistory, progress: Progress | None = None) -> LatestRows:
        """Returns the latest row of each label's entity, as of the label's time, whether or not it has expired.

        The latest row is the one with the greatest `event_timestamp` at or before the label's time; among equals the
        greatest `ingested_at`, then the last file in the order of `history.files`, then the last row in the file. In
        a strict read, rows with an `ingested_at` after the label's time do not exist.

        Args:
            labels: Entities and times, at least one.
            history: Where to look.
            progress: Told how far the read is.
        """
        ...

    def windows(
        self, labels: EntityLabels, history: WindowHistory, progress: Progress | None = None
    ) -> Sequence[pl.Series]:
        """Returns the value of each window for each label, in order; see `feature_store.windows` for what it is.

        Of rows of one entity and event time the one with the greatest `ingested_at` counts, then the last file in the
        order of `history.files`, then the last row in the file.

        Args:
            labels: Entities and times, at least one.
            history: Where to look.
            progress: Told how far the read is.

        Raises:
            WindowOverflowError: If a total is greater than its dtype can hold.
        """
        ...
