"""State: the events of the look-back and the allowed lateness, in memory.

What a partition of the topic has delivered lies in a lane of its own, so that it goes where the partition goes. What
the source's files hold of before is shared by all. Bounded by time: what no event in time can need any more goes when
segments are merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import polars as pl

from feature_store.definitions.event_stream import EventStream
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.streaming.keyed_log import KeyedLog, Segment
from feature_store.transform.bad_events import GONE, SEQUENCE
from feature_store.transform.micro_batch import LAST_ROW, Past

EARLIEST = -(2**62)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True)
class Lane:
    """What one partition has delivered.

    Attributes:
        events: Its events with `_gone`: a later one of the same identity takes the place of an earlier one.
        last_rows: Join keys and `_last_row`: the latest event time of a row that was emitted for an entity; entities
            of which it is not known are absent.
        offsets: Topic to the next offset that is not in the state yet.
        watermark: Greatest event time that was read and is not in the store's future, microseconds since 1970.
        seeded_from: From when on the source's files tell what was before the lane; None before its first event.
        seeded_until: Up to when they may.
        unseen: Days of these that had not landed when the lane began.
        is_checked: Whether it is known which days have not.
    """

    events: KeyedLog
    last_rows: KeyedLog
    offsets: dict[str, int] = field(default_factory=dict)
    watermark: int = EARLIEST
    seeded_from: int | None = None
    seeded_until: int = EARLIEST
    unseen: list[date] = field(default_factory=list)
    is_checked: bool = False

    def too_late(self, micros: pl.Series, allowed: timedelta, now: int) -> pl.Series:
        """Tells which of some events, by their times in order of delivery, are later than allowed; moves the watermark.

        Each event is judged by those delivered before it, so that it does not matter how they were cut into batches.

        Args:
            micros: Microseconds since 1970.
            allowed: How late an event may be.
            now: The store's present: an event from a fast clock makes none late that is not late by it.
        """
        told = micros.clip(upper_bound=now)
        newest = told.cum_max().shift(1, fill_value=self.watermark).clip(lower_bound=self.watermark)
        self.watermark = max(self.watermark, int(told.max()))  # type: ignore[arg-type]
        return micros < newest - allowed // _MICROSECOND


class GroupState:
    """What a streamer knows of the past of its group's entities.

    Args:
        group: The feature group.
        stream: The stream that feeds it.

    Attributes:
        span: Microseconds that an event counts for: the look-back and the allowed lateness.
        lanes: Partition to what it has delivered.
        seeds: Events of the source's files.
        seeded: The span that these are of; None for none.
    """

    def __init__(self, group: FeatureGroup, stream: EventStream) -> None:
        self._group = group
        self._stream = stream
        self._keys = list(group.entity.join_keys)
        self._identity = list(stream.event_identity)
        if stream.envelope is not None:
            # A change may move an event in time, or from one entity to another: it goes here, and comes there.
            self._identity = list(dict.fromkeys([*self._keys, *stream.identity]))
        self.span = (stream.allowed_lateness + group.lookback) // _MICROSECOND
        self.lanes: dict[int, Lane] = {}
        self.seeds = KeyedLog(self._keys)
        self.seeded: tuple[int, int] | None = None

    @property
    def rows(self) -> int:
        """Events that are held."""
        return self.seeds.height + sum(lane.events.height for lane in self.lanes.values())

    @property
    def size(self) -> int:
        """Bytes that are held, estimated."""
        lanes = self.lanes.values()
        return self.seeds.size + sum(lane.events.size + lane.last_rows.size for lane in lanes)

    def new_lane(self) -> Lane:
        """Returns an empty lane."""
        lane = Lane(KeyedLog(self._keys), KeyedLog(self._keys, self._latest))
        lane.events.merge = lambda rows: self._recent(rows, lane)
        return lane

    def without_repeated(self, number: int, new: pl.DataFrame) -> tuple[pl.DataFrame, Past]:
        """Returns the events of a partition that change something, and the past of their entities.

        Args:
            number: The partition.
            new: Events with `_sequence` and `_gone`, in order of delivery.
        """
        entities = new.select(self._keys).unique()
        nothing = pl.DataFrame(schema=self._stream.columns)
        last_rows = new.select(*self._keys, pl.col(EVENT_TIMESTAMP).alias(LAST_ROW)).clear()
        last_rows = self._latest(pl.concat([last_rows, *self.lanes[number].last_rows.of(entities)]))
        if self._stream.envelope is not None:
            held = self.events_of(number, entities)
            new, removed = self._changing(new, held)
            return new, Past(held, last_rows, removed)
        new = new.unique(self._identity, keep="first", maintain_order=True)
        begin = None
        first = new[EVENT_TIMESTAMP].min()
        if EVENT_TIMESTAMP in self._identity and isinstance(first, datetime):
            begin = first - self._group.lookback
        parts = self.lanes[number].events.of(entities)
        delivered = self._standing(parts, begin)
        if delivered.height:
            new = new.join(delivered, on=self._identity, how="anti", nulls_equal=True, maintain_order="left")
        seeds = self._seeds_beside(entities, [*parts, new], begin)
        return new, Past(pl.concat([nothing, seeds, delivered]), last_rows)

    def _changing(self, new: pl.DataFrame, held: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Returns changes that change something, the last of each event, and the events that they remove or replace."""
        new = new.unique(self._identity, keep="last", maintain_order=True)
        same = held.with_columns(pl.lit(value=False).alias(GONE))
        new = new.join(same, on=same.columns, how="anti", nulls_equal=True, maintain_order="left")
        removed = held.join(new.select(*self._identity, SEQUENCE), on=self._identity, how="inner", nulls_equal=True)
        is_void = pl.col(GONE) & ~pl.col(SEQUENCE).is_in(removed[SEQUENCE].to_list())
        return new.filter(~is_void), removed

    def complete_from(self, number: int) -> int:
        """From when on the events that are held of a partition tell all of a row (microseconds since 1970)."""
        return self.lanes[number].watermark - self._stream.allowed_lateness // _MICROSECOND

    def events_of(self, number: int, entities: pl.DataFrame, new: pl.DataFrame | None = None) -> pl.DataFrame:
        """Returns all events of some entities that are held, and new ones.

        Args:
            number: The partition of the entities.
            entities: Join keys.
            new: Events with `_gone` that are not held yet.
        """
        parts = self.lanes[number].events.of(entities)
        if new is not None:
            parts.append(new.join(entities, on=self._keys, how="semi"))
        seeds = self._seeds_beside(entities, parts, None)
        return pl.concat([seeds, self._standing(parts, None)])

    def add(self, number: int, accepted: pl.DataFrame, last_rows: pl.DataFrame) -> None:
        """Adds accepted events, and remembers how far the rows of their entities go.

        Args:
            number: Their partition.
            accepted: Events with `_gone`.
            last_rows: As `MicroBatchRows.last_rows`; entities of other partitions are passed over.
        """
        if accepted.is_empty():
            return
        lane = self.lanes[number]
        lane.events.add(accepted)
        lane.last_rows.add(last_rows.join(accepted, on=self._keys, how="semi"))

    def seed(self, span: tuple[int, int] | None, events: pl.DataFrame) -> None:
        """Takes the events of the source's files of a span, in place of those that it had."""
        self.seeded = span
        self.seeds.segments = [Segment.of(events, self._keys)] if events.height else []

    def seeds_needed(self) -> tuple[int, int] | None:
        """Returns from and until when events of files can still count, None where none can."""
        needing = [
            lane
            for lane in self.lanes.values()
            if lane.seeded_from is not None and lane.watermark - self.span <= lane.seeded_until
        ]
        if not needing or not self._group.lookback:
            return None
        begin = min(lane.seeded_from for lane in needing if lane.seeded_from is not None)
        return max(begin, min(lane.watermark for lane in needing) - self.span), max(
            lane.seeded_until for lane in needing
        )

    def begin_lane(self, number: int, micros: pl.Series) -> None:
        """Notes what the files are asked for, given the times of the first events of a partition.

        The first of them may be late: what was delivered before them, and is in the topic no longer, may be newer.
        """
        lane = self.lanes[number]
        first, last = int(micros.min()), int(micros.max())  # type: ignore[arg-type]
        lane.seeded_from = first - self.span
        lane.seeded_until = last + self._stream.allowed_lateness // _MICROSECOND

    def shape(self) -> Mapping[str, object]:
        """Returns what a snapshot must have been taken under to be of use."""
        columns = {name: str(dtype) for name, dtype in self._stream.columns.items()}
        # A longer look-back needs events that a snapshot no longer holds.
        return {"columns": columns, "identity": self._identity, "span": self.span}

    def _standing(self, parts: list[pl.DataFrame], begin: datetime | None) -> pl.DataFrame:
        """Returns the events that some parts of a log come to: the last one of each identity, unless it is gone."""
        if not parts:
            return pl.DataFrame(schema=self._stream.columns)
        events = pl.concat(parts, how="diagonal")
        if begin is not None:
            events = events.filter(pl.col(EVENT_TIMESTAMP) >= begin)
        events = events.unique(self._identity, keep="last", maintain_order=True)
        if GONE in events.columns:
            events = events.filter(~pl.col(GONE)).drop(GONE)
        return events.select(list(self._stream.columns))

    def _seeds_beside(
        self, entities: pl.DataFrame, delivered: list[pl.DataFrame], begin: datetime | None
    ) -> pl.DataFrame:
        """Returns events of files that the stream has not delivered: what it delivers too counts as delivered."""
        seeds = self._standing(self.seeds.of(entities), begin)
        for part in delivered:
            seeds = seeds.join(part, on=self._identity, how="anti", nulls_equal=True)
        return seeds

    def _recent(self, events: pl.DataFrame, lane: Lane) -> pl.DataFrame:
        return events.filter(pl.col(EVENT_TIMESTAMP).to_physical() >= lane.watermark - self.span)

    def _latest(self, last_rows: pl.DataFrame) -> pl.DataFrame:
        return last_rows.group_by(self._keys).agg(pl.col(LAST_ROW).max())
