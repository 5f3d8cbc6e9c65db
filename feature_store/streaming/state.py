"""State: the events of the look-back, per partition of the topic, in memory, with snapshots on disk.

A snapshot is taken after the transaction that its offsets belong to, so it is never ahead of what Kafka has committed;
what lies between is read again. Bounded by time: what no event in time can need any more goes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import msgspec
import polars as pl

from feature_store.definitions.event_stream import EventStream
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.transform.micro_batch import LAST_ROW, SEQUENCE, Past

EARLIEST = -(2**62)
_METADATA = "feature_store_stream"
_MICROSECOND = timedelta(microseconds=1)


class _Saved(msgspec.Struct):
    offsets: dict[str, int]
    watermark: int
    columns: dict[str, str]
    identity: list[str]
    lookback: int


@dataclass(slots=True)
class PartitionState:
    """What is kept of one partition.

    Attributes:
        group: The feature group.
        stream: The stream that feeds it.
        offsets: Topic to the next offset that is not in the state yet.
        watermark: Greatest event time that was read, microseconds since 1970.
        seeds: Events of before the stream began, from the source's files; None where they have not been asked for.
    """

    group: FeatureGroup
    stream: EventStream
    offsets: dict[str, int] = field(default_factory=dict)
    watermark: int = EARLIEST
    seeds: pl.DataFrame | None = None
    _segments: list[pl.DataFrame] = field(default_factory=list)
    _last_rows: pl.DataFrame | None = None

    @property
    def rows(self) -> int:
        """Events that are held."""
        return sum(segment.height for segment in self._segments) + (self.seeds.height if self.seeds is not None else 0)

    @property
    def size(self) -> int:
        """Bytes of the events that are held, estimated."""
        frames = [*self._segments, *([self.seeds] if self.seeds is not None else [])]
        return int(sum(frame.estimated_size() for frame in frames))

    def too_late(self, micros: pl.Series) -> pl.Series:
        """Tells which of some events, by their times in order of delivery, are later than allowed; moves the watermark.

        Each event is judged by those delivered before it, so that it does not matter how they were cut into batches.
        """
        allowed = self.stream.allowed_lateness // _MICROSECOND
        newest = micros.cum_max().shift(1, fill_value=self.watermark).clip(lower_bound=self.watermark)
        self.watermark = max(self.watermark, int(micros.max()))  # type: ignore[arg-type]
        return micros < newest - allowed

    def without_repeated(self, new: pl.DataFrame) -> tuple[pl.DataFrame, Past]:
        """Returns the new events that were not delivered before, and the past of their entities.

        Args:
            new: Events with `_sequence`, in order of delivery.
        """
        keys = list(self.group.entity.join_keys)
        identity = list(self.stream.identity or self.stream.columns)
        new = new.unique(identity, keep="first", maintain_order=True)
        entities = new.select(keys).unique()
        begin = None
        if EVENT_TIMESTAMP in identity:
            begin = new[EVENT_TIMESTAMP].min() - self.group.lookback  # type: ignore[operator]
        segments = [
            segment.join(entities, on=keys, how="semi")
            for segment in self._segments
            if begin is None or segment[EVENT_TIMESTAMP].max() >= begin  # type: ignore[operator]
        ]
        events = pl.concat([new.drop(SEQUENCE).clear(), *segments])
        if events.height:
            new = new.join(events, on=identity, how="anti", nulls_equal=True)
        last_rows = self._last_rows
        if last_rows is None:
            last_rows = new.select(*keys, pl.col(EVENT_TIMESTAMP).alias(LAST_ROW)).clear()
        seeds = None
        if self.seeds is not None and self.seeds.height:
            seeds = self.seeds.join(entities, on=keys, how="semi")
        return new, Past(events, last_rows.join(entities, on=keys, how="semi"), seeds)

    @property
    def complete_from(self) -> int:
        """From when on the events that are held tell all of a row (microseconds since 1970)."""
        return self.watermark - self.stream.allowed_lateness // _MICROSECOND

    def events_of(self, entities: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
        """Returns all events of some entities that are held, and the new ones.

        Args:
            entities: Join keys.
            new: Events that are not held yet.
        """
        parts = [new, *self._segments]
        if self.seeds is not None and self.seeds.height:
            held = pl.concat(parts)
            parts.append(self.seeds.join(held, on=held.columns, how="anti", nulls_equal=True))
        return pl.concat([part.join(entities, on=entities.columns, how="semi") for part in parts])

    def add(self, accepted: pl.DataFrame, last_rows: pl.DataFrame) -> None:
        """Adds accepted events, and remembers how far the rows of their entities go.

        Args:
            accepted: Events of this partition.
            last_rows: As `MicroBatchRows.last_rows`; entities of other partitions are passed over.
        """
        if accepted.is_empty():
            return
        keys = list(self.group.entity.join_keys)
        self._segments.append(accepted)
        # Sizes stay powers apart: few segments to look through, few copies.
        while len(self._segments) > 1 and self._segments[-1].height * 2 > self._segments[-2].height:
            tail = self._segments.pop()
            self._segments[-1] = pl.concat([self._segments[-1], tail], rechunk=True)
        latest = last_rows.join(accepted, on=keys, how="semi")
        if self._last_rows is not None:
            latest = pl.concat([self._last_rows, latest]).group_by(keys).agg(pl.col(LAST_ROW).max())
        self._last_rows = latest

    def prune(self) -> None:
        """Drops what no event that comes in time can need any more."""
        horizon = self.watermark - (self.stream.allowed_lateness + self.group.lookback) // _MICROSECOND
        recent = pl.col(EVENT_TIMESTAMP).to_physical() >= horizon
        self._segments = [kept for segment in self._segments if (kept := segment.filter(recent)).height]
        if self.seeds is not None:
            self.seeds = self.seeds.filter(recent)
        if self._last_rows is not None:
            self._last_rows = self._last_rows.filter(pl.col(LAST_ROW).to_physical() >= horizon)

    def save(self, path: Path) -> None:
        """Writes a snapshot in one step."""
        self.prune()
        events = pl.concat(self._segments) if self._segments else pl.DataFrame(schema=self.stream.columns)
        seeds = self.seeds if self.seeds is not None else events.clear()
        both = pl.concat([events.with_columns(_seed=pl.lit(value=False)), seeds.with_columns(_seed=pl.lit(value=True))])
        saved = _Saved(self.offsets, self.watermark, *self._shape())
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as handle:
            metadata = {_METADATA: msgspec.json.encode(saved).decode()}
            both.write_parquet(handle, compression="lz4", metadata=metadata)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)

    def load(self, path: Path) -> bool:
        """Reads a snapshot; tells whether there is one that fits the definitions."""
        try:
            text = pl.read_parquet_metadata(path).get(_METADATA, "")
            saved = msgspec.json.decode(text, type=_Saved)
            if (saved.columns, saved.identity, saved.lookback) != self._shape():
                return False
            both = pl.read_parquet(path)
        except (FileNotFoundError, msgspec.MsgspecError, pl.exceptions.PolarsError):
            return False
        self.offsets = saved.offsets
        self.watermark = saved.watermark
        events = both.filter(~pl.col("_seed")).drop("_seed")
        self._segments = [events] if events.height else []
        seeds = both.filter("_seed").drop("_seed")
        self.seeds = seeds
        return True

    def _shape(self) -> tuple[dict[str, str], list[str], int]:
        columns = {name: str(dtype) for name, dtype in self.stream.columns.items()}
        identity = list(self.stream.identity or self.stream.columns)
        # A longer look-back needs events that a snapshot no longer holds.
        return columns, identity, (self.group.lookback + self.stream.allowed_lateness) // _MICROSECOND
