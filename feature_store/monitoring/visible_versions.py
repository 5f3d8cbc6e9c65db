"""What a reader could be served at an instant: by all versions of an entity's rows, and by when they came online.

A row's ingestion time is given before its write begins; it is online when the write has ended. In between, readers are
right to get the row before it. So each version of a row has a time from which it *may* be seen, and one from which it
*must* be; the same holds of its end, when it is replaced or withdrawn. The rule of visibility is applied to all that
may have been online.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.clock import Clock, to_micros
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.frames import TIMESTAMP_TYPE, entity_id_expression, without_nan
from feature_store.offline.superseded import SUPERSEDED_AT
from feature_store.offline.unfinished import under_way
from feature_store.online.deliveries import SHORTEST, Delivery
from feature_store.rows.polars_schema import python_rows
from feature_store.rows.schema import RowSchema

if TYPE_CHECKING:
    from datetime import datetime

    from feature_store.offline.store import OfflineStore
    from feature_store.online.store import OnlineStore
    from feature_store.partitions import Window

READ = timedelta(seconds=2)
"""An answer is dated after it was read: what was right so shortly before was right."""

STREAMED = timedelta(minutes=15)
"""A row of a stream is online so long after its ingestion time at the latest: a streamer may have to repeat it."""

PROMOTED = timedelta(minutes=1)
"""A row that lay ahead of the clock is online so long after its event at the latest."""

EARLY = timedelta(minutes=5)
"""An ingestion time may lie so far ahead: of two contents the one that is given later gets the later time, whatever the
clocks of the writers say."""

_NEVER = 2**62


class Version(NamedTuple):
    """One version of one row; times in microseconds since 1970.

    Attributes:
        event: Event time.
        ingested: Ingestion time.
        superseded: When it was replaced or withdrawn; None if it holds.
        values: Value by column.
    """

    event: int
    ingested: int
    superseded: int | None
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OnlineTimes:
    """From when on rows of a group must have been online.

    Attributes:
        deliveries: Its long writes, those that are under way among them.
        streamed: Whether streams write it.
        drained: Up to when all rows of streams are in the offline store, microseconds since 1970; None if none are.
        read: Time between a read and the date of its answer, microseconds; 0 under a clock that stands still.
        short: How long a write may take that was not noted, likewise.
    """

    deliveries: Sequence[Delivery]
    streamed: bool
    drained: int | None
    read: int
    short: int

    @classmethod
    def of(
        cls, group: RegisteredGroup, since: datetime, offline: OfflineStore, online: OnlineStore, clock: Clock
    ) -> OnlineTimes:
        """Returns what is known of a group since an instant.

        Raises:
            OnlineStoreError: If the online store does not answer.
        """
        # First what runs: what ends meanwhile is noted before its mark goes.
        marks = under_way(offline.root, group.name)
        running = [Delivery(to_micros(mark.began), _NEVER, everything=not mark.days) for mark in marks]
        state = online.ingestion.state(group.name)
        noted = online.deliveries.since(group.name, since)
        drained = None if state.drained is None else to_micros(state.drained)
        read, short = (_micros(READ), _micros(SHORTEST)) if clock.is_live else (0, 0)
        return cls([*running, *noted], state.streamed, drained, read, short)

    def due(self, ingested: int) -> int:
        """Returns when what was ingested at a time was online for all readers, at the latest."""
        # Ingestion times of streamers are odd, those of all others even.
        slack = _micros(STREAMED) if self.streamed and ingested % 2 else self.short
        # What was served at the very end may have been read before it.
        ends = [each.ended + 1 for each in self.deliveries if each.began <= ingested <= each.ended]
        return max(ingested + slack, *ends) + self.read if ends else ingested + slack + self.read

    def is_refilled(self, at: int) -> bool:
        """Tells whether rows of any ingestion time were still to come online at an instant."""
        return any(each.everything and each.began <= at and at - self.read <= each.ended for each in self.deliveries)

    def may_be_undrained(self, at: int) -> bool:
        """Tells whether what was served then may stand in the rows of a stream that are not drained."""
        return self.streamed and (self.drained is None or at > self.drained - self.read)


class VisibleVersions:
    """The versions of some entities' rows.

    Args:
        group: The group.
        entity_ids: The entities.
        window: The events that count.
        offline: Holds them.
        times: When they came online.
    """

    def __init__(
        self,
        group: RegisteredGroup,
        entity_ids: Iterable[str],
        window: Window,
        offline: OfflineStore,
        times: OnlineTimes,
    ) -> None:
        self._times = times
        wanted = pl.Series(ENTITY_ID, list(entity_ids), dtype=pl.String)
        entity_id = entity_id_expression(group.entity)
        present = offline.scan(group, window).with_columns(entity_id).filter(pl.col(ENTITY_ID).is_in(wanted.implode()))
        former = offline.superseded(group, window).with_columns(entity_id)
        former = former.filter(pl.col(ENTITY_ID).is_in(wanted.implode()))
        columns = [feature.ref.column for feature in group.features]
        times_of = [EVENT_TIMESTAMP, INGESTED_AT, SUPERSEDED_AT]
        rows = pl.concat(
            [
                part.select(ENTITY_ID, *times_of, *columns)
                for part in (
                    present.with_columns(pl.lit(None, dtype=TIMESTAMP_TYPE).alias(SUPERSEDED_AT)).collect(),
                    former,
                )
            ]
        )
        rows = rows.with_columns(
            *(without_nan(rows[column]) for column in columns), *(rows[name].to_physical() for name in times_of)
        ).sort(EVENT_TIMESTAMP, INGESTED_AT, descending=True)
        self._versions: dict[str, list[Version]] = {}
        for values in python_rows(rows, RowSchema.of(group).features):
            event, ingested, superseded = (values.pop(name) for name in times_of)
            version = Version(event, ingested, superseded, values)
            self._versions.setdefault(values[ENTITY_ID], []).append(version)

    def could_answer(self, entity_id: str, column: str, ttl: int, at: int, served: Any) -> bool:
        """Tells whether a value could be served at an instant.

        Args:
            entity_id: The entity.
            column: Column of the feature.
            ttl: The time to live that the reader went by, microseconds.
            at: The instant, microseconds since 1970.
            served: The value.
        """
        if served is None and self._times.is_refilled(at):
            return True
        known = (each for each in self._versions.get(entity_id, ()) if each.event <= at)
        for _, row in groupby(known, key=lambda version: version.event):
            versions = [each for each in row if each.ingested <= at + _micros(EARLY)]
            if any(self._could_be(version, column, ttl, at, served) for version in versions):
                return True
            if any(self._must_be_online(version, versions, at) for version in versions):
                # No older row can have been seen.
                return False
        return served is None

    def _could_be(self, version: Version, column: str, ttl: int, at: int, served: Any) -> bool:
        if version.superseded is not None and at > self._times.due(version.superseded):
            return False
        age = at - version.event
        return (age - self._times.read < ttl and version.values[column] == served) or (age >= ttl and served is None)

    def _must_be_online(self, version: Version, versions: Sequence[Version], at: int) -> bool:
        """Tells whether a row must have been online, in this version or in one that took its place."""
        due = self._times.due(version.ingested)
        if version.event > version.ingested and self._times.read:
            due = max(due, version.event + _micros(PROMOTED))
        if at < max(due, version.event + self._times.read):
            return False
        if version.superseded is None or at < version.superseded:
            return True
        # What replaced it has come in its place; where it was withdrawn, nothing has.
        return any(other.ingested >= version.superseded for other in versions)


def _micros(length: timedelta) -> int:
    return length // timedelta(microseconds=1)
